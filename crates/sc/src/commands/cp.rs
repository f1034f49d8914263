//! `sc cp`.

use std::{
    io::{self, Read},
    path::{Component, Path, PathBuf},
    str::FromStr,
};

use anyhow::Context as _;
use bytes::Bytes;
use futures_util::StreamExt;
use sc_api::Client;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::io::{StreamReader, SyncIoBridge};

use crate::{
    exit,
    named::{self, Named},
    session::Session,
};

/// Copy files and folders out of a replica, or into one
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sc cp web/3:/etc/hosts ./hosts
  sc cp ./conf web/3:/etc/app/        into the folder /etc/app
  sc cp ./conf web/3:/etc/app/new     as /etc/app/new")]
pub(crate) struct Args {
    /// A path here, or REPLICA:/path
    from: Side,

    /// A path here, or REPLICA:/path; with a slash at its end a folder to copy into
    to: Side,
}

/// One side of a copy.
#[derive(Debug, Clone)]
enum Side {
    Here(PathBuf),
    There(Named, String),
}

impl FromStr for Side {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            // A path here that holds a colon can be written ./a:b
            Some((name, path)) if !name.is_empty() && !name.starts_with(['.', '/']) => {
                let absolute = path.starts_with('/');
                let path = absolute.then(|| path.to_owned()).ok_or("the path in a replica starts with /")?;
                Ok(Self::There(name.parse()?, path))
            }
            _ if text.is_empty() => Err("the path is empty".to_owned()),
            _ => Ok(Self::Here(text.into())),
        }
    }
}

/// Copies.
pub(crate) async fn run(args: Args, session: &Session) -> anyhow::Result<u8> {
    let client = session.client()?;
    match (args.from, args.to) {
        (Side::There(name, path), Side::Here(to)) => copy_out(&client, &name, &path, &to).await?,
        (Side::Here(from), Side::There(name, path)) => copy_in(&client, &from, &name, &path).await?,
        _ => return Err(exit::usage("one side is here, the other in a replica: sc cp web/3:/path ./here")),
    }
    Ok(exit::OK)
}

async fn copy_out(client: &Client, name: &Named, path: &str, to: &Path) -> anyhow::Result<()> {
    let replica = named::one_replica(client, name.resolve(client).await?).await?;
    // As with cp: into a folder that is there, else as that name.
    let base = path.trim_end_matches('/').rsplit('/').next().filter(|base| !base.is_empty()).unwrap_or("root");
    let target = if to.is_dir() { to.join(base) } else { to.to_owned() };
    let tar = client.copy_out(&replica, path).await?;
    let reader = StreamReader::new(tar.map(|piece| piece.map_err(io::Error::other)).boxed());
    let reader = SyncIoBridge::new(reader);
    let unpacked = tokio::task::spawn_blocking(move || unpack(reader, &target)).await?;
    unpacked.with_context(|| format!("copying {replica}:{path}"))
}

/// Unpacks a tar stream whose first component is renamed to `target`. Nothing leaves `target`.
fn unpack(tar: impl Read, target: &Path) -> anyhow::Result<()> {
    let mut archive = tar::Archive::new(tar);
    let mut any = false;
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        let mut parts = path.components().filter(|part| !matches!(part, Component::CurDir | Component::RootDir));
        parts.next();
        let rest: PathBuf = parts.collect();
        any = true;
        if rest.as_os_str().is_empty() {
            // The root itself: a file becomes `target`, a folder is made.
            match entry.header().entry_type().is_dir() {
                true => std::fs::create_dir_all(target).with_context(|| target.display().to_string())?,
                false => drop(entry.unpack(target).with_context(|| target.display().to_string())?),
            }
            continue;
        }
        let below = rest.components().all(|part| matches!(part, Component::Normal(_)));
        anyhow::ensure!(below, "the replica sent a path that leads elsewhere: {}", path.display());
        std::fs::create_dir_all(target)?;
        place(&mut entry, target, &rest)?;
    }
    anyhow::ensure!(any, "nothing came");
    Ok(())
}

