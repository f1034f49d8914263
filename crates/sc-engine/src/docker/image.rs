//! Images: found, pulled, or made of copied-in files. An image of files is named by their content, so it is made once.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    io,
    path::{Path, PathBuf},
};

use bollard::{
    models::ImageInspect,
    query_parameters::{BuildImageOptions, CreateImageOptions, ListImagesOptions, RemoveImageOptions},
};
use futures_util::TryStreamExt;
use sc_core::spec::{AppSpec, FileSpec, Source};
use sha2::{Digest, Sha256};
use tokio_util::io::{ReaderStream, SyncIoBridge};

use super::{Failure, Inner, LONG, is, names, refusal};
use crate::{EngineError, StartSpec};

/// More files than this are copied as one tree, since an image has at most 127 layers. The tree then decides the modes
/// of folders that exist already.
const LAYERS_MAX: usize = 40;

impl Inner {
    /// The image a replica is made from, present on this host.
    pub(super) async fn image(&self, spec: &StartSpec) -> Result<ImageInspect, EngineError> {
        let base = match &spec.spec.source {
            Source::Image(image) => self.have(image).await?,
            Source::Files { base: Some(base) } => self.have(base).await?,
            Source::Files { base: None } => self.base().await?,
        };
        if spec.spec.files.is_empty() {
            return Ok(base);
        }
        let id = base.id.unwrap_or_default();
        let tag = tag(&self.config.instance, &id, &spec.spec.files);
        let lock = self.making(&tag);
        let _one = lock.lock().await;
        match self.look_image(&tag).await? {
            Some(image) => Ok(image),
            None => {
                self.build(&tag, &id, spec).await?;
                let image = self.look_image(&tag).await?;
                image.ok_or_else(|| self.failed(format!("the image {tag} was built and is not there")))
            }
        }
    }

    async fn base(&self) -> Result<ImageInspect, EngineError> {
        let base = &self.config.base_image;
        self.look_image(base).await?.ok_or_else(|| {
            EngineError::refused(
                format!("the image {base}, into which files are copied, is not on this host"),
                "Make it with deploy/images",
            )
        })
    }

    async fn look_image(&self, name: &str) -> Result<Option<ImageInspect>, EngineError> {
        let what = format!("look at the image {name}");
        let name = name.to_owned();
        let found = self.ask(&what, self.config.deadline, |docker| async move { docker.inspect_image(&name).await });
        match found.await {
            Ok(image) => Ok(Some(image)),
            Err(Failure::Docker(error)) if is(&error, 404) => Ok(None),
            // A name that cannot be one.
            Err(Failure::Docker(error)) if is(&error, 400) => Err(EngineError::refused(
                refusal(&error).map_or("", |(_, words)| words).to_owned(),
                "Write the image as NAME:TAG",
            )),
            Err(failure) => Err(self.plain(&what, failure)),
        }
    }

    /// An image of this host, pulled if need be.
    async fn have(&self, name: &str) -> Result<ImageInspect, EngineError> {
        if let Some(image) = self.look_image(name).await? {
            return Ok(image);
        }
        let lock = self.making(name);
        let _one = lock.lock().await;
        self.pull(name).await?;
        let image = self.look_image(name).await?;
        image.ok_or_else(|| self.failed(format!("the image {name} was pulled and is not there")))
    }

    async fn pull(&self, name: &str) -> Result<(), EngineError> {
        // Without a tag Docker would pull them all.
        let bare = !name.contains('@') && !name.rsplit('/').next().unwrap_or(name).contains(':');
        let from_image = Some(if bare { format!("{name}:latest") } else { name.to_owned() });
        let options = CreateImageOptions { from_image, ..CreateImageOptions::default() };
        let what = format!("pull the image {name}");
        // No permit: a slow registry must not keep other calls waiting.
        let pulled = async {
            let docker = self.docker().await?;
            docker.create_image(Some(options), None, None).try_for_each(|_| async { Ok(()) }).await.map_err(|error| {
                match self.sort(error, &what) {
                    Failure::Docker(error) => not_pulled(name, &error),
                    Failure::Engine(error) => error,
                }
            })
        };
        tokio::time::timeout(LONG, pulled).await.unwrap_or_else(|_| Err(self.timed_out(&what, LONG)))
    }

