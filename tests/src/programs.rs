//! The programs under test, and running them.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::process::Command;

/// How a command ended and what it said.
#[derive(Debug, Clone)]
pub struct Out {
    /// The command, for messages.
    pub command: String,
    /// Exit status; 128 + n for signal n.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Out {
    /// Itself, if it went well.
    ///
    /// # Panics
    /// When it did not; shows what it said.
    #[track_caller]
    pub fn ok(self) -> Self {
        self.exits(0)
    }

    /// Itself, if it ended with this exit status.
    ///
    /// # Panics
    /// When it did not; shows what it said.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(
            self.code, code,
            "exit status of `{}`\n--- stdout\n{}--- stderr\n{}",
            self.command, self.stdout, self.stderr
        );
        self
    }

    /// Itself, if it said each of these words, on either stream and in any case.
    ///
    /// # Panics
    /// When one is missing; shows what it said.
    #[track_caller]
    pub fn says(self, words: &[&str]) -> Self {
        let said = format!("{}\n{}", self.stdout, self.stderr).to_lowercase();
        for word in words {
            assert!(said.contains(&word.to_lowercase()), "`{}` does not say {word:?}:\n{said}", self.command);
        }
        self
    }

    /// Its standard output as JSON.
    ///
    /// # Panics
    /// When it is none.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|e| panic!("`{}` gives no JSON ({e}):\n{}\n{}", self.command, self.stdout, self.stderr))
    }
}

/// Where a program under test is: in the folder that `SC_BIN_DIR` names (`tests/run` sets it), else in the target folder of
/// this test, static build first.
///
/// # Panics
/// When it is nowhere; says how to build it.
pub fn program(name: &str) -> PathBuf {
    let mut folders: Vec<PathBuf> = std::env::var_os("SC_BIN_DIR").map(PathBuf::from).into_iter().collect();
    if folders.is_empty() {
        // This test is at target/debug/deps/whole-…
        let test = std::env::current_exe().expect("the test's own path");
        let debug = test.ancestors().nth(2).expect("target/debug");
        let target = debug.parent().expect("target");
        folders.extend(
            ["x86_64-unknown-linux-gnu/release", "aarch64-unknown-linux-gnu/release", "release"]
                .map(|f| target.join(f)),
        );
        folders.push(debug.to_owned());
    }
    let found = folders.iter().map(|folder| folder.join(name)).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("{name} is not built; run deploy/images, or tests/run for everything"))
}

/// Runs a command to its end, at most `within`.
///
/// # Panics
/// When it cannot be started, or does not end in time.
pub async fn run(command: &mut Command, within: Duration) -> Out {
    let shown = format!("{:?}", command.as_std()).replace('"', "");
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).spawn();
    let child = child.unwrap_or_else(|e| panic!("cannot start `{shown}`: {e}"));
    let output = tokio::time::timeout(within, child.wait_with_output()).await;
    let output = output.unwrap_or_else(|_| panic!("`{shown}` did not end within {} s", within.as_secs()));
    let output = output.unwrap_or_else(|e| panic!("`{shown}`: {e}"));
    Out {
        command: shown,
        code: code(output.status),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

fn code(status: std::process::ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(-1)
}

/// The processes whose command line or environment holds this text, this one left out.
pub fn processes_with(mark: &str) -> Vec<i32> {
    let own = std::process::id().cast_signed();
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| *pid != own && holds(*pid, mark)).collect()
}

fn holds(pid: i32, mark: &str) -> bool {
    ["cmdline", "environ"].iter().any(|file| {
        let content = std::fs::read(Path::new("/proc").join(pid.to_string()).join(file)).unwrap_or_default();
        content.windows(mark.len()).any(|window| window == mark.as_bytes())
    })
}

/// Sends SIGKILL. A process that is gone is fine.
pub fn kill9(pid: i32) {
    if let Some(pid) = rustix::process::Pid::from_raw(pid) {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
}

/// A copy of the environment variable `PATH` in which none of these programs is found.
///
/// # Panics
/// When the folder for it cannot be made.
pub fn path_with_only(folder: &Path, names: &[&str]) -> std::ffi::OsString {
    for name in names {
        let found = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
            .map(|f| f.join(name))
            .find(|p| p.is_file());
        if let Some(found) = found {
            std::os::unix::fs::symlink(found, folder.join(name)).expect("a link to a program");
        }
    }
    folder.as_os_str().to_owned()
}

/// Arguments from texts of any kind.
pub fn args<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(items: I) -> Vec<std::ffi::OsString> {
    items.into_iter().map(|item| item.as_ref().to_owned()).collect()
}
