//! One program in one replica.

use std::io::{Write, stderr, stdout};

use anyhow::Context as _;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use sc_api::{
    client::{ExecInput, ExecStream},
    exec::{FromReplica, ToReplica, pieces},
};
use tokio::{
    io::AsyncReadExt,
    signal::unix::{SignalKind, signal},
};

use super::{status, terminal};
use crate::exit;

/// Carries input, output and sizes until the program ends; gives its exit status.
pub(super) async fn run(stream: ExecStream, interactive: bool, tty: bool) -> anyhow::Result<u8> {
    let ExecStream { input: mut to, output: mut from } = stream;
    let output = async {
        while let Some(frame) = from.next().await {
            match frame.context("the connection to the program was lost")? {
                FromReplica::Stdout(data) => write(stdout().lock(), &data)?,
                FromReplica::Stderr(data) => write(stderr().lock(), &data)?,
                FromReplica::Exit(code) => return Ok(status(code)),
                FromReplica::Error(why) => return Err(exit::failure(exit::ERROR, why)),
            }
        }
        Err(exit::failure(exit::ERROR, "the connection to the program was lost: what became of it is not known"))
    };
    let input = async {
        // What cannot be passed on any more is of no interest: the output says how it ended.
        let _ = pass_on(&mut to, interactive, tty).await;
        std::future::pending::<()>().await
    };
    tokio::select! {
        code = output => code,
        () = input => unreachable!("input alone never ends a program"),
    }
}

fn write(mut to: impl Write, data: &Bytes) -> std::io::Result<()> {
    to.write_all(data)?;
    to.flush()
}

async fn pass_on(to: &mut ExecInput, interactive: bool, tty: bool) -> std::io::Result<()> {
    let mut resized = signal(SignalKind::window_change())?;
    let mut input = tokio::io::stdin();
    let mut open = interactive;
    let mut buffer = BytesMut::with_capacity(16 * 1024);
    if !interactive {
        to.send(ToReplica::End).await?;
    }
    while open || tty {
        tokio::select! {
            read = input.read_buf(&mut buffer), if open => {
                open = read? > 0;
                for piece in pieces(buffer.split().freeze()) {
                    to.send(ToReplica::Input(piece)).await?;
                }
                if !open {
                    to.send(ToReplica::End).await?;
                }
            }
            _ = resized.recv(), if tty => {
                let (columns, rows) = terminal::size();
                to.send(ToReplica::Resize(columns, rows)).await?;
            }
        }
    }
    Ok(())
}
