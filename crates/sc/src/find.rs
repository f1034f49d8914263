//! Which manager is meant: the one that is named, else that of the context (`sc up` writes it), else a running demo's.

use std::{
    env, fs, io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use sc_api::{Client, Target};
use serde::{Deserialize, Serialize};

use crate::{args::Global, exit};

/// What `sc up` leaves for the commands that follow, in the file `context.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Installation {
    /// Where the manager is.
    pub manager: String,
    /// Its token.
    pub token: Option<String>,
    /// The installation's name.
    pub instance: String,
}

/// The client of the manager that is meant.
///
/// # Errors
/// When no manager is known, or the token's file or the context cannot be read.
pub(crate) fn client(global: &Global) -> anyhow::Result<Client> {
    let given = token(global)?;
    if let Some(target) = &global.manager {
        return Ok(Client::new(target.clone(), given));
    }
    if let Some(installation) = Installation::read()? {
        let target: Target = installation.manager.parse().map_err(|error| exit::usage(format!("{error}")))?;
        // The context's token is for the context's manager alone.
        return Ok(Client::new(target, given.or(installation.token)));
    }
    let socket = demo_folder()?.join("manager.sock");
    if socket.exists() {
        return Ok(Client::new(Target::Unix(socket), given));
    }
    let hint = "`sc up` starts one on this host's Docker, `sc demo` a trial without Docker; --manager or SC_MANAGER name \
                one elsewhere";
    Err(exit::failure(exit::UNREACHABLE, format!("no manager is known here\n  → {hint}")))
}

fn token(global: &Global) -> anyhow::Result<Option<String>> {
    if let Some(file) = &global.token_file {
        let text = fs::read_to_string(file).with_context(|| format!("the token file {}", file.display()))?;
        return Ok(Some(text.trim().to_owned()));
    }
    Ok(env::var("SC_TOKEN").ok().map(|token| token.trim().to_owned()).filter(|token| !token.is_empty()))
}

/// Where a demo of this user keeps its socket; only the user may look into it.
pub(crate) fn demo_folder() -> anyhow::Result<PathBuf> {
    if let Some(runtime) = env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|dir| dir.is_dir()) {
        return Ok(runtime.join("sc-demo"));
    }
    Ok(env::temp_dir().join(format!("sc-demo-{}", rustix::process::getuid().as_raw())))
}

impl Installation {
    /// Where it is kept.
    pub fn file() -> anyhow::Result<PathBuf> {
        let home = || env::var_os("HOME").map(|home| PathBuf::from(home).join(".config"));
        let config = env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).filter(|dir| dir.is_absolute()).or_else(home);
        config.map(|dir| dir.join("sc/context.toml")).context("HOME is not set: where is the configuration?")
    }

    /// The one there is.
    pub fn read() -> anyhow::Result<Option<Self>> {
        let Ok(file) = Self::file() else { return Ok(None) };
        match fs::read_to_string(&file) {
            Ok(text) => Self::parse(&text, &file).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("the context {}", file.display())),
        }
    }

    fn parse(text: &str, file: &Path) -> anyhow::Result<Self> {
        let what = || format!("the context {} (delete it, or run `sc up` again)", file.display());
        toml::from_str(text).with_context(what)
    }

    /// Keeps it, for its owner alone to read. Whole or not at all.
    pub fn write(&self) -> anyhow::Result<PathBuf> {
        let file = Self::file()?;
        let write = || -> io::Result<()> {
            let folder = file.parent().unwrap_or(Path::new("/"));
            fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
            let aside = file.with_extension("new");
            let _ = fs::remove_file(&aside);
            let mut new = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside)?;
            io::Write::write_all(&mut new, toml::to_string(self).map_err(io::Error::other)?.as_bytes())?;
            fs::rename(&aside, &file)
        };
        write().with_context(|| format!("the context {} cannot be written", file.display()))?;
        Ok(file)
    }

    /// Forgets it, if it is that of this instance.
    pub fn forget(instance: &str) -> anyhow::Result<()> {
        if Self::read()?.is_some_and(|context| context.instance == instance) {
            fs::remove_file(Self::file()?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_can_be_read() {
        let context =
            Installation { manager: "http://127.0.0.1:7700".into(), token: Some("t".into()), instance: "sc".into() };
        let text = toml::to_string(&context).unwrap();
        assert_eq!(Installation::parse(&text, Path::new("x")).unwrap(), context);
        let error = Installation::parse("manager = 7", Path::new("/c/context.toml")).unwrap_err();
        assert!(exit::text(&error).contains("/c/context.toml"), "{error:#}");
    }
}
