//! Where the interface listens.

use std::{
    fs, io,
    net::SocketAddr,
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::{Path, PathBuf},
};

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

/// One place.
pub enum Listener {
    /// A TCP address.
    Tcp(TcpListener),
    /// A unix socket.
    Unix(UnixListener),
}

/// All places, bound.
pub struct Bound {
    /// The listeners.
    pub listeners: Vec<Listener>,
    /// The TCP addresses, with the ports the system chose where 0 was asked for.
    pub addrs: Vec<SocketAddr>,
    /// The unix socket.
    pub socket: Option<PathBuf>,
}

/// A connection that came in.
pub(super) enum Accepted {
    Tcp(TcpStream),
    /// With whether its peer is root or the manager's own user.
    Unix(UnixStream, bool),
}

/// Why there is no listening.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Somebody else listens there.
    #[error(
        "{place} is taken: another program listens there (`ss -ltnp` shows which). End it, or choose another place with {flag}"
    )]
    Taken {
        /// Where.
        place: String,
        /// The flag that says where.
        flag: &'static str,
    },
    /// Something else.
    #[error("cannot listen on {place}")]
    Failed {
        /// Where.
        place: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Bound {
    /// Binds all places.
    ///
    /// # Errors
    /// When one is taken or cannot be had. Then none is kept.
    pub async fn bind(addrs: &[SocketAddr], socket: Option<&Path>) -> Result<Self, ListenError> {
        let mut bound = Self { listeners: Vec::new(), addrs: Vec::new(), socket: None };
        for addr in addrs {
            let listener = TcpListener::bind(addr).await.map_err(|e| failed(addr.to_string(), "--listen", e))?;
            bound.addrs.push(listener.local_addr().unwrap_or(*addr));
            bound.listeners.push(Listener::Tcp(listener));
        }
        if let Some(path) = socket {
            bound.listeners.push(Listener::Unix(bind_unix(path).await?));
            bound.socket = Some(path.to_owned());
        }
        Ok(bound)
    }
}

async fn bind_unix(path: &Path) -> Result<UnixListener, ListenError> {
    let fail = |error| failed(path.display().to_string(), "--socket", error);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(fail)?;
    }
    if let Ok(there) = fs::symlink_metadata(path) {
        if !there.file_type().is_socket() {
            return Err(fail(io::Error::new(io::ErrorKind::AlreadyExists, "it is a file, and no socket")));
        }
        // One whose manager is dead refuses connections.
        if UnixStream::connect(path).await.is_ok() {
            return Err(fail(io::ErrorKind::AddrInUse.into()));
        }
        fs::remove_file(path).map_err(fail)?;
    }
    let listener = UnixListener::bind(path).map_err(fail)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o660)).map_err(fail)?;
    Ok(listener)
}

fn failed(place: String, flag: &'static str, source: io::Error) -> ListenError {
    match source.kind() {
        io::ErrorKind::AddrInUse => ListenError::Taken { place, flag },
        _ => ListenError::Failed { place, source },
    }
}

impl Listener {
    pub(super) async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Accepted::Tcp(stream))
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                let peer = stream.peer_cred()?.uid();
                let own = rustix::process::geteuid().as_raw();
                Ok(Accepted::Unix(stream, peer == 0 || peer == own))
            }
        }
    }
}
