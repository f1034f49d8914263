//! Making a replica's folder: its files, its program, its environment.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Component, Path, PathBuf},
};

use sc_core::spec::{AppSpec, Source};

use super::state::{self, Meta, State};
use crate::{EngineError, StartSpec, environment, now_ms, only_program};
use sc_core::observed::Exit;

/// Where programs without a path are looked for, and what a replica gets as `PATH`.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Why a program cannot be run: exit status as a shell gives it, and the reason.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NoProgram {
    pub code: i32,
    pub what: String,
}

/// Says what of a spec this engine cannot give.
///
/// # Errors
/// A refusal, with what to do instead.
pub(super) fn check(spec: &AppSpec) -> Result<(), EngineError> {
    let docker = "Leave it out, or run the app on Docker";
    let refuse = |what: &str, hint: &str| Err(EngineError::refused(what, hint));
    match &spec.source {
        Source::Image(image) => {
            let what = format!("the process engine cannot run the image {image}");
            return refuse(&what, "Give the program itself with --bin, or run the app on Docker");
        }
        Source::Files { base: Some(base) } => {
            return refuse(&format!("the process engine knows no base image ({base})"), docker);
        }
        Source::Files { base: None } => {}
    }
    let security = &spec.security;
    if let Some(user) = &security.user {
        return refuse(&format!("the process engine runs everything as its own user, not as {user}"), docker);
    }
    if security.read_only || !security.cap_add.is_empty() {
        return refuse("the process engine knows neither read-only roots nor capabilities", docker);
    }
    if !spec.volumes.is_empty() {
        return refuse("the process engine knows no volumes", docker);
    }
    if spec.command.is_empty() && only_program(spec).is_none() {
        return refuse("no command is given", "Write the program and its arguments after --");
    }
    Ok(())
}

/// Says what of a spec this engine takes and does not keep.
pub(super) fn warnings(spec: &AppSpec) -> Vec<String> {
    let resources = &spec.resources;
    let cpus = resources.cpus.map(|cpus| format!("the limit of {cpus} CPUs"));
    let pids = resources.pids.map(|pids| format!("the limit of {pids} processes"));
    let words = [(cpus, "; the scaler reckons with it"), (pids, "")];
    let said = |(limit, more): (Option<String>, &str)| {
        limit.map(|limit| format!("{limit} is not enforced by the process engine{more}; on Docker it is"))
    };
    words.into_iter().filter_map(said).collect()
}

/// Makes the folder, all of it or nothing. When its program cannot be run, the folder says so as the replica's end.
///
/// # Errors
/// When files cannot be placed.
pub(super) fn make(folder: &Path, store: &str, spec: &StartSpec) -> Result<Result<(), NoProgram>, io::Error> {
    let parent = folder.parent().ok_or_else(|| io::Error::other("a folder without a parent"))?;
    let new = tempfile::Builder::new().prefix(".new-").tempdir_in(parent)?;
    let root = new.path().join("root");
    fs::create_dir(&root)?;
    for file in &spec.spec.files {
        let blob = spec.blobs.get(&file.sha256);
        let blob = blob.ok_or_else(|| io::Error::other(format!("the content of {} is not on this host", file.path)))?;
        place(blob, &root, &file.path, file.mode)
            .map_err(|e| io::Error::new(e.kind(), format!("{} cannot be placed: {e}", file.path)))?;
    }
    let final_root = folder.join("root");
    let env = env(spec, &final_root);
    let command = &spec.spec.command;
    let first = command.first().map(String::as_str).or_else(|| only_program(&spec.spec)).unwrap_or_default();
    let found = resolve(first, &root, env.get("PATH").map_or(PATH, String::as_str));
    let (program, missing) = match found {
        Ok(path) => (path.strip_prefix(&root).map(|rest| final_root.join(rest)).unwrap_or(path), None),
        Err(missing) => (PathBuf::from(first), Some(missing)),
    };
    let resources = &spec.spec.resources;
    let meta = Meta {
        v: 1,
        replica: spec.replica.clone(),
        store: store.to_owned(),
        version: spec.version,
        restart: spec.restart,
        addr: spec.addr,
        program,
        args: command.iter().skip(1).cloned().collect(),
        env,
        memory: resources.memory,
        cpus: resources.cpus,
    };
    if let Some(missing) = &missing {
        let exit = Exit { code: missing.code, oom: false, error: missing.what.clone(), at_ms: now_ms() };
        state::write_state(new.path(), &State { exit: Some(exit), ..State::default() })?;
    }
    state::write(new.path(), "meta.json", &meta)?;
    match fs::rename(new.path(), folder) {
        Ok(()) => {
            let _ = new.keep();
        }
        // Another call made it in the meantime: that one counts.
        Err(_) if folder.join("meta.json").exists() => {}
        Err(error) => return Err(error),
    }
    Ok(missing.map_or(Ok(()), Err))
}

