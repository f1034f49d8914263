//! The real program: exit statuses, what goes to which output, completions, and a whole demo.

use std::{
    io::Write,
    path::Path,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

/// `sc` with a home of its own and nothing of the environment that names a manager.
fn sc(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sc"));
    command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", home).env("XDG_RUNTIME_DIR", home);
    command.env("TMPDIR", home).current_dir(home).stdin(Stdio::null());
    command
}

fn home() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("sc-cli-").tempdir().expect("a temporary folder")
}

fn run(command: &mut Command) -> Output {
    command.output().expect("sc to start")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[track_caller]
fn ends(output: &Output, code: i32, says: &[&str]) {
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{error}");
    for word in says {
        assert!(error.contains(word), "{word:?} is missing in {error}");
    }
}

#[test]
fn mistakes_and_absent_managers_have_their_status() {
    let home = home();
    ends(&run(sc(home.path()).arg("no-such-command")), 2, &["no-such-command"]);
    ends(&run(sc(home.path()).args(["run", "Web_1", "--image", "x"])), 2, &["Web_1", "lower-case"]);
    ends(&run(sc(home.path()).args(["run", "web"])), 2, &["--image", "--bin"]);
    ends(&run(sc(home.path()).args(["scale", "web=many"])), 2, &["many"]);
    ends(&run(sc(home.path()).args(["run", "web", "--bin", "/no/such/file"])), 2, &["/no/such/file"]);
    ends(&run(sc(home.path()).arg("ls")), 5, &["sc up", "sc demo"]);
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port");
    ends(&run(sc(home.path()).args(["ls", "--manager", &format!("http://{nobody}")])), 5, &["sc up"]);
    assert_eq!(run(sc(home.path()).arg("version")).status.code(), Some(0));
}

#[test]
fn an_app_file_is_refused_with_line_and_caret() {
    let home = home();
    std::fs::write(home.path().join("sc.toml"), "[app.web]\nimage = \"x\"\nprot = 80\n").expect("a file");
    for command in ["validate", "deploy"] {
        let output = run(sc(home.path()).arg(command));
        ends(&output, 2, &["sc.toml", "line 3", "did you mean `port`", "^^^^"]);
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn completions_are_scripts() {
    let home = home();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        assert!(run(sc(home.path()).args(["completion", shell])).stdout.len() > 1_000, "{shell}");
    }
    let script = run(sc(home.path()).args(["completion", "bash"])).stdout;
    let mut bash = Command::new("bash").arg("-n").stdin(Stdio::piped()).spawn().expect("bash");
    bash.stdin.take().expect("its input").write_all(&script).expect("to write");
    assert!(bash.wait().expect("bash to end").success());
}

/// Processes that name this folder in their command line or environment.
fn left_over(folder: &Path) -> usize {
    let mark = folder.display().to_string();
    let entries = std::fs::read_dir("/proc").expect("/proc");
    let names = |path: std::path::PathBuf| {
        ["cmdline", "environ"]
            .iter()
            .any(|file| text(&std::fs::read(path.join(file)).unwrap_or_default()).contains(&mark))
    };
    entries.flatten().filter(|entry| names(entry.path())).count()
}

#[test]
fn a_demo_serves_all_and_leaves_nothing() {
    let home = home();
    let demo = sc(home.path())
        .args(["demo", "--for", "8s", "-o", "json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut demo = demo.expect("the demo to start");
    // Other commands find it by themselves, and paint nothing where nobody looks.
    let until = Instant::now() + Duration::from_secs(60);
    let listed = loop {
        let listed = run(sc(home.path()).args(["ps", "web"]));
        if listed.status.success() && text(&listed.stdout).contains("web-1") {
            break Some(listed);
        }
        if Instant::now() > until || demo.try_wait().expect("its state").is_some() {
            break None;
        }
    };
    let missing = listed.as_ref().map(|_| run(sc(home.path()).args(["describe", "nosuch"])).status.code());
    let output = demo.wait_with_output().expect("the demo to end");
    ends(&output, 0, &[]);
    let listed = listed.expect("sc ps to find the demo");
    assert!(!text(&listed.stdout).contains('\u{1b}'), "no colours where nobody looks");
    assert_eq!(missing, Some(Some(4)), "an app that does not exist");
    let summary: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one JSON object and nothing else");
    for key in ["requests", "failed", "p50_ms", "p99_ms", "max_replicas", "final_replicas", "decisions"] {
        assert!(summary[key].is_number(), "{key} in {summary}");
    }
    assert_eq!(summary["failed"], 0, "{summary}");
    assert!(summary["requests"].as_u64().is_some_and(|n| n > 20), "{summary}");
    assert_eq!(left_over(home.path()), 0);
    let data = std::fs::read_dir(home.path()).expect("the home").flatten();
    assert!(data.into_iter().all(|entry| entry.file_name() == "sc-demo"), "no data is left");
}
