//! A program run inside a replica, over an upgraded connection: one byte kind, four bytes big-endian length, content.

use std::{io, sync::Arc};

use bytes::Bytes;
use futures_util::StreamExt;
use hyper::{
    Response, StatusCode,
    header::{self, HeaderValue},
    upgrade::Upgraded,
};
use hyper_util::rt::TokioIo;
use sc_api::types::Exec;
use sc_engine::{ExecOutput, ExecSession, ExecSpec};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};

use super::{Answer, Api, Call, body};
use crate::problem;

/// The name of the protocol.
const PROTOCOL: &str = "sc-exec/1";
/// The largest frame from a client, in bytes.
const FRAME_MAX: u32 = 1 << 20;

mod kind {
    pub const INPUT: u8 = 0;
    pub const END: u8 = 1;
    pub const STDOUT: u8 = 1;
    pub const STDERR: u8 = 2;
    pub const EXIT: u8 = 3;
    pub const ERROR: u8 = 4;
}

type Io = TokioIo<Upgraded>;

impl Api {
    pub(super) async fn exec(self: Arc<Self>, mut call: Call) -> Answer {
        let id = call.replica()?;
        let asked = call.request.headers().get(header::UPGRADE).and_then(|value| value.to_str().ok());
        if !asked.is_some_and(|protocol| protocol.eq_ignore_ascii_case(PROTOCOL)) {
            let hint = format!("send `Connection: upgrade` and `Upgrade: {PROTOCOL}`");
            return Err(problem::hinted(426, "upgrade-needed", "An upgrade is needed", "exec needs both ways", hint));
        }
        let desired = self.desired()?;
        if desired.replica(&id).is_none() {
            return Err(problem::no_replica(&desired, &id));
        }
        let upgrade = hyper::upgrade::on(&mut call.request);
        let exec: Exec = body::read(call.request.into_body()).await?;
        if exec.command.first().is_none_or(String::is_empty) {
            return Err(problem::invalid("no program was named", "sc exec APP -- PROGRAM ARGS…"));
        }
        let spec = ExecSpec { command: exec.command, tty: exec.tty };
        let session = self.world.engine.exec(&id, &spec).await.map_err(|error| problem::of_engine(&error))?;
        let room = self.stream()?;
        tokio::spawn(async move {
            let _room = room;
            if let Ok(upgraded) = upgrade.await {
                talk(TokioIo::new(upgraded), session).await;
            }
        });
        let mut response = Response::new(body::text(StatusCode::OK, "text/plain", Bytes::new()).into_body());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        response.headers_mut().insert(header::UPGRADE, HeaderValue::from_static(PROTOCOL));
        Ok(response)
    }
}

/// Carries both ways until the program ends or the client leaves.
async fn talk(io: Io, session: ExecSession) {
    let (from_client, mut to_client) = tokio::io::split(io);
    let ExecSession { output, input } = session;
    let said = tokio::select! {
        said = speak(&mut to_client, output) => said,
        // The client has gone; the program's input and output close with this.
        gone = listen(from_client, input) => gone,
    };
    if let Err(error) = said {
        tracing::debug!(%error, "exec ended early");
    }
    let _ = to_client.shutdown().await;
}

async fn speak(
    to_client: &mut WriteHalf<Io>,
    mut output: futures_util::stream::BoxStream<'static, Result<ExecOutput, sc_engine::EngineError>>,
) -> io::Result<()> {
    while let Some(said) = output.next().await {
        match said {
            Ok(ExecOutput::Stdout(data)) => frame(to_client, kind::STDOUT, &data).await?,
            Ok(ExecOutput::Stderr(data)) => frame(to_client, kind::STDERR, &data).await?,
            Ok(ExecOutput::Exit(code)) => return frame(to_client, kind::EXIT, &code.to_be_bytes()).await,
            Err(error) => return frame(to_client, kind::ERROR, error.to_string().as_bytes()).await,
        }
    }
    frame(to_client, kind::ERROR, b"the program ended without an exit status").await
}

async fn frame(to_client: &mut WriteHalf<Io>, kind: u8, data: &[u8]) -> io::Result<()> {
    let length = u32::try_from(data.len()).map_err(io::Error::other)?;
    to_client.write_u8(kind).await?;
    to_client.write_u32(length).await?;
    to_client.write_all(data).await?;
    to_client.flush().await
}

/// Hands the client's input on. Ends when the client leaves.
async fn listen(mut from_client: ReadHalf<Io>, input: Box<dyn tokio::io::AsyncWrite + Send + Unpin>) -> io::Result<()> {
    let mut input = Some(input);
    loop {
        let kind = from_client.read_u8().await?;
        let length = from_client.read_u32().await?;
        if length > FRAME_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a frame is too large"));
        }
        let mut data = vec![0; length as usize];
        from_client.read_exact(&mut data).await?;
        match (kind, &mut input) {
            (kind::INPUT, Some(input)) => {
                // A program that closed its input does not end the exec.
                let _ = input.write_all(&data).await;
                let _ = input.flush().await;
            }
            (kind::END, _) => {
                if let Some(mut input) = input.take() {
                    let _ = input.shutdown().await;
                }
            }
            _ => {}
        }
    }
}
