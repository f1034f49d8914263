//! The process as a service: it starts its own successor, and tells systemd which process is the main one now.

use std::{
    io,
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixDatagram},
    },
};

/// Starts this program once more, from its file as it is now, with the same arguments. The new process takes over by itself.
///
/// # Errors
/// When it cannot be started.
pub fn start_successor() -> io::Result<tokio::process::Child> {
    let mut words = std::env::args_os();
    let program = words.next().ok_or_else(|| io::Error::other("the program's name is not known"))?;
    tokio::process::Command::new(program).args(words).spawn()
}

/// Says that this process serves, as sd_notify(3) has it; nothing where no `NOTIFY_SOCKET` is given.
///
/// # Errors
/// When there is a socket, but it does not take the message.
pub fn notify_serving() -> io::Result<()> {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return Ok(()) };
    let addr = match path.to_str().and_then(|path| path.strip_prefix('@')) {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(path)?,
    };
    let text = format!("READY=1\nMAINPID={}", std::process::id());
    UnixDatagram::unbound()?.send_to_addr(text.as_bytes(), &addr).map(drop)
}
