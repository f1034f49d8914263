//! Uploaded files, each under the SHA-256 of its content: streamed to a file aside, checked, then renamed. So a blob is
//! there whole or not at all.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use sha2::{Digest, Sha256};
use tokio::{
    io::{AsyncWriteExt, BufWriter},
    time::timeout,
};

/// How long the next part of an upload may take to come.
const COMES: Duration = Duration::from_secs(30);
/// A blob that no version refers to is kept so long: its deploy may be on its way.
pub const KEPT: Duration = Duration::from_secs(3_600);
/// The end of the name of a file that is not complete.
const PART: &str = "part";

/// The folder of blobs.
#[derive(Debug, Clone)]
pub struct Blobs {
    folder: PathBuf,
    max: u64,
}

/// Why a blob was not kept.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// It is over the limit.
    #[error("it is larger than {0} bytes")]
    TooLarge(u64),
    /// Its end did not come.
    #[error("the upload was cut off: {0}")]
    CutOff(String),
    /// It is something else.
    #[error("the content's SHA-256 is {found}, not {wanted}")]
    WrongDigest {
        /// Its name.
        wanted: String,
        /// What it is.
        found: String,
    },
    /// There is no room.
    #[error("there is no room for it: {0}")]
    NoSpace(#[source] io::Error),
    /// It could not be written.
    #[error("it could not be written")]
    Disk(#[source] io::Error),
}

impl From<io::Error> for BlobError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoSpace(error),
            _ => Self::Disk(error),
        }
    }
}

impl Blobs {
    /// The blobs in `folder`, which is made if need be; what a crash left half-done is removed. No blob is larger than
    /// `max` bytes.
    ///
    /// # Errors
    /// When the folder cannot be made or read.
    pub fn open(folder: &Path, max: u64) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|end| end == PART) {
                fs::remove_file(path)?;
            }
        }
        Ok(Self { folder: folder.to_owned(), max })
    }

    /// The largest allowed, in bytes.
    pub fn max(&self) -> u64 {
        self.max
    }

    /// Where a blob is, if it is there.
    pub fn path(&self, digest: &str) -> PathBuf {
        self.folder.join(digest)
    }

    /// Whether a blob is there. Looking keeps it from being removed for another while.
    pub async fn has(&self, digest: &str) -> bool {
        let path = self.path(digest);
        let look = tokio::task::spawn_blocking(move || {
            let file = fs::File::options().append(true).open(path).ok()?;
            file.set_modified(SystemTime::now()).ok()
        });
        look.await.ok().flatten().is_some()
    }

    /// Keeps what comes under its digest, if it is that. `length`: how long it shall be, where that is known.
    ///
    /// # Errors
    /// When it is not kept; then nothing of it is left.
    pub async fn put(
        &self,
        digest: &str,
        length: Option<u64>,
        parts: impl Stream<Item = io::Result<Bytes>> + Send,
    ) -> Result<(), BlobError> {
        let aside = Aside(self.folder.join(format!("{digest}.{:016x}.{PART}", rand::random::<u64>())));
        let file = tokio::fs::File::create_new(&aside.0).await?;
        let mut file = BufWriter::with_capacity(1 << 20, file);
        let (found, size) = self.copy(&mut file, parts).await?;
        if length.is_some_and(|length| length != size) {
            return Err(BlobError::CutOff(format!("{size} bytes came")));
        }
        if found != digest {
            return Err(BlobError::WrongDigest { wanted: digest.to_owned(), found });
        }
        file.flush().await?;
        file.get_ref().sync_all().await?;
        tokio::fs::rename(&aside.0, self.path(digest)).await?;
        let folder = self.folder.clone();
        let synced = tokio::task::spawn_blocking(move || fs::File::open(folder)?.sync_all());
        synced.await.map_err(io::Error::other)??;
        Ok(())
    }

    async fn copy(
        &self,
        file: &mut BufWriter<tokio::fs::File>,
        parts: impl Stream<Item = io::Result<Bytes>> + Send,
    ) -> Result<(String, u64), BlobError> {
        let mut parts = std::pin::pin!(parts);
        let (mut hash, mut size) = (Sha256::new(), 0u64);
        loop {
            let part = match timeout(COMES, parts.next()).await {
                Ok(None) => break,
                Ok(Some(part)) => part.map_err(|error| BlobError::CutOff(error.to_string()))?,
                Err(_late) => return Err(BlobError::CutOff(format!("nothing came for {} s", COMES.as_secs()))),
            };
            size += part.len() as u64;
            if size > self.max {
                return Err(BlobError::TooLarge(self.max));
            }
            hash.update(&part);
            file.write_all(&part).await?;
        }
        Ok((hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect(), size))
    }

    /// Removes blobs that are not in `keep` and were last asked for longer than `age` ago. Gives how many.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn collect_garbage(&self, keep: &BTreeSet<String>, age: Duration) -> io::Result<usize> {
        let mut removed = 0;
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let old = entry.metadata()?.modified()?.elapsed().is_ok_and(|since| since >= age);
            let part = name.ends_with(PART);
            if old && !part && !keep.contains(&name) {
                fs::remove_file(entry.path())?;
                removed += 1;
            }
        }
        Ok(removed)
    }
}

/// A file that is removed unless it was renamed.
struct Aside(PathBuf);

impl Drop for Aside {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    const HELLO: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

    fn parts(parts: &[&'static str]) -> impl Stream<Item = io::Result<Bytes>> + Send + use<> {
        stream::iter(parts.iter().map(|part| Ok(Bytes::from_static(part.as_bytes()))).collect::<Vec<_>>())
    }

    fn names(blobs: &Blobs) -> Vec<String> {
        fs::read_dir(&blobs.folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[tokio::test]
    async fn whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(dir.path(), 10).unwrap();
        let put = |length, text: &'static [&'static str]| {
            let blobs = blobs.clone();
            async move { blobs.put(HELLO, length, parts(text)).await }
        };
        assert!(matches!(put(None, &["hell", "0"]).await, Err(BlobError::WrongDigest { .. })));
        assert!(matches!(put(Some(6), &["hel", "lo"]).await, Err(BlobError::CutOff(_))));
        assert!(matches!(put(None, &["hello hello", "!"]).await, Err(BlobError::TooLarge(10))));
        let broken = stream::iter([Ok(Bytes::from_static(b"hel")), Err(io::Error::other("gone"))]);
        assert!(matches!(blobs.put(HELLO, None, broken).await, Err(BlobError::CutOff(_))));
        assert!(names(&blobs).is_empty() && !blobs.has(HELLO).await);
        put(Some(5), &["hel", "lo"]).await.unwrap();
        assert!(blobs.has(HELLO).await);
        assert_eq!(names(&blobs), [HELLO]);
    }

    #[tokio::test]
    async fn garbage_is_what_is_old_and_not_referred_to() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(dir.path(), 10).unwrap();
        blobs.put(HELLO, None, parts(&["hello"])).await.unwrap();
        let none = BTreeSet::new();
        assert_eq!(blobs.collect_garbage(&none, KEPT).unwrap(), 0, "a young one stays");
        assert_eq!(blobs.collect_garbage(&BTreeSet::from([HELLO.to_owned()]), Duration::ZERO).unwrap(), 0);
        assert_eq!(blobs.collect_garbage(&none, Duration::ZERO).unwrap(), 1);
        fs::write(dir.path().join("half.part"), "x").unwrap();
        assert_eq!(names(&Blobs::open(dir.path(), 10).unwrap()), Vec::<String>::new());
    }
}
