//! The same program in every replica of an app.

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, TryStreamExt, stream};
use sc_api::{
    Client,
    exec::{FromReplica, ToReplica},
    types::Exec,
};
use sc_core::{AppId, ReplicaId};

use super::status;
use crate::{
    exit, named,
    out::{self, Paint},
};

/// Replicas at once.
const AT_ONCE: usize = 16;
/// A line longer than this is cut.
const LINE_MAX: usize = 64 * 1024;

/// Runs it everywhere; gives the largest exit status.
pub(super) async fn run(client: &Client, app: &AppId, command: &[String], paint: Paint) -> anyhow::Result<u8> {
    let replicas = named::running(client, app).await?;
    if replicas.is_empty() {
        return Err(exit::failure(exit::NOT_FOUND, format!("{app} has no replica that runs\n  → `sc ps {app}`")));
    }
    let width = replicas.iter().map(|view| view.replica.to_string().len()).max().unwrap_or(0);
    let each = stream::iter(replicas).map(|view| one(client, view.replica, command, width, paint));
    let codes: Vec<u8> = each.buffer_unordered(AT_ONCE).try_collect().await?;
    Ok(codes.into_iter().max().unwrap_or(exit::OK))
}

async fn one(
    client: &Client,
    replica: ReplicaId,
    command: &[String],
    width: usize,
    paint: Paint,
) -> anyhow::Result<u8> {
    let name = paint.name(replica.incarnation, &format!("{:<width$}", replica.to_string()));
    let say = |line: &str| out::print(&format!("{name} | {}\n", out::printable(line)));
    let mut stream = client.exec(&replica, &Exec { command: command.to_vec(), tty: None }).await?;
    let _ = stream.input.send(ToReplica::End).await;
    let mut lines = [BytesMut::new(), BytesMut::new()];
    while let Some(frame) = stream.output.next().await {
        match frame? {
            FromReplica::Stdout(data) => whole_lines(&mut lines[0], data, say)?,
            FromReplica::Stderr(data) => whole_lines(&mut lines[1], data, say)?,
            FromReplica::Error(why) => return say(&why).map(|()| exit::ERROR).map_err(Into::into),
            FromReplica::Exit(code) => {
                for rest in lines.iter().filter(|rest| !rest.is_empty()) {
                    say(&String::from_utf8_lossy(rest))?;
                }
                return Ok(status(code));
            }
        }
    }
    say("the connection was lost").map(|()| exit::ERROR).map_err(Into::into)
}

/// Says the lines that are whole; keeps the rest for later.
fn whole_lines(buffer: &mut BytesMut, data: Bytes, say: impl Fn(&str) -> std::io::Result<()>) -> std::io::Result<()> {
    buffer.extend_from_slice(&data);
    while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
        let line = buffer.split_to(end + 1);
        say(&String::from_utf8_lossy(&line[..end]))?;
    }
    if buffer.len() > LINE_MAX {
        say(&String::from_utf8_lossy(&buffer.split()))?;
    }
    Ok(())
}
