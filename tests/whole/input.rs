//! Bad input and faults at the edges: a clear error that says what to do, the right exit status, nothing changed.

use std::path::Path;

use sc_tests::{Cloud, cloud::StateIn, load::get, program, programs::run, secs};
use tokio::process::Command;

/// What each mistake says; all on one installation, on which nothing may come to be.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mistakes_are_named() {
    let cloud = Cloud::process(StateIn::Embedded).await;
    let matrix = program("sc-matrix").display().to_string();
    let text = cloud.write("text", "no program\n").display().to_string();
    let base = ["run", "web", "--bin", &matrix];
    let with = |more: &[&'static str]| -> Vec<String> {
        base.iter().copied().chain(more.iter().copied()).map(str::to_owned).collect()
    };
    let cases: Vec<(Vec<String>, &[&str])> = vec![
        (with(&["--port", "0"]), &["port"]),
        (with(&["--port", "70000"]), &["70000"]),
        (with(&["--port", "8080", "--host", "not a host"]), &["host"]),
        (with(&["--port", "8080", "--min", "5", "--max", "2"]), &["min", "max"]),
        (with(&["--port", "8080", "--memory", "lots"]), &["lots"]),
        (["run", "Web_1", "--bin", &matrix].map(str::to_owned).into(), &["Web_1", "lower-case"]),
        (["run", "web", "--bin", "/no/such/file"].map(str::to_owned).into(), &["/no/such/file"]),
        (["run", "web"].map(str::to_owned).into(), &["--image", "--bin"]),
        (["scale", "nosuch=3"].map(str::to_owned).into(), &["nosuch"]),
        (["rollback", "nosuch"].map(str::to_owned).into(), &["nosuch"]),
        (["logs", "nosuch"].map(str::to_owned).into(), &["nosuch"]),
    ];
    for (args, words) in cases {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let out = cloud.sc(&args).await;
        assert_ne!(out.code, 0, "{out:?}");
        out.says(words);
    }
    cloud.sc(&["describe", "nosuch"]).await.exits(4);
    cloud.sc(&["no-such-command"]).await.exits(2);

    // A file that is no program.
    let out = cloud.sc(&["run", "web", "--bin", &text, "--port", "8080"]).await;
    assert_ne!(out.code, 0, "{out:?}");
    cloud.sc(&["rm", "web"]).await;
}

/// The app file: line, column and a suggestion, before anything is sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn app_file_mistakes_are_named() {
    let cloud = Cloud::process(StateIn::Embedded).await;
    for (content, words) in [
        ("[app.web]\nimage = \"x\"\nprot = 80\n", &["sc.toml", "3", "prot", "port"][..]),
        ("[app.web]\nimage = 7\n", &["2"]),
        ("[app.Web]\nimage = \"x\"\n", &["Web"]),
        ("[app.web]\nimage = \"x\"\n[app.web.scale]\nmin = 4\nmax = 2\n", &["min", "max"]),
        ("[app.web\n", &["1"]),
        (&*policy("metric = \"cpus\"\ntarget = 1"), &["line 7", "cpus", "did you mean \"cpu\""]),
        (&*policy("metric = \"rps\"\ntarget = 0"), &["line 8", "above 0"]),
        (&*policy("metric = \"fixed\"\nreplicas = 9"), &["line 8", "above max 3"]),
        (&*policy("metric = \"schedule\"\ncron = \"61 * * * *\"\nfor = \"1h\"\nmin = 1"), &["line 8", "cron"]),
        (&*policy("metric = \"prometheus\"\nurl = \"prometheus\"\nquery = \"up\"\ntarget = 1"), &["line 8", "http://"]),
    ] {
        cloud.write("sc.toml", content);
        for command in ["validate", "deploy"] {
            let out = cloud.sc(&[command]).await;
            assert_ne!(out.code, 0, "{out:?}");
            out.says(words);
        }
    }
    // Whether a source can be reached the manager finds out: offline that is not known.
    let nobody = "metric = \"prometheus\"\nurl = \"http://127.0.0.1:1\"\nquery = \"up\"\ntarget = 1";
    cloud.write("sc.toml", &policy(nobody));
    cloud.sc(&["validate"]).await.ok();
    cloud.sc(&["deploy"]).await.exits(2).says(&["line 8", "url = \"http://127.0.0.1:1\"", "cannot be read"]);
    let apps = cloud.sc(&["ls", "-o", "json"]).await.ok().json();
    assert_eq!(apps.as_array().map(Vec::len), Some(0), "{apps}");
}

