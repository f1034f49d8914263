//! Certificates from a folder: `NAME.crt` or `NAME.pem` with `NAME.key`. The pair named `default` is for names that no other
//! has. The folder is looked at once a second; a change is taken whole or not at all.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::{
    TlsError,
    certs::{self, Certs},
    shelf::{Placed, Shelf},
};

/// How often the folder is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// The most files that are read.
const FILES_MAX: usize = 20_000;

/// A watched folder and what was read from it last.
pub(crate) struct Folder {
    path: PathBuf,
    shelf: Arc<Shelf>,
    seen: Vec<Stamp>,
}

type Stamp = (PathBuf, Option<SystemTime>, u64);

impl Folder {
    /// Reads a folder for the first time. An empty one is fine.
    pub(super) fn open(path: &Path, shelf: Arc<Shelf>) -> Result<Self, TlsError> {
        let seen = stamps(path)?;
        shelf.put_folder(load(&seen)?);
        Ok(Self { path: path.to_owned(), shelf, seen })
    }

    /// Follows the folder until it is aborted.
    pub(crate) async fn watch(mut self) {
        loop {
            tokio::time::sleep(LOOK).await;
            if let Err(error) = self.look() {
                let error = crate::start::chain(&error);
                tracing::error!(error, "the certificates that were good before serve on");
            }
        }
    }

    fn look(&mut self) -> Result<(), TlsError> {
        let stamps = stamps(&self.path)?;
        if stamps == self.seen {
            return Ok(());
        }
        self.seen = stamps;
        let certs = load(&self.seen)?;
        if certs.is_empty() {
            let (path, what) = (self.path.clone(), "there is no certificate in it any more".to_owned());
            return Err(TlsError::Content { path, what });
        }
        tracing::info!(folder = %self.path.display(), files = certs.len(), "new certificates");
        self.shelf.put_folder(certs);
        Ok(())
    }
}

/// The files of a folder that count, in order of their names.
fn stamps(folder: &Path) -> Result<Vec<Stamp>, TlsError> {
    let failed = |source| TlsError::Read { path: folder.to_owned(), source };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)?.take(FILES_MAX) {
        let path = entry.map_err(failed)?.path();
        let counts = path.extension().is_some_and(|end| end == "crt" || end == "pem" || end == "key");
        if let (true, Ok(meta)) = (counts, std::fs::metadata(&path)) {
            files.push((path, meta.modified().ok(), meta.len()));
        }
    }
    files.sort();
    Ok(files)
}

fn load(files: &[Stamp]) -> Result<Vec<Placed>, TlsError> {
    let (mut placed, mut tried) = (Vec::new(), Certs::default());
    for (path, ..) in files.iter().filter(|(path, ..)| path.extension().is_some_and(|end| end != "key")) {
        let read = |path: &Path| std::fs::read(path).map_err(|source| TlsError::Read { path: path.to_owned(), source });
        let key = path.with_extension("key");
        let cert = Arc::new(certs::read(path, &read(path)?, &read(&key)?)?);
        let is_default = path.file_stem().is_some_and(|stem| stem == "default");
        let added = tried.add(cert.clone(), is_default);
        added.map_err(|what| TlsError::Content { path: path.clone(), what })?;
        placed.push(Placed { cert, is_default });
    }
    Ok(placed)
}
