//! Running a program beside a replica: in its folder, with its environment.

use std::{ffi::OsStr, fs::File, io, os::unix::ffi::OsStrExt, path::Path, process::Stdio};

use futures_util::{StreamExt, stream, stream::BoxStream};
use rustix::{
    process::Signal,
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcsetwinsize},
};
use tokio::{
    io::AsyncWrite,
    net::unix::pipe,
    process::{Child, Command},
    sync::watch,
};
use tokio_util::{io::ReaderStream, sync::CancellationToken};

use super::{Shim, identity::Identity, place, state::Meta};
use crate::{EngineError, ExecOutput, ExecSession, ExecSpec, resized_by};

type Output = BoxStream<'static, io::Result<ExecOutput>>;

/// Starts it. It is killed when `stop` is cancelled or the session's output is dropped.
pub(super) fn start(
    shim: &Shim,
    folder: &Path,
    meta: &Meta,
    spec: &ExecSpec,
    stop: CancellationToken,
) -> Result<ExecSession, EngineError> {
    let failed = |e: io::Error| EngineError::Failed { engine: "the process engine".to_owned(), what: e.to_string() };
    let root = folder.join("root");
    let first = spec.command.first().map_or("", String::as_str);
    let search = meta.env.get("PATH").map_or("", String::as_str);
    let program = place::resolve(first, &root, search)
        .map_err(|no| EngineError::refused(no.what, "Name a program that the replica's folder or this host has"))?;
    let mut command = Command::new(&shim.program);
    command.args(&shim.args).args(["enter", if spec.tty.is_some() { "tty" } else { "plain" }]);
    command.arg(program).args(&spec.command[1..]).env_clear().envs(&meta.env).current_dir(&root).kill_on_drop(true);
    let (child, output, input, size) = match spec.tty {
        Some(size) => on_terminal(command, size),
        None => on_pipes(command),
    }
    .map_err(failed)?;
    if let Some(identity) = child.id().and_then(|pid| Identity::of(pid as i32)) {
        let stop = stop.clone();
        tokio::spawn(async move {
            stop.cancelled().await;
            identity.signal_group(Signal::KILL);
        });
    }
    Ok(ExecSession { output: until_exit(child, output, stop), input, size })
}

/// The output, and then the exit status.
fn until_exit(
    mut child: Child,
    output: Output,
    stop: CancellationToken,
) -> BoxStream<'static, Result<ExecOutput, EngineError>> {
    let guard = stop.drop_guard();
    let failed = |e: io::Error| EngineError::Failed { engine: "the process engine".to_owned(), what: e.to_string() };
    let exit = stream::once(async move {
        let status = child.wait().await?;
        drop(guard);
        Ok(ExecOutput::Exit(exit_code(status)))
    });
    output.chain(exit).map(move |item| item.map_err(failed)).boxed()
}

fn exit_code(status: std::process::ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().or(status.signal().map(|signal| 128 + signal)).unwrap_or(255)
}

type Started = (Child, Output, Box<dyn AsyncWrite + Send + Unpin>, watch::Sender<(u16, u16)>);

fn on_pipes(mut command: Command) -> io::Result<Started> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let gone = || io::Error::other("no pipe");
    let input = child.stdin.take().ok_or_else(gone)?;
    let out = ReaderStream::new(child.stdout.take().ok_or_else(gone)?).map(|item| item.map(ExecOutput::Stdout));
    let err = ReaderStream::new(child.stderr.take().ok_or_else(gone)?).map(|item| item.map(ExecOutput::Stderr));
    Ok((child, stream::select(out, err).boxed(), Box::new(input), watch::Sender::new((0, 0))))
}

fn on_terminal(mut command: Command, (columns, rows): (u16, u16)) -> io::Result<Started> {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    grantpt(&ours)?;
    unlockpt(&ours)?;
    tcsetwinsize(&ours, winsize(columns, rows))?;
    let name = ptsname(&ours, Vec::new())?;
    let theirs = File::options().read(true).write(true).open(OsStr::from_bytes(name.to_bytes()))?;
    command.env("TERM", "xterm-256color");
    let child = command.stdin(theirs.try_clone()?).stdout(theirs.try_clone()?).stderr(theirs).spawn()?;
    rustix::io::ioctl_fionbio(&ours, true)?;
    let input = pipe::Sender::from_owned_fd_unchecked(ours.try_clone()?)?;
    let terminal = ours.try_clone()?;
    let size = resized_by(move |columns, rows| {
        // The program hears of it by SIGWINCH; one that has ended hears nothing.
        let _ = tcsetwinsize(&terminal, winsize(columns, rows));
        std::future::ready(())
    });
    Ok((child, read_terminal(pipe::Receiver::from_owned_fd_unchecked(ours)?), Box::new(input), size))
}

fn winsize(columns: u16, rows: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}

/// What is written to a terminal. Read by `try_read`, since a short read of a terminal does not mean that it is empty.
fn read_terminal(terminal: pipe::Receiver) -> Output {
    stream::try_unfold(terminal, |terminal| async move {
        let mut piece = vec![0; 16 << 10];
        loop {
            terminal.readable().await?;
            match terminal.try_read(&mut piece) {
                Ok(n) => {
                    piece.truncate(n);
                    return Ok((n > 0).then(|| (ExecOutput::Stdout(piece.into()), terminal)));
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                // So the kernel says that nobody has the other end open any more.
                Err(e) if e.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => return Ok(None),
                Err(e) => return Err(e),
            }
        }
    })
    .boxed()
}
