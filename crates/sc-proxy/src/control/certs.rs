//! Certificates and challenges from the store: put where they serve, and kept on disk so that HTTPS is served with manager and
//! store dead, also after this proxy's own restart.

use std::{collections::BTreeMap, io, rc::Rc, sync::Arc, time::Duration};

use sc_vault::Secret;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::{
    Control, Phase,
    disk::{Disk, write_for_owner},
};
use crate::{
    source::{CertSource, Opened, Stored},
    tls::Shelf,
};

/// How long to wait after a write that failed.
const AGAIN: Duration = Duration::from_secs(1);

/// Makes the source on the control thread, where it stays.
pub(crate) type CertSeed = Box<dyn FnOnce() -> Box<dyn CertSource> + Send>;

/// Takes over what the source says, until it is aborted. `shelf`: none where no TLS is served.
pub(super) async fn follow(
    control: Rc<Control>,
    mut source: Box<dyn CertSource>,
    shelf: Option<Arc<Shelf>>,
    saves: watch::Sender<()>,
) {
    loop {
        let stored = source.next().await;
        let wrong = match &shelf {
            Some(shelf) => shelf.put_stored(&stored),
            None => stored.broken.iter().next().map(|(name, why)| format!("certificate {name}: {why}")),
        };
        let challenges = (!stored.challenges.is_empty()).then(|| Arc::new(stored.challenges));
        control.shared.challenges.store(challenges);
        control.state.borrow_mut().certs = (stored.revision, wrong);
        saves.send_replace(());
        control.frame_now.notify_one();
    }
}

#[derive(Serialize, Deserialize)]
struct File {
    v: u32,
    source: String,
    certs: BTreeMap<String, Kept>,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    chain: String,
    key: String,
}

impl Disk {
    /// The last certificates of the store, if there are some to use.
    pub(crate) fn load_certs(&self) -> Option<Stored> {
        let path = self.certs();
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    tracing::warn!(path = %path.display(), %error, "the last certificates cannot be read");
                }
                return None;
            }
        };
        let file: File = match serde_json::from_slice(&bytes) {
            Ok(file) => file,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "the last certificates make no sense; waiting for new ones");
                return None;
            }
        };
        if file.v != 1 || file.source != self.source {
            return None;
        }
        let opened =
            |(name, kept): (String, Kept)| (name, Arc::new(Opened { chain: kept.chain, key: Secret(kept.key) }));
        Some(Stored { certs: file.certs.into_iter().map(opened).collect(), ..Stored::default() })
    }

    fn save_certs(&self, certs: &BTreeMap<String, Arc<Opened>>) -> io::Result<()> {
        let kept = |(name, opened): (&String, &Arc<Opened>)| {
            (name.clone(), Kept { chain: opened.chain.clone(), key: opened.key.0.clone() })
        };
        let file = File { v: 1, source: self.source.to_owned(), certs: certs.iter().map(kept).collect() };
        write_for_owner(&self.certs(), &serde_json::to_vec(&file)?)
    }
}

/// Keeps the store's certificates on disk, off this thread. It ends, with no write under way, when the folder is no longer this
/// process's.
pub(super) async fn keep(
    disk: Disk,
    shelf: Arc<Shelf>,
    mut changed: watch::Receiver<()>,
    mut phase: watch::Receiver<Phase>,
) {
    let (mut saved, mut told) = (None, false);
    loop {
        tokio::select! {
            changed = changed.changed() => if changed.is_err() { return },
            _ = phase.wait_for(|phase| *phase != Phase::Serving) => return,
        }
        while *phase.borrow() == Phase::Serving {
            let certs = shelf.kept();
            if saved.as_ref() == Some(&certs) {
                break;
            }
            let (writes, what) = (disk.clone(), certs.clone());
            let written = tokio::task::spawn_blocking(move || writes.save_certs(&what)).await;
            match written.map_err(io::Error::other).flatten() {
                Ok(()) => (told, saved) = (false, Some(certs)),
                Err(error) => {
                    if !std::mem::replace(&mut told, true) {
                        tracing::error!(path = %disk.certs().display(), %error, "the certificates cannot be kept: make room there");
                    }
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn they_are_kept_for_the_owner_alone_and_only_for_the_same_source() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::new(folder.path(), "store");
        assert_eq!(disk.load_certs(), None);
        let opened = Arc::new(Opened { chain: "chain".into(), key: Secret("key".into()) });
        let certs = BTreeMap::from([("a".to_owned(), opened)]);
        for _ in 0..2 {
            disk.save_certs(&certs).unwrap();
        }
        assert_eq!(disk.load_certs().unwrap().certs, certs);
        let mode = std::fs::metadata(folder.path().join("certs.json")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(Disk::new(folder.path(), "manager").load_certs(), None);
        std::fs::write(folder.path().join("certs.json"), "{").unwrap();
        assert_eq!(disk.load_certs(), None);
    }
}
