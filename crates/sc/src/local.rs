//! Files of this machine that go into replicas: found, checked and digested before anything is sent; then uploaded, those
//! that the manager has not.

use std::{
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use futures_util::StreamExt;
use sc_api::Client;
use sc_core::{file::LocalFile, spec::FileSpec};
use sha2::{Digest, Sha256};
use tokio_util::io::ReaderStream;

use crate::{
    exit,
    out::{self, Progress},
};

/// More files than this do not fit into one app's description.
const FILES_MAX: usize = 2_000;
/// Bytes read at a time.
const PIECE: usize = 256 * 1024;

/// A file that was found, and where it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    /// Here.
    pub path: PathBuf,
    /// Its length in bytes.
    pub length: u64,
    /// There.
    pub spec: FileSpec,
}

/// Finds, checks and digests files; folders with all that is in them. `base` is what relative paths start from.
///
/// # Errors
/// When one is missing, cannot be read, or is no file; a program also when it cannot be executed.
pub(crate) fn find(files: &[LocalFile], base: &Path) -> anyhow::Result<Vec<Found>> {
    let mut found = Vec::new();
    for file in files {
        // `./` once, however often it was said.
        let path: PathBuf = base.join(&file.from).components().collect();
        let data = fs::metadata(&path).map_err(|error| unreadable(&path, &error))?;
        // The file that an app runs: with a mode of its own, as `--bin` and `binary` set it.
        let program = file.mode == Some(0o755) && file.to.starts_with("/app/");
        match data.is_dir() {
            true if program => return Err(exit::usage(format!("{} is a folder, not a program", path.display()))),
            true => folder(&path, file.to.trim_end_matches('/'), &mut found)?,
            false => found.push(one(&path, &target(&path, &file.to), file.mode, program)?),
        }
    }
    if found.len() > FILES_MAX {
        let hint = "put them into an image, or into one archive";
        return Err(exit::usage(format!("{} files are too many, {FILES_MAX} the most\n  → {hint}", found.len())));
    }
    Ok(found)
}

fn unreadable(path: &Path, error: &io::Error) -> anyhow::Error {
    let path = path.display();
    match error.kind() {
        io::ErrorKind::NotFound => exit::usage(format!(
            "there is no file {path}\n  → a path is that of this machine, relative to the app file or this folder"
        )),
        _ => exit::failure(exit::ERROR, format!("{path} cannot be read: {error}")),
    }
}

/// A path that ends in a slash is a folder for the file.
fn target(from: &Path, to: &str) -> String {
    match to.strip_suffix('/') {
        Some(folder) => format!("{folder}/{}", from.file_name().unwrap_or_default().to_string_lossy()),
        None => to.to_owned(),
    }
}

fn folder(path: &Path, to: &str, found: &mut Vec<Found>) -> anyhow::Result<()> {
    let mut entries: Vec<PathBuf> = fs::read_dir(path)
        .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect())
        .map_err(|error| unreadable(path, &error))?;
    entries.sort();
    for entry in entries {
        let name = entry.file_name().unwrap_or_default();
        let name = name.to_str().with_context(|| format!("the name of {} is not UTF-8", entry.display()))?;
        let to = format!("{to}/{name}");
        let data = fs::metadata(&entry).map_err(|error| unreadable(&entry, &error))?;
        if found.len() > FILES_MAX {
            return Ok(()); // The caller says that they are too many.
        }
        // A link to a folder could lead in circles.
        let link = fs::symlink_metadata(&entry).is_ok_and(|data| data.is_symlink());
        match data.is_dir() {
            true if link => {
                return Err(exit::usage(format!("{} is a link to a folder: copy that folder itself", entry.display())));
            }
            true => folder(&entry, &to, found)?,
            false => found.push(one(&entry, &to, None, false)?),
        }
    }
    Ok(())
}

