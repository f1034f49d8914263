//! The app file on the command line: read, checked, with its local files found.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use sc_api::{Problem, types::Deploy};
use sc_core::{AppId, file, names::Name};

use super::note;
use crate::{
    exit,
    local::{self, Found},
};

/// `-f` and the apps that are meant.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct SheetArgs {
    /// Only these apps of the file
    #[arg(value_name = "APP")]
    apps: Vec<Name>,

    /// The app file
    #[arg(long, short = 'f', value_name = "FILE", default_value = "sc.toml")]
    file: PathBuf,
}

impl SheetArgs {
    /// Whether single apps of the file are meant.
    pub(crate) fn names_apps(&self) -> bool {
        !self.apps.is_empty()
    }
}

/// One app of a file, ready to be sent.
pub(crate) struct Planned {
    /// Which.
    pub app: AppId,
    /// What it shall be.
    pub deploy: Deploy,
    /// The files that go into it.
    pub files: Vec<Found>,
}

/// Reads the file, checks it, and finds the local files that it names.
///
/// # Errors
/// Exit status 2 with everything that is wrong, each with its line.
pub(crate) fn read(args: &SheetArgs) -> anyhow::Result<Vec<Planned>> {
    let path = &args.file;
    let text = fs::read_to_string(path).map_err(|error| unreadable(path, &error))?;
    let apps = file::parse(&text).map_err(|errors| wrong(path, &errors))?;
    for name in &args.apps {
        if !apps.iter().any(|app| app.name == *name) {
            let there: Vec<&str> = apps.iter().map(|app| app.name.as_str()).collect();
            let (path, there) = (path.display(), there.join(", "));
            return Err(exit::usage(format!("there is no app {name} in {path}\n  → there are: {there}")));
        }
    }
    let base = path.parent().unwrap_or(Path::new("."));
    let wanted = apps.into_iter().filter(|app| args.apps.is_empty() || args.apps.contains(&app.name));
    wanted.map(|app| planned(app, base)).collect()
}

/// What a manager found wrong with an app, shown where the file says it; none when it names nothing of the file.
pub(crate) fn placed(args: &SheetArgs, app: &AppId, problem: &Problem) -> Option<anyhow::Error> {
    let key = |line: &str| {
        let (key, what) = line.split_once(": ")?;
        let plain = key.contains('.') && key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_'));
        plain.then(|| (key.to_owned(), what.to_owned()))
    };
    let wrong: Vec<_> = problem.detail.lines().filter_map(key).collect();
    let text = fs::read_to_string(&args.file).ok().filter(|_| problem.status == 422 && !wrong.is_empty())?;
    let errors = file::locate(&text, &app.name, &wrong)?;
    let each: Vec<String> = errors.0.iter().map(|error| format!("{}, {error}", args.file.display())).collect();
    let hint = problem.hint.as_deref().map_or_else(String::new, |hint| format!("\n  → {hint}"));
    Some(exit::usage(format!("the manager refuses {app}; nothing was changed\n{}{hint}", each.join("\n"))))
}

fn planned(app: file::FileApp, base: &Path) -> anyhow::Result<Planned> {
    let files = local::find(&app.uploads, base)?;
    let mut spec = app.spec;
    spec.files = files.iter().map(|file| file.spec.clone()).collect();
    let app_id = AppId::in_default(app.name.as_str()).map_err(|error| exit::usage(error.to_string()))?;
    let note = note::of_this_command();
    let deploy =
        Deploy { spec, scale: app.scale, replicas: app.replicas, note, create_only: false, canary: app.canary };
    Ok(Planned { app: app_id, deploy, files })
}

fn unreadable(path: &Path, error: &io::Error) -> anyhow::Error {
    let path = path.display();
    match error.kind() {
        io::ErrorKind::NotFound => exit::usage(format!("there is no app file {path}\n  → -f FILE names another")),
        _ => exit::failure(exit::ERROR, format!("{path} cannot be read: {error}")),
    }
}

fn wrong(path: &Path, errors: &file::FileErrors) -> anyhow::Error {
    let each: Vec<String> = errors.0.iter().map(|error| format!("{}, {error}", path.display())).collect();
    exit::usage(format!("the app file is not right; nothing was sent\n{}", each.join("\n")))
}
