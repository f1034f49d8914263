//! Files in and out of a replica's folder, as tar. Nothing outside its root is read or written.

use std::{
    io::{self, Read, Write},
    path::{Component, Path, PathBuf},
};

use super::place;

fn escapes() -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, "the path leaves the replica")
}

/// The real path of what a replica calls `path`, whose parent must exist inside `root`.
fn inside(root: &Path, path: &str) -> io::Result<PathBuf> {
    let root = root.canonicalize()?;
    let path = place::below(&root, path).ok_or_else(escapes)?;
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(root) };
    if path == root {
        return Ok(root);
    }
    let parent = parent.canonicalize()?;
    if parent.starts_with(&root) { Ok(parent.join(name)) } else { Err(escapes()) }
}

/// Checks that a replica has `path`, and gives it back.
///
/// # Errors
/// When there is none, or it leaves the root.
pub(super) fn find(root: &Path, path: &str) -> io::Result<String> {
    let found = inside(root, path).and_then(|found| found.symlink_metadata());
    found.map(|_| path.to_owned()).map_err(|e| io::Error::new(e.kind(), format!("{path}: {e}")))
}

/// Writes `path` (a file, or a folder with all that is in it) under its last name.
///
/// # Errors
/// When there is none, or it leaves the root.
pub(super) fn out(root: &Path, path: &str, to: impl Write) -> io::Result<()> {
    let source = inside(root, path)?;
    let name = source.file_name().filter(|_| source != *root).map_or_else(|| ".".into(), |name| name.to_owned());
    let mut tar = tar::Builder::new(to);
    tar.follow_symlinks(false);
    if source.symlink_metadata()?.is_dir() {
        tar.append_dir_all(name, &source)?;
    } else {
        tar.append_path_with_name(&source, name)?;
    }
    tar.into_inner()?.flush()
}

/// Unpacks a tar stream into `directory`, which must exist.
///
/// # Errors
/// When there is no such directory, or an entry would leave the root.
pub(super) fn into(root: &Path, directory: &str, from: impl Read) -> io::Result<()> {
    let target = inside(root, directory)?.canonicalize()?;
    let root = root.canonicalize()?;
    if !target.starts_with(&root) {
        return Err(escapes());
    }
    if !target.is_dir() {
        return Err(io::Error::new(io::ErrorKind::NotADirectory, format!("{directory} is no directory")));
    }
    let mut tar = tar::Archive::new(from);
    for entry in tar.entries()? {
        let mut entry = entry?;
        if let Some(link) = entry.link_name()? {
            let path = entry.path()?;
            let at = target.join(path.parent().unwrap_or(Path::new("")));
            let hard = entry.header().entry_type().is_hard_link();
            if !stays(&root, if hard { &target } else { &at }, &link) {
                return Err(escapes());
            }
        }
        if !entry.unpack_in(&target)? {
            return Err(escapes());
        }
    }
    Ok(())
}

/// Whether a link at `from` to `to` stays inside `root`, by its words alone. Absolute ones mean the host's root.
fn stays(root: &Path, from: &Path, to: &Path) -> bool {
    let Ok(from) = from.strip_prefix(root) else { return false };
    let mut depth = 0_i64;
    for part in from.components().chain(to.components()) {
        match part {
            Component::Normal(_) => depth += 1,
            Component::ParentDir => depth -= 1,
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return false,
        }
        if depth < 0 {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn archive(entries: &[(&str, Option<&str>)]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (path, link) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_mode(0o644);
            // Straight into the header: the builder itself would refuse such paths.
            header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
            header.set_size(if link.is_some() { 0 } else { 1 });
            if let Some(link) = link {
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_link_name(link).unwrap();
            }
            header.set_cksum();
            tar.append(&header, if link.is_some() { &b""[..] } else { b"x" }).unwrap();
        }
        tar.into_inner().unwrap()
    }

    #[test]
    fn in_and_out_again() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("data")).unwrap();
        into(root.path(), "/data", archive(&[("a", None), ("sub/b", None), ("l", Some("sub/b"))]).as_slice()).unwrap();
        assert_eq!(fs::read(root.path().join("data/l")).unwrap(), b"x");
        let mut bytes = Vec::new();
        out(root.path(), "/data/sub", &mut bytes).unwrap();
        let mut tar = tar::Archive::new(bytes.as_slice());
        let names: Vec<_> = tar.entries().unwrap().map(|e| e.unwrap().path().unwrap().display().to_string()).collect();
        assert_eq!(names, ["sub/", "sub/b"]);
        out(root.path(), "/", io::sink()).unwrap();
        assert!(out(root.path(), "/nothing", io::sink()).is_err());
    }

    #[test]
    fn nothing_leaves_the_root() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        fs::create_dir(&root).unwrap();
        fs::write(folder.path().join("secret"), "s").unwrap();
        std::os::unix::fs::symlink("..", root.join("up")).unwrap();
        for path in ["/../secret", "/up/secret", "../secret"] {
            assert!(out(&root, path, io::sink()).is_err(), "{path}");
        }
        assert!(into(&root, "/up", archive(&[("x", None)]).as_slice()).is_err());
        for entries in [
            vec![("../x", None)],
            vec![("l", Some("../secret"))],
            vec![("l", Some("/etc/passwd"))],
            vec![("up/x", None)],
        ] {
            assert!(into(&root, "/", archive(&entries).as_slice()).is_err(), "{entries:?}");
        }
        assert!(!folder.path().join("x").exists());
    }
}