/// Places an entry below `target`, following no link on the way.
fn place(entry: &mut tar::Entry<'_, impl Read>, target: &Path, rest: &Path) -> anyhow::Result<()> {
    let mut folder = target.to_owned();
    for part in rest.parent().unwrap_or(Path::new("")).components() {
        folder.push(part);
        match std::fs::symlink_metadata(&folder) {
            Ok(data) if data.is_dir() => {}
            Ok(_) => anyhow::bail!("{} is in the way", folder.display()),
            Err(_) => std::fs::create_dir(&folder)?,
        }
    }
    let to = target.join(rest);
    if entry.header().entry_type().is_hard_link() {
        anyhow::bail!("{}: hard links are not copied", to.display());
    }
    if entry.header().entry_type().is_dir() {
        std::fs::create_dir_all(&to)?;
        return Ok(());
    }
    entry.unpack(&to).with_context(|| to.display().to_string())?;
    Ok(())
}

async fn copy_in(client: &Client, from: &Path, name: &Named, path: &str) -> anyhow::Result<()> {
    if !from.exists() {
        return Err(exit::usage(format!("there is no {}", from.display())));
    }
    let replica = named::one_replica(client, name.resolve(client).await?).await?;
    let own = from.canonicalize()?.file_name().map(|name| name.to_string_lossy().into_owned());
    let (directory, new_name) = match path.strip_suffix('/') {
        Some(folder) => (folder.to_owned(), own.context("a folder without a name")?),
        None => {
            let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
            (folder.to_owned(), name.to_owned())
        }
    };
    let directory = if directory.is_empty() { "/".to_owned() } else { directory };
    let (send, pieces) = mpsc::channel::<io::Result<Bytes>>(8);
    let source = from.to_owned();
    let packing = tokio::task::spawn_blocking(move || {
        if let Err(error) = pack(&source, &new_name, Pieces(send.clone())) {
            let _ = send.blocking_send(Err(error));
        }
    });
    let sent = client.copy_in(&replica, &directory, ReceiverStream::new(pieces)).await;
    packing.await?;
    sent.with_context(|| format!("copying {} to {replica}:{path}", from.display()))
}

fn pack(from: &Path, name: &str, to: Pieces) -> io::Result<()> {
    let mut tar = tar::Builder::new(io::BufWriter::with_capacity(64 * 1024, to));
    tar.follow_symlinks(false);
    if from.is_dir() {
        tar.append_dir_all(name, from)?;
    } else {
        tar.append_path_with_name(from.canonicalize()?, name)?;
    }
    tar.into_inner()?.into_inner().map_err(io::IntoInnerError::into_error).map(drop)
}

/// A writer whose pieces go to an async stream.
struct Pieces(mpsc::Sender<io::Result<Bytes>>);

impl io::Write for Pieces {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let gone = |_| io::Error::new(io::ErrorKind::BrokenPipe, "the upload has ended");
        self.0.blocking_send(Ok(Bytes::copy_from_slice(data))).map_err(gone)?;
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(entries: &[(&str, &str)]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (path, content) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            // Written by hand: the builder would refuse a path that leads elsewhere.
            header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
            header.set_cksum();
            tar.append(&header, content.as_bytes()).unwrap();
        }
        tar.into_inner().unwrap()
    }

    #[test]
    fn a_file_and_a_folder_are_renamed() {
        let dir = tempfile::tempdir().unwrap();
        unpack(&archive(&[("hosts", "a")])[..], &dir.path().join("mine")).unwrap();
        assert_eq!(std::fs::read_to_string(dir.path().join("mine")).unwrap(), "a");
        unpack(&archive(&[("etc/x/y", "b"), ("etc/z", "c")])[..], &dir.path().join("conf")).unwrap();
        assert_eq!(std::fs::read_to_string(dir.path().join("conf/x/y")).unwrap(), "b");
        assert_eq!(std::fs::read_to_string(dir.path().join("conf/z")).unwrap(), "c");
    }

    #[test]
    fn a_hostile_replica_writes_nowhere_else() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("in");
        assert!(unpack(&archive(&[("x/../../out", "a")])[..], &target).is_err());
        assert!(!dir.path().join("out").exists());
        std::fs::create_dir_all(&target).unwrap();
        std::os::unix::fs::symlink(dir.path(), target.join("link")).unwrap();
        assert!(unpack(&archive(&[("x/link/out", "a")])[..], &target).is_err());
        assert!(!dir.path().join("out").exists());
        assert!(unpack(&archive(&[])[..], &target).is_err());
    }

    #[test]
    fn sides() {
        assert!(matches!("web/3:/etc".parse(), Ok(Side::There(_, path)) if path == "/etc"));
        assert!(matches!("./a:b".parse(), Ok(Side::Here(_))));
        assert!("web:etc".parse::<Side>().is_err());
    }
}