fn place(blob: &Path, root: &Path, path: &str, mode: u32) -> io::Result<()> {
    let target = below(root, path).ok_or_else(|| io::Error::other("the path leaves the replica"))?;
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent)?;
    }
    // A copy, not a link: the program may change its own files, and the blob serves others.
    fs::copy(blob, &target)?;
    fs::set_permissions(&target, fs::Permissions::from_mode(mode & 0o7777))
}

/// The path inside `root` that a replica calls `path`; none when it leaves it.
pub(super) fn below(root: &Path, path: &str) -> Option<PathBuf> {
    let mut target = root.to_owned();
    for part in Path::new(path).components() {
        match part {
            Component::Normal(part) => target.push(part),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    Some(target)
}

/// The file that the first word of a command means: one placed in the replica, else one of the host, by path or
/// through `PATH`.
pub(super) fn resolve(word: &str, root: &Path, search: &str) -> Result<PathBuf, NoProgram> {
    if word.contains('/') {
        let own = below(root, word).filter(|own| own.exists());
        let path = own.unwrap_or_else(|| root.join(word));
        return runnable(&path).then_some(path.clone()).ok_or_else(|| no_program(word, path.exists()));
    }
    let candidates: Vec<PathBuf> = search.split(':').map(|folder| Path::new(folder).join(word)).collect();
    let found = candidates.iter().find(|path| runnable(path)).cloned();
    found.ok_or_else(|| no_program(word, candidates.iter().any(|path| path.is_file())))
}

fn runnable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

fn no_program(word: &str, exists: bool) -> NoProgram {
    match exists {
        true => NoProgram { code: 126, what: format!("{word} is not executable") },
        false => NoProgram { code: 127, what: format!("there is no program {word}") },
    }
}

fn env(spec: &StartSpec, root: &Path) -> BTreeMap<String, String> {
    let home = root.display().to_string();
    let mut env = BTreeMap::from([("PATH".to_owned(), PATH.to_owned()), ("HOME".to_owned(), home)]);
    env.extend(environment(spec));
    // A program that shares the host's addresses need listen on no other than this.
    env.insert("SC_HOST".to_owned(), spec.addr.ip().to_string());
    env
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_stays_below_the_root() {
        let root = Path::new("/r");
        assert_eq!(below(root, "/app/./x"), Some(PathBuf::from("/r/app/x")));
        assert_eq!(below(root, "app"), Some(PathBuf::from("/r/app")));
        assert_eq!(below(root, "/app/../../x"), None);
    }

    #[test]
    fn says_which_limits_it_does_not_keep() {
        let spec = |resources: &str| -> AppSpec {
            serde_json::from_str(&format!(r#"{{"source":{{"files":{{"base":null}}}},"resources":{resources}}}"#))
                .unwrap()
        };
        assert!(warnings(&spec(r#"{"memory":1000000}"#)).is_empty(), "memory is kept");
        let said = warnings(&spec(r#"{"cpus":0.5,"pids":40}"#));
        assert!(said[0].contains("0.5 CPUs") && said[1].contains("40 processes"), "{said:?}");
        assert!(said.iter().all(|words| words.contains("not enforced")), "{said:?}");
    }

    #[test]
    fn says_why_a_program_is_none() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("text"), "x").unwrap();
        assert_eq!(resolve("/text", root.path(), PATH).unwrap_err().code, 126);
        assert_eq!(resolve("/nothing", root.path(), PATH).unwrap_err().code, 127);
        assert_eq!(resolve("no-such-program", root.path(), PATH).unwrap_err().code, 127);
        assert_eq!(resolve("sh", root.path(), "/nowhere:/bin").unwrap(), Path::new("/bin/sh"));
        assert_eq!(resolve("/bin/sh", root.path(), PATH).unwrap(), Path::new("/bin/sh"));
    }
}
