//! A program run inside a replica, over an upgraded connection that carries frames both ways ([`sc_api::exec`]).

use std::{io, sync::Arc};

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, stream::BoxStream};
use hyper::{
    Response, StatusCode,
    header::{self, HeaderValue},
    upgrade::Upgraded,
};
use hyper_util::rt::TokioIo;
use sc_api::{
    exec::{FromReplica, ManagerEnd, PROTOCOL, ToReplica, pieces},
    types::Exec,
};
use sc_engine::{EngineError, ExecOutput, ExecSession, ExecSpec};
use tokio::{
    io::{AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf},
    sync::watch,
};
use tokio_util::codec::{Encoder, FramedRead};

use super::{Answer, Api, Call, body};
use crate::problem;

type Io = TokioIo<Upgraded>;
type Input = Box<dyn AsyncWrite + Send + Unpin>;

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
    let from_client = FramedRead::new(from_client, ManagerEnd);
    let ExecSession { output, input, size } = session;
    let said = tokio::select! {
        said = speak(&mut to_client, output) => said,
        // The client has gone; the program's input and output close with this.
        gone = listen(from_client, input, size) => gone,
    };
    if let Err(error) = said {
        tracing::debug!(%error, "exec ended early");
    }
    let _ = to_client.shutdown().await;
}

async fn speak(
    to_client: &mut WriteHalf<Io>,
    mut output: BoxStream<'static, Result<ExecOutput, EngineError>>,
) -> io::Result<()> {
    while let Some(said) = output.next().await {
        match said {
            Ok(ExecOutput::Stdout(data)) => send(to_client, data, FromReplica::Stdout).await?,
            Ok(ExecOutput::Stderr(data)) => send(to_client, data, FromReplica::Stderr).await?,
            Ok(ExecOutput::Exit(code)) => return write(to_client, FromReplica::Exit(code)).await,
            Err(error) => return write(to_client, FromReplica::Error(error.to_string())).await,
        }
    }
    write(to_client, FromReplica::Error("the program ended without an exit status".to_owned())).await
}

async fn send(to_client: &mut WriteHalf<Io>, data: Bytes, kind: fn(Bytes) -> FromReplica) -> io::Result<()> {
    for piece in pieces(data) {
        write(to_client, kind(piece)).await?;
    }
    Ok(())
}

async fn write(to_client: &mut WriteHalf<Io>, frame: FromReplica) -> io::Result<()> {
    let mut bytes = BytesMut::new();
    ManagerEnd.encode(frame, &mut bytes)?;
    to_client.write_all(&bytes).await?;
    to_client.flush().await
}

/// Hands the client's input on. Ends when the client leaves.
async fn listen(
    mut from_client: FramedRead<ReadHalf<Io>, ManagerEnd>,
    input: Input,
    size: watch::Sender<(u16, u16)>,
) -> io::Result<()> {
    let mut input = Some(input);
    while let Some(frame) = from_client.next().await {
        match frame? {
            // A program that closed its input does not end the exec.
            ToReplica::Input(data) => {
                if let Some(input) = &mut input {
                    let _ = input.write_all(&data).await;
                    let _ = input.flush().await;
                }
            }
            ToReplica::End => {
                if let Some(mut input) = input.take() {
                    let _ = input.shutdown().await;
                }
            }
            ToReplica::Resize(columns, rows) => drop(size.send_replace((columns, rows))),
        }
    }
    Ok(())
}