/// An app file with one policy, which begins on line 6.
fn policy(policy: &str) -> String {
    format!("[app.web]\nimage = \"x\"\nport = 80\n[app.web.scale]\nmax = 3\n[[app.web.scale.policy]]\n{policy}\n")
}

/// Two apps that claim one route: the second is refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_route_has_one_owner() {
    let cloud = Cloud::process(StateIn::Embedded).await;
    cloud.run("first", &["--host", "same.localhost"]).await;
    let matrix = program("sc-matrix").display().to_string();
    let second = ["run", "second", "--bin", &matrix, "--port", "8080", "--host", "same.localhost"];
    cloud.sc(&second).await.exits(7).says(&["same.localhost", "first"]);
    cloud.sc(&["describe", "second"]).await.exits(4);
}

/// A program that ends at once, and one that listens nowhere near its port: not converged, with the reason.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn apps_that_never_become_ready_on_docker() {
    let cloud = Cloud::docker().await;
    let dies =
        ["run", "dies", "--image", "sc/base:0.1.0", "--port", "8080", "--", "sh", "-c", "echo last words; exit 9"];
    cloud.sc(&dies).await.exits(3).says(&["last words", "9"]);
    let deaf =
        ["run", "deaf", "--image", "sc/base:0.1.0", "--port", "8080", "--ready-within", "5s", "--", "sleep", "1000"];
    cloud.sc(&deaf).await.exits(3).says(&["8080"]);
    let data = ["run", "data", "--image", "sc/base:0.1.0", "--port", "8080", "--", "/etc/passwd"];
    cloud.sc(&data).await.exits(3).says(&["/etc/passwd"]);
    let missing = ["run", "missing", "--image", "no-such-image:1", "--port", "8080"];
    let out = cloud.sc(&missing).await;
    assert!(out.code == 3 || out.code == 1, "{out:?}");
    out.says(&["no-such-image"]);
}

/// A wrong token, none, and nobody there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_are_turned_away() {
    let cloud = Cloud::process(StateIn::Embedded).await;
    let url = format!("http://{}", cloud.api);
    let at = |url: &str, token: &str| {
        let mut command = cloud.sc_command();
        command.args(["ls", "--manager", url]).env_remove("SC_MANAGER").env("SC_TOKEN", token);
        command
    };
    run(&mut at(&url, "wrong"), secs(30)).await.exits(6).says(&["token"]);
    let token = std::fs::read_to_string(cloud.path("manager/token")).expect("the manager's token");
    run(&mut at(&url, token.trim()), secs(30)).await.ok();
    let nobody = format!("http://{}", cloud.slot.addr());
    run(&mut at(&nobody, "x"), secs(60)).await.exits(5).says(&["sc up"]);
    mode_is(&cloud.path("manager/token"), 0o600);

    let (head, _) = get(cloud.api, "localhost", "/v1/apps").await.expect("an answer");
    assert_eq!(head.status, 401);
    let (head, _) = get(cloud.api, "localhost", "/healthz").await.expect("an answer");
    assert_eq!(head.status, 200);
    let (_, metrics) = get(cloud.api, "localhost", "/metrics").await.expect("an answer");
    assert!(metrics.contains("sc_manager"), "{metrics}");
}

fn mode_is(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    let found = std::fs::metadata(path).expect("the file").permissions().mode() & 0o777;
    assert_eq!(found, mode, "{}", path.display());
}

/// The manager's port is taken: it says by what, and ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_taken_port_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = taken.local_addr().expect("its address").to_string();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut manager = Command::new(program("sc-manager"));
    manager.args(["--store", "embedded", "--engine", "process", "--listen", &addr, "--data"]).arg(folder.path());
    let out = run(&mut manager, secs(30)).await;
    assert_ne!(out.code, 0, "{out:?}");
    out.says(&[&addr, "taken", "--listen"]);
    let mut proxy = Command::new(program("sc-proxy"));
    let routes = folder.path().join("routes.toml");
    std::fs::write(&routes, "").expect("an empty routes file");
    proxy.args(["--listen", &addr, "--threads", "1", "--admin", "127.0.0.1:0", "--routes-file"]).arg(routes);
    let out = run(&mut proxy, secs(30)).await;
    assert_ne!(out.code, 0, "{out:?}");
    out.says(&[&addr]);
}
