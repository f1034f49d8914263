//! What `deploy/` holds beside the images: the compose file and the systemd units.

use std::path::{Path, PathBuf};

use sc_tests::{
    Out,
    docker::{self, containers, docker},
    load::get,
    poll, program,
    programs::run,
    secs,
    slot::Slot,
};
use tokio::process::Command;

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository").join("deploy")
}

/// An installation by the compose file, with names, ports and addresses of its own.
struct Composed {
    name: String,
    variables: Vec<(&'static str, String)>,
    home: tempfile::TempDir,
    /// `docker compose` where Docker has it, else `docker-compose`.
    command: Vec<&'static str>,
    _slot: Slot,
}

impl Composed {
    async fn new() -> Self {
        let slot = Slot::take();
        let addr = || slot.addr().to_string();
        let variables = vec![
            ("SC_INSTANCE", slot.instance()),
            ("SC_HTTP", addr()),
            ("SC_LISTEN", addr()),
            ("SC_ADMIN", addr()),
            ("SC_ETCD_CLIENT", addr()),
            ("SC_ETCD_PEER", addr()),
            ("SC_POOL", slot.pool()),
        ];
        let plugin = run(Command::new("docker").args(["compose", "version"]), secs(30)).await.code == 0;
        let command = if plugin { vec!["docker", "compose"] } else { vec!["docker-compose"] };
        let home = tempfile::tempdir().expect("a temporary folder");
        Self { name: slot.instance(), variables, home, command, _slot: slot }
    }

    fn get(&self, name: &str) -> &str {
        self.variables.iter().find(|(known, _)| *known == name).map_or("", |(_, value)| value)
    }

    async fn compose(&self, words: &[&str]) -> Out {
        let file = deploy().join("compose.yaml");
        let mut command = Command::new(self.command[0]);
        command.args(&self.command[1..]).args(["-p", &self.name, "-f"]).arg(file).args(words);
        run(command.envs(self.variables.clone()), secs(120)).await
    }

    async fn sc(&self, words: &[&str]) -> Out {
        // As the file's own words say.
        let token = format!("docker cp {}-manager:/data/token - | tar xO", self.name);
        let token = run(Command::new("sh").args(["-c", &token]), secs(30)).await.stdout;
        let mut command = Command::new(program("sc"));
        command
            .args(words)
            .env("SC_MANAGER", format!("http://{}", self.get("SC_LISTEN")))
            .env("SC_TOKEN", token.trim());
        run(command.env("HOME", self.home.path()).env_remove("XDG_CONFIG_HOME"), secs(120)).await
    }
}

impl Drop for Composed {
    fn drop(&mut self) {
        docker::forget(&self.name);
    }
}

/// Up by compose, an app, a request, down by compose: nothing is left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_compose_file_makes_an_installation() {
    let cloud = Composed::new().await;
    cloud.compose(&["up", "-d"]).await.ok();
    let names = containers(&cloud.name).await.into_iter().map(|c| c.name).collect::<Vec<_>>();
    assert_eq!(names, ["etcd", "manager", "proxy"].map(|part| format!("{}-{part}", cloud.name)));
    let works = async || (cloud.sc(&["ls"]).await.code == 0).then_some(());
    poll(secs(60), "the manager to answer commands", works).await;

    let app =
        ["run", "web", "--image", "sc/matrix:0.1.0", "--port", "8080", "--host", "web.localhost", "--replicas", "2"];
    cloud.sc(&app).await.ok();
    let http = cloud.get("SC_HTTP").parse().expect("an address");
    let (head, body) = get(http, "web.localhost", "/multiply?n=10").await.expect("an answer");
    assert_eq!(head.status, 200, "{body}");
    cloud.sc(&["doctor"]).await.ok().says(&["proxy", "etcd", "of 512 mib"]);

    // A second `up` changes nothing, and the state outlives the containers.
    let before = containers(&cloud.name).await;
    cloud.compose(&["up", "-d"]).await.ok();
    assert_eq!(containers(&cloud.name).await, before);
    cloud.compose(&["up", "-d", "--force-recreate", "manager"]).await.ok();
    poll(secs(60), "the new manager to answer commands", works).await;
    cloud.sc(&["ls"]).await.ok().says(&["web"]);

    cloud.sc(&["rm", "web"]).await.ok();
    let gone = async || docker::replicas(&cloud.name, "web").await.is_empty().then_some(());
    poll(secs(60), "the app's containers to be gone", gone).await;
    cloud.compose(&["down", "-v"]).await.ok();
    assert_eq!(containers(&cloud.name).await, []);
    let volumes = docker(&["volume", "ls", "-q", "--filter", &format!("name={}-", cloud.name)]).await.ok();
    assert_eq!(volumes.stdout, "", "volumes are left");
}

/// The units as systemd reads them, with the programs where this test has them.
#[tokio::test]
async fn systemd_takes_the_units() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let programs = program("sc-manager").parent().expect("a folder").display().to_string();
    let mut units = Vec::new();
    for entry in std::fs::read_dir(deploy().join("systemd")).expect("the units").flatten() {
        let text = std::fs::read_to_string(entry.path()).expect("a unit").replace("/usr/local/bin", &programs);
        units.push(folder.path().join(entry.file_name()));
        std::fs::write(&units[units.len() - 1], text).expect("a copy");
    }
    assert_eq!(units.len(), 3);
    let out = run(Command::new("systemd-analyze").arg("verify").args(&units), secs(60)).await.ok();
    let said = out.stdout + &out.stderr;
    let ours = said.lines().filter(|line| line.contains("sc-")).collect::<Vec<_>>();
    assert!(ours.is_empty(), "{said}");
}

/// Every variable that the units set is one that the program knows.
#[tokio::test]
async fn the_units_set_what_the_programs_know() {
    for name in ["sc-manager", "sc-proxy"] {
        let help = run(Command::new(program(name)).arg("--help"), secs(30)).await.ok().stdout;
        let unit = std::fs::read_to_string(deploy().join(format!("systemd/{name}.service"))).expect("the unit");
        let set = unit.lines().filter_map(|line| line.strip_prefix("Environment=")).flat_map(str::split_whitespace);
        let set = set.filter_map(|pair| pair.split_once('=')).collect::<Vec<_>>();
        assert!(set.len() > 3, "{unit}");
        for (variable, _) in set {
            assert!(help.contains(&format!("[env: {variable}=")), "{name} does not know {variable}");
        }
    }
}