    async fn build(&self, tag: &str, base: &str, spec: &StartSpec) -> Result<(), EngineError> {
        let files = files(spec).map_err(|error| self.failed(error.to_string()))?;
        let options = BuildImageOptions {
            dockerfile: "Dockerfile".to_owned(),
            t: Some(tag.to_owned()),
            rm: true,
            forcerm: true,
            ..BuildImageOptions::default()
        };
        // First of all the labels: so no step is shared with an image that another installation may be removing.
        let labels = [(names::INSTANCE, self.config.instance.clone()), (names::BLOBS, blobs(&spec.spec))];
        let dockerfile = dockerfile(base, &labels, &files);
        let (to, from) = tokio::io::duplex(256 << 10);
        let packing = tokio::task::spawn_blocking(move || pack(&dockerfile, &files, SyncIoBridge::new(to)));
        let what = format!("build the image {tag}");
        let built = self.ask(&what, LONG, |docker| async move {
            let body = bollard::body_try_stream(ReaderStream::with_capacity(from, 128 << 10));
            docker.build_image(options, None, Some(body)).try_for_each(|_| async { Ok(()) }).await
        });
        let built = built.await.map_err(|failure| self.plain(&what, failure));
        // The packer ends by itself once nobody reads any more; its error explains the build's.
        if let Ok(Err(error)) = packing.await
            && error.kind() != io::ErrorKind::BrokenPipe
        {
            return Err(self.failed(format!("{what}: {error}")));
        }
        built
    }

    /// Removes our images of files that no version refers to. Docker keeps those that a container still uses.
    pub(super) async fn remove_unused_images(&self, blobs: &[String]) -> Result<(), EngineError> {
        let ours = [format!("{}={}", names::INSTANCE, self.config.instance), names::BLOBS.to_owned()];
        let options = ListImagesOptions { filters: Some(names::filter(&ours)), ..ListImagesOptions::default() };
        let images = self.call("list images", |docker| async move { docker.list_images(Some(options)).await }).await?;
        for image in images {
            let needed = image
                .labels
                .get(names::BLOBS)
                .is_none_or(|of| of.split(',').all(|blob| blobs.iter().any(|needed| needed == blob)));
            if needed {
                continue;
            }
            let what = format!("remove the image {}", image.id);
            let removed = self.ask(&what, self.config.deadline, |docker| async move {
                let options = RemoveImageOptions::default();
                // One that lost its name to a later build of the same has none, or this.
                let named = image.repo_tags.into_iter().filter(|name| name != "<none>:<none>").collect::<Vec<_>>();
                for name in if named.is_empty() { vec![image.id] } else { named } {
                    docker.remove_image(&name, Some(options.clone()), None).await?;
                }
                Ok(())
            });
            match removed.await {
                Err(Failure::Docker(error)) if is(&error, 404) || is(&error, 409) => {}
                other => other.map_err(|failure| self.plain(&what, failure))?,
            }
        }
        Ok(())
    }
}

fn not_pulled(name: &str, error: &bollard::errors::Error) -> EngineError {
    let words = match refusal(error) {
        Some((_, words)) => words.to_owned(),
        None => error.to_string(),
    };
    EngineError::refused(
        format!("the image {name} is not on this host and could not be pulled: {}", words.trim()),
        "Check its name, or build or load it on this host (docker images)",
    )
}

/// The digests of a spec's files, sorted.
fn blobs(spec: &AppSpec) -> String {
    let mut all: Vec<_> = spec.files.iter().map(|file| file.sha256.as_str()).collect();
    all.sort_unstable();
    all.dedup();
    all.join(",")
}

/// The name of the image that has these files on this base. Each installation has its own, to remove as it likes.
fn tag(instance: &str, base: &str, files: &[FileSpec]) -> String {
    let mut lines: Vec<_> = files.iter().map(|f| format!("{}\0{:o}\0{}\n", f.path, f.mode, f.sha256)).collect();
    lines.sort_unstable();
    let digest = Sha256::digest(format!("{instance}\n{base}\n{}", lines.concat()));
    let short = digest.iter().take(10).fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    });
    format!("sc/app:{short}")
}

/// A file to be packed.
struct Packed {
    blob: PathBuf,
    /// Inside the context.
    name: String,
    /// Inside the image.
    path: String,
    mode: u32,
}

