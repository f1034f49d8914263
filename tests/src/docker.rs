//! The `docker` command, for what a person or a fault does behind sc's back.

use tokio::process::Command;

use crate::{
    Out,
    programs::{kill9, run},
    secs,
};

/// Runs `docker ARGS…`.
pub async fn docker(args: &[&str]) -> Out {
    run(Command::new("docker").args(args), secs(60)).await
}

/// A container as `docker ps` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// `running`, `exited`, …
    pub state: String,
    /// The label `sc.app`.
    pub app: String,
    /// The label `sc.replica`.
    pub replica: String,
}

/// Every container of an installation, stopped ones too.
pub async fn containers(instance: &str) -> Vec<Container> {
    let format = "{{.ID}}\t{{.Names}}\t{{.State}}\t{{.Label \"sc.app\"}}\t{{.Label \"sc.replica\"}}";
    let filter = format!("label=sc.instance={instance}");
    let out = docker(&["ps", "-a", "--no-trunc", "--filter", &filter, "--format", format]).await.ok();
    let mut containers: Vec<_> = out.stdout.lines().filter_map(container).collect();
    containers.sort_by(|a, b| a.name.cmp(&b.name));
    containers
}

fn container(line: &str) -> Option<Container> {
    let mut fields = line.split('\t').map(str::to_owned);
    Some(Container {
        id: fields.next()?,
        name: fields.next()?,
        state: fields.next()?,
        app: fields.next()?,
        replica: fields.next()?,
    })
}

/// The containers of one app's replicas.
pub async fn replicas(instance: &str, app: &str) -> Vec<Container> {
    containers(instance).await.into_iter().filter(|c| c.app == app && !c.replica.is_empty()).collect()
}

/// Kills a container's first process as a crash would: Docker's restart policy goes on holding.
///
/// # Panics
/// When there is no such container, or it does not run.
pub async fn crash(name: &str) {
    let out = docker(&["inspect", "-f", "{{.State.Pid}}", name]).await.ok();
    let pid: i32 = out.stdout.trim().parse().expect("a process id");
    assert!(pid > 0, "{name} does not run");
    kill9(pid);
}

/// Removes everything that an installation left. For `Drop`: blocks, and takes failures as they are.
pub fn forget(instance: &str) {
    let label = format!("label=sc.instance={instance}");
    let name = format!("name={instance}-");
    for filter in [&label, &name] {
        remove(&["ps", "-aq", "--filter", filter], &["rm", "-fv"]);
    }
    for filter in [&label, &name] {
        remove(&["network", "ls", "-q", "--filter", filter], &["network", "rm"]);
        remove(&["volume", "ls", "-q", "--filter", filter], &["volume", "rm", "-f"]);
    }
}

fn remove(list: &[&str], remove: &[&str]) {
    let Ok(listed) = std::process::Command::new("docker").args(list).output() else { return };
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let names: Vec<&str> = listed.split_whitespace().collect();
    if !names.is_empty() {
        let _ = std::process::Command::new("docker").args(remove).args(names).output();
    }
}