fn one(path: &Path, to: &str, mode: Option<u32>, program: bool) -> anyhow::Result<Found> {
    let data = fs::metadata(path).map_err(|error| unreadable(path, &error))?;
    if !data.is_file() {
        return Err(exit::usage(format!("{} is no regular file", path.display())));
    }
    let own = data.permissions().mode() & 0o777;
    if program && own & 0o111 == 0 {
        let path = path.display();
        return Err(exit::usage(format!("{path} is not executable\n  → if it is a program: chmod +x {path}")));
    }
    let (sha256, length) = digest(path).map_err(|error| unreadable(path, &error))?;
    if program && length == 0 {
        return Err(exit::usage(format!("{} is empty, and no program", path.display())));
    }
    Ok(Found {
        path: path.to_owned(),
        length,
        spec: FileSpec { sha256, path: to.to_owned(), mode: mode.unwrap_or(own) },
    })
}

fn digest(path: &Path) -> io::Result<(String, u64)> {
    let (mut file, mut digest, mut length) = (File::open(path)?, Sha256::new(), 0);
    let mut buffer = vec![0; PIECE];
    loop {
        let n = file.read(&mut buffer)?;
        if n == 0 {
            break;
        }
        digest.update(&buffer[..n]);
        length += n as u64;
    }
    Ok((digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect(), length))
}

/// Uploads what the manager has not yet.
///
/// # Errors
/// When a file changed since it was found, or the manager does not take it.
pub(crate) async fn upload(client: &Client, found: &[Found], progress: &mut Progress) -> anyhow::Result<()> {
    for file in found {
        if client.has_blob(&file.spec.sha256).await? {
            continue;
        }
        progress.now(&format!("uploading {} ({})", file.path.display(), out::bytes(file.length)));
        let content = tokio::fs::File::open(&file.path).await.map_err(|error| unreadable(&file.path, &error))?;
        // As long as it was when it was digested, should it have grown.
        let content = tokio::io::AsyncReadExt::take(content, file.length);
        let content = ReaderStream::with_capacity(content, PIECE).boxed();
        let sent = client.put_blob(&file.spec.sha256, file.length, content).await;
        sent.with_context(|| format!("{} could not be uploaded", file.path.display()))?;
    }
    progress.clear();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local(from: &str, to: &str, mode: Option<u32>) -> LocalFile {
        LocalFile { from: from.into(), to: to.into(), mode }
    }

    #[test]
    fn files_and_folders_are_found() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("site/css")).unwrap();
        fs::write(dir.path().join("site/index.html"), "hello").unwrap();
        fs::write(dir.path().join("site/css/a.css"), "").unwrap();
        let found = find(&[local("site", "/www/", None), local("site/index.html", "/etc/", Some(0o600))], dir.path());
        let found: Vec<_> = found.unwrap().into_iter().map(|f| (f.spec.path, f.length, f.spec.sha256)).collect();
        let hello = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
        assert_eq!(found[0].0, "/www/css/a.css");
        assert_eq!((found[1].0.as_str(), found[1].1, found[1].2.as_str()), ("/www/index.html", 5, hello));
        assert_eq!(found[2].0, "/etc/index.html");
    }

    #[test]
    fn what_cannot_run_is_refused_before_anything_is_sent() {
        let dir = tempfile::tempdir().unwrap();
        let refused = |from: &str| find(&[local(from, "/app/x", Some(0o755))], dir.path()).unwrap_err().to_string();
        assert!(refused("none").contains("there is no file"));
        fs::write(dir.path().join("text"), "no program").unwrap();
        fs::set_permissions(dir.path().join("text"), fs::Permissions::from_mode(0o644)).unwrap();
        assert!(refused("text").contains("not executable"));
        fs::write(dir.path().join("empty"), "").unwrap();
        fs::set_permissions(dir.path().join("empty"), fs::Permissions::from_mode(0o755)).unwrap();
        assert!(refused("empty").contains("empty"));
        assert!(refused(".").contains("folder"));
    }
}