fn files(spec: &StartSpec) -> io::Result<Vec<Packed>> {
    let mut files = Vec::new();
    for (i, file) in spec.spec.files.iter().enumerate() {
        let plain = file.path.starts_with('/') && !file.path.split('/').any(|part| part == "..");
        let blob = spec.blobs.get(&file.sha256).filter(|_| plain);
        let what = || io::Error::other(format!("the content of {} is not on this host", file.path));
        files.push(Packed {
            blob: blob.ok_or_else(what)?.clone(),
            name: format!("f{i}"),
            path: file.path.clone(),
            mode: file.mode,
        });
    }
    if as_tree(&files) {
        for file in &mut files {
            file.name = format!("tree{}", file.path);
        }
    }
    Ok(files)
}

/// Whether files are copied as one tree: there are many, or the builder would take signs in a path for its own.
fn as_tree(files: &[Packed]) -> bool {
    let plain = |c: char| c.is_alphanumeric() || "/._-+=:,@ ".contains(c);
    files.len() > LAYERS_MAX || !files.iter().all(|file| file.path.chars().all(plain))
}

fn dockerfile(base: &str, labels: &[(&str, String)], files: &[Packed]) -> String {
    let mut text = format!("FROM {base}\n");
    for (key, value) in labels {
        let _ = writeln!(text, "LABEL {key}=\"{value}\"");
    }
    if as_tree(files) {
        return text + "COPY [\"tree/\", \"/\"]\n";
    }
    for file in files {
        let _ = writeln!(text, "COPY {}", serde_json::json!([file.name, file.path]));
    }
    text
}

fn pack(dockerfile: &str, files: &[Packed], to: impl io::Write) -> io::Result<()> {
    let mut tar = tar::Builder::new(to);
    append(&mut tar, Path::new("Dockerfile"), 0o644, dockerfile.len() as u64, dockerfile.as_bytes())?;
    for folder in as_tree(files).then(|| folders(files)).into_iter().flatten() {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_mode(0o755);
        header.set_size(0);
        header.set_mtime(1);
        tar.append_data(&mut header, folder, io::empty())?;
    }
    for file in files {
        let content = std::fs::File::open(&file.blob)
            .map_err(|e| io::Error::new(e.kind(), format!("the content of {}: {e}", file.path)))?;
        let size = content.metadata()?.len();
        append(&mut tar, Path::new(&file.name), file.mode & 0o7777, size, content)?;
    }
    tar.into_inner()?.flush()
}

/// Every folder that the files are in.
fn folders(files: &[Packed]) -> BTreeSet<&Path> {
    files.iter().flat_map(|file| Path::new(&file.name).ancestors().skip(1)).filter(|f| f.parent().is_some()).collect()
}

fn append(
    tar: &mut tar::Builder<impl io::Write>,
    path: &Path,
    mode: u32,
    size: u64,
    content: impl io::Read,
) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_mode(mode);
    header.set_size(size);
    // One time for all: the same content gives the same layer.
    header.set_mtime(1);
    tar.append_data(&mut header, path, content)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, sha256: &str) -> FileSpec {
        FileSpec { sha256: sha256.to_owned(), path: path.to_owned(), mode: 0o755 }
    }

    #[test]
    fn an_image_is_named_by_its_content() {
        let (a, b) = (file("/a", "1"), file("/b", "2"));
        let name = tag("sc", "base", &[a.clone(), b.clone()]);
        assert_eq!(name, tag("sc", "base", &[b.clone(), a.clone()]));
        assert_ne!(name, tag("sc", "other", &[a.clone(), b.clone()]));
        assert_ne!(name, tag("sc2", "base", &[a.clone(), b.clone()]));
        assert_ne!(name, tag("sc", "base", &[a, FileSpec { mode: 0o644, ..b }]));
    }

    fn packed(path: &str) -> Packed {
        Packed { blob: "/b".into(), name: "f0".to_owned(), path: path.to_owned(), mode: 0o644 }
    }

    #[test]
    fn odd_paths_are_not_for_the_builder_to_read() {
        assert_eq!(
            dockerfile("base", &[("k", "v".to_owned())], &[packed("/a b/c")]),
            "FROM base\nLABEL k=\"v\"\nCOPY [\"f0\",\"/a b/c\"]\n"
        );
        for path in ["/a/\"c\"", "/$HOME", "/a\\b", "/*"] {
            assert_eq!(dockerfile("base", &[], &[packed(path)]), "FROM base\nCOPY [\"tree/\", \"/\"]\n");
        }
        let file = Packed { name: "tree/a/b/c".to_owned(), ..packed("/a/b/c") };
        assert_eq!(folders(&[file]).into_iter().collect::<Vec<_>>(), ["tree", "tree/a", "tree/a/b"].map(Path::new));
    }
}
