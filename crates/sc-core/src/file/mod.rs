//! The app file, `sc.toml`: text in, apps or errors out. Nothing is read from disk here: paths of local files stay paths,
//! and whoever sends them fills in their digests.
//!
//! A file is refused whole, with every error found in it; each names its line and column, shows the line, and says what
//! would be right. `[defaults]` holds any key of an app and stands in where an app leaves it out.

mod app;
mod error;
mod reader;
mod scale;

pub use error::{FileError, FileErrors};

use std::collections::BTreeMap;

use crate::{
    canary::Share,
    names::Name,
    records::key,
    spec::{AppSpec, ScaleSpec},
    validate::show_route,
};
use reader::{Errors, Reader};

/// One app of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct FileApp {
    /// Its name.
    pub name: Name,
    /// What it is; [`AppSpec::files`] is empty until the uploads are known.
    pub spec: AppSpec,
    /// Local files that belong into it.
    pub uploads: Vec<LocalFile>,
    /// Bounds and mode of the count, where the file says anything of them.
    pub scale: Option<ScaleSpec>,
    /// How many replicas a new app begins with.
    pub replicas: Option<u32>,
    /// The share of the requests that a new version gets at first; none: it is rolled out.
    pub canary: Option<Share>,
}

/// A local file that belongs into a replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalFile {
    /// Path on this machine, relative to the app file.
    pub from: String,
    /// Absolute path in the replica.
    pub to: String,
    /// Permission bits; none: those it has.
    pub mode: Option<u32>,
}

/// Reads an app file.
///
/// # Errors
/// Everything that is wrong with it, in the order of lines.
pub fn parse(text: &str) -> Result<Vec<FileApp>, FileErrors> {
    let (document, syntax) = toml::de::DeTable::parse_recoverable(text);
    let errors = Errors::default();
    for error in &syntax {
        errors.add(error.span().unwrap_or(0..0), error.message().to_owned());
    }
    let apps = if syntax.is_empty() { read(&document, &errors) } else { Vec::new() };
    errors.finish(text).map(|()| apps)
}

fn read(document: &toml::Spanned<toml::de::DeTable<'_>>, errors: &Errors) -> Vec<FileApp> {
    let top = Reader::new(document, errors);
    let defaults = top.table("defaults");
    let apps = top.table("app");
    if apps.is_none() {
        errors.add(0..0, "no app in this file; begin one with [app.NAME]".to_owned());
    }
    let mut claims: BTreeMap<String, String> = BTreeMap::new();
    let read: Vec<_> = apps.iter().flat_map(|apps| apps.tables(defaults.as_ref())).collect();
    let apps = read.into_iter().filter_map(|(name, span, reader)| {
        let app = app::read(&reader);
        for (i, route) in app.iter().flat_map(|app| app.spec.routes.iter().enumerate()) {
            if let Some(other) = claims.insert(key::claim(route), name.clone()).filter(|other| *other != name) {
                let what = format!("route: {} is the route of {other} already", show_route(route));
                errors.add(reader.span(&format!("route.{i}")), what);
            }
        }
        reader.finish();
        match Name::new(&name) {
            Ok(name) => app.map(|app| FileApp { name, ..app }),
            Err(error) => {
                errors.add(span, error.to_string());
                None
            }
        }
    });
    let apps = apps.collect();
    top.finish();
    apps
}

/// Shows what a manager found wrong with an app where the file says it. `wrong`: keys, like `scale.policy.0.url`, and what is
/// wrong with each. None: the file does not have the app, or is none.
pub fn locate(text: &str, name: &Name, wrong: &[(String, String)]) -> Option<FileErrors> {
    let (document, _) = toml::de::DeTable::parse_recoverable(text);
    let (reading, found) = (Errors::default(), Errors::default());
    let top = Reader::new(&document, &reading);
    let (defaults, apps) = (top.table("defaults"), top.table("app")?);
    let (_, _, app) = apps.tables(defaults.as_ref()).into_iter().find(|(app, ..)| app == name.as_str())?;
    app::read(&app);
    for (key, what) in wrong {
        found.add(app.span(key), format!("{key}: {what}"));
    }
    found.finish(text).err()
}

/// Where a binary is placed in a replica.
pub fn binary_target(from: &str) -> String {
    let name = from.rsplit('/').find(|part| !part.is_empty()).unwrap_or("program");
    format!("/app/{name}")
}

#[cfg(test)]
mod tests;
