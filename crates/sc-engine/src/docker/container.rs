//! Containers: made, started, frozen, stopped, started again, removed.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{MutexGuard, PoisonError},
    time::Duration,
};

use bollard::{
    models::{
        ContainerCreateBody, ContainerInspectResponse, ContainerStateStatusEnum as Status, EndpointIpamConfig,
        EndpointSettings, HostConfig, HostConfigLogConfig, ImageInspect, NetworkingConfig, RestartPolicy,
        RestartPolicyNameEnum,
    },
    query_parameters::{
        ContainerArchiveInfoOptions, CreateContainerOptions, RemoveContainerOptions, StopContainerOptions,
    },
};
use sc_core::{
    ReplicaId,
    spec::{AppSpec, Source},
};
use tokio::time::Instant;

use super::{Failure, Inner, is, names, observe, refusal};
use crate::{EngineError, StartSpec, environment, only_program};

/// Processes and threads of a replica, unless it says otherwise.
const PIDS: i64 = 1024;
/// Docker's own log of a replica: this much in each of two files.
const LOG_FILE: &str = "10m";
/// Where programs without a path are looked for in an image that does not say.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Programs that are remembered as found.
const PROGRAMS_MAX: usize = 1_000;
/// How long Docker may take for the rest of a stop.
const STOP_MARGIN: Duration = Duration::from_secs(20);

/// A container to be started.
pub(super) struct Made {
    id: String,
    /// Its image and the first word of its command; none when what it runs does not follow from them alone.
    program: Option<(String, String)>,
}

impl Made {
    fn found(container: ContainerInspectResponse) -> Option<Self> {
        waiting(&container).then(|| Self { id: container.id.unwrap_or_default(), program: None })
    }
}

/// What a container runs, if nothing but its image decides that.
fn program(spec: &StartSpec, body: &ContainerCreateBody, image: &ImageInspect) -> Option<(String, String)> {
    let own = |words: Option<&Vec<String>>| words.and_then(|words| words.first()).cloned();
    let config = image.config.as_ref();
    let entrypoint = match &body.entrypoint {
        Some(words) => words.first().cloned(),
        None => own(config.and_then(|config| config.entrypoint.as_ref())),
    };
    let word = entrypoint.or(own(body.cmd.as_ref())).or(own(config.and_then(|config| config.cmd.as_ref())))?;
    // With a PATH of its own or with volumes, another file may be meant each time.
    let plain = spec.spec.volumes.is_empty() && !spec.spec.env.contains_key("PATH");
    image.id.clone().filter(|_| plain).map(|id| (id, word))
}

impl Inner {
    /// Makes a replica's container, unless there is one; gives it when it is to be started.
    pub(super) async fn make(&self, spec: &StartSpec) -> Result<Option<Made>, EngineError> {
        if let Some(found) = self.inspect(&spec.replica).await? {
            return Ok(Made::found(found));
        }
        let image = self.image(spec).await?;
        if let Some(network) = &spec.network {
            self.ensure_network(network).await?;
        }
        let name = names::container(&self.config.instance, &spec.replica);
        let body = self.body(spec, &image);
        if let Some(error) = self.missing_command(spec, &body, &image) {
            return Err(error);
        }
        let program = program(spec, &body, &image);
        let what = format!("make {name}");
        let options = CreateContainerOptions { name: Some(name.clone()), ..CreateContainerOptions::default() };
        let made = self.ask(&what, self.config.deadline, |docker| async move {
            docker.create_container(Some(options), body).await
        });
        match made.await {
            Ok(made) => Ok(Some(Made { id: made.id, program })),
            Err(Failure::Docker(error)) if is(&error, 409) => self.made_already(spec, &name).await,
            Err(Failure::Docker(error)) if is(&error, 400) => Err(refused(&error)),
            Err(failure) => Err(self.plain(&what, failure)),
        }
    }

    /// The name is taken: by this very replica, which another call is making or has made, or by something else.
    async fn made_already(&self, spec: &StartSpec, name: &str) -> Result<Option<Made>, EngineError> {
        let until = Instant::now() + self.config.deadline / 2;
        loop {
            // Docker gives the name away first; the container is seen only when it is complete.
            match self.named(name).await? {
                Some(found) if self.is_of(&found, &spec.replica) => return Ok(Made::found(found)),
                Some(_) => {
                    return Err(EngineError::refused(
                        format!("there is a container {name} that belongs to another installation"),
                        format!("Remove it (docker rm -f {name})"),
                    ));
                }
                None if Instant::now() > until => {
                    return Err(self.failed(format!("the name {name} is taken, and there is no such container")));
                }
                None => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// Starts a container that was made. A program that cannot run is a refusal, and the container is then an ended one.
    pub(super) async fn launch(&self, replica: &ReplicaId, made: &Made) -> Result<(), EngineError> {
        let known = made.program.as_ref().is_some_and(|program| self.programs().contains(program));
        let no_program = if known { None } else { self.no_program(&made.id).await? };
        if let (None, Some(program)) = (&no_program, &made.program) {
            self.programs().insert(program.clone());
        }
        let what = format!("start {replica}");
        let asked = made.id.clone();
        let started =
            self.ask(&what, self.config.deadline, |docker| async move { docker.start_container(&asked, None).await });
        match (started.await, no_program) {
            // Its init process has tried by now, and the container has ended or is about to.
            (Ok(()), Some(word)) => {
                Err(EngineError::refused(word, "Check the command, or give the program with --bin or --copy"))
            }
            (Ok(()), None) => Ok(()),
            (Err(Failure::Docker(error)), _) if never_starts(&error) => Err(refused(&error)),
            (Err(failure), _) => Err(self.plain(&what, failure)),
        }
    }

    fn programs(&self) -> MutexGuard<'_, BTreeSet<(String, String)>> {
        let mut programs = self.programs.lock().unwrap_or_else(PoisonError::into_inner);
        if programs.len() > PROGRAMS_MAX {
            programs.clear();
        }
        programs
    }

    /// Looks whether a container's program is in it and executable; gives what is wrong. Docker itself would say it
    /// only in the log, after the start.
    async fn no_program(&self, id: &str) -> Result<Option<String>, EngineError> {
        let asked = id.to_owned();
        let found =
            self.call("look at a new container", |docker| async move { docker.inspect_container(&asked, None).await });
        let found = found.await?;
        let config = found.config.unwrap_or_default();
        let words = config.entrypoint.unwrap_or_default().into_iter().chain(config.cmd.unwrap_or_default());
        let Some(word) = words.into_iter().next() else { return Ok(None) };
        let folder = config.working_dir.filter(|folder| !folder.is_empty()).unwrap_or_else(|| "/".to_owned());
        let path = config.env.iter().flatten().find_map(|pair| pair.strip_prefix("PATH="));
        let mut exists = false;
        for candidate in candidates(&word, &folder, path.unwrap_or(PATH)) {
            match self.mode(id, &candidate).await? {
                Some(Mode::Program) => return Ok(None),
                Some(Mode::Other) => exists = true,
                None => {}
            }
        }
        Ok(Some(match exists {
            true => format!("{word} is not executable"),
            false => format!("there is no program {word} in the container"),
        }))
    }

    /// What a path of a container is, links followed; none when there is nothing.
    async fn mode(&self, id: &str, path: &str) -> Result<Option<Mode>, EngineError> {
        let mut at = path.to_owned();
        for _ in 0..LINKS_MAX {
            let asked = (id.to_owned(), at.clone());
            let what = format!("look at {at}");
            let found = self.ask(&what, self.config.deadline, |docker| async move {
                let (id, path) = asked;
                docker.get_container_archive_info(&id, Some(ContainerArchiveInfoOptions { path })).await
            });
            match found.await {
                Ok(stat) if stat.file_mode & LINK != 0 => at = stat.link_target,
                Ok(stat) => return Ok(Some(stat_mode(stat.file_mode))),
                Err(Failure::Docker(error)) if is(&error, 404) => return Ok(None),
                // Docker cannot say it of this one: let it try.
                Err(Failure::Docker(_)) => return Ok(Some(Mode::Program)),
                Err(failure) => return Err(self.plain(&what, failure)),
            }
        }
        Ok(Some(Mode::Other))
    }

    fn missing_command(
        &self,
        spec: &StartSpec,
        body: &ContainerCreateBody,
        image: &ImageInspect,
    ) -> Option<EngineError> {
        let of_image = image.config.as_ref();
        let own = body.entrypoint.as_ref().is_none_or(|entrypoint| !entrypoint.is_empty());
        let entrypoint = of_image.and_then(|c| c.entrypoint.as_ref()).is_some_and(|words| !words.is_empty()) && own;
        let command = body.cmd.as_ref().or(of_image.and_then(|c| c.cmd.as_ref()).filter(|_| own));
        let nothing = !entrypoint && command.is_none_or(Vec::is_empty);
        nothing.then(|| {
            let what = match &spec.spec.source {
                Source::Image(image) => format!("no command is given, and the image {image} has none of its own"),
                Source::Files { .. } => "no command is given".to_owned(),
            };
            EngineError::refused(what, "Write the program and its arguments after --")
        })
    }

    fn body(&self, spec: &StartSpec, image: &ImageInspect) -> ContainerCreateBody {
        let app = &spec.spec;
        let now = crate::now_ms();
        let (entrypoint, cmd) = words(app);
        let env = environment(spec).into_iter().map(|(key, value)| format!("{key}={value}")).collect();
        ContainerCreateBody {
            image: image.id.clone(),
            entrypoint,
            cmd,
            env: Some(env),
            user: app.security.user.clone(),
            hostname: Some(format!("{}-{}", spec.replica.app.name, spec.replica.incarnation)),
            labels: Some(names::of_replica(&self.config.instance, &self.config.store_id, spec, now)),
            host_config: Some(self.host_config(spec)),
            networking_config: spec.network.as_ref().map(|_| self.endpoint(spec)),
            ..ContainerCreateBody::default()
        }
    }

    fn endpoint(&self, spec: &StartSpec) -> NetworkingConfig {
        let ipam = EndpointIpamConfig { ipv4_address: Some(spec.addr.ip().to_string()), ..Default::default() };
        let aliases = Some(vec![spec.replica.app.name.to_string()]);
        let endpoint = EndpointSettings { ipam_config: Some(ipam), aliases, ..EndpointSettings::default() };
        let name = names::network(&self.config.instance, &spec.replica.app);
        NetworkingConfig { endpoints_config: Some(HashMap::from([(name, endpoint)])) }
    }

    fn host_config(&self, spec: &StartSpec) -> HostConfig {
        let (resources, security) = (&spec.spec.resources, &spec.spec.security);
        let memory = resources.memory.map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX));
        let log = HashMap::from([("max-size", LOG_FILE), ("max-file", "2")]);
        let log = log.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        HostConfig {
            nano_cpus: resources.cpus.map(|cpus| (cpus * 1e9).round() as i64),
            memory,
            // The same again: no swap.
            memory_swap: memory,
            pids_limit: Some(resources.pids.map_or(PIDS, i64::from)),
            cap_drop: Some(vec!["ALL".to_owned()]),
            cap_add: Some(security.cap_add.clone()),
            security_opt: (!security.new_privileges).then(|| vec!["no-new-privileges".to_owned()]),
            readonly_rootfs: Some(security.read_only),
            tmpfs: security.read_only.then(|| HashMap::from([("/tmp".to_owned(), String::new())])),
            binds: Some(spec.spec.volumes.clone()),
            log_config: Some(HostConfigLogConfig { typ: Some("json-file".to_owned()), config: Some(log) }),
            // The manager decides what is started again.
            restart_policy: Some(RestartPolicy { name: Some(RestartPolicyNameEnum::NO), maximum_retry_count: None }),
            // As process 1 a program without a handler would ignore SIGTERM.
            init: Some(true),
            network_mode: Some(match spec.network {
                Some(_) => names::network(&self.config.instance, &spec.replica.app),
                None => "none".to_owned(),
            }),
            ..HostConfig::default()
        }
    }

    /// Freezes or unfreezes a container.
    pub(super) async fn freeze(&self, replica: &ReplicaId, freeze: bool) -> Result<(), EngineError> {
        let found = self.inspect(replica).await?.ok_or_else(|| EngineError::NoSuchReplica(replica.clone()))?;
        match (observe::status(&found), freeze) {
            (Some(Status::PAUSED), true) | (Some(Status::RUNNING), false) => return Ok(()),
            (Some(Status::PAUSED | Status::RUNNING), _) => {}
            _ => return Err(self.failed(format!("{replica} is not running"))),
        }
        let id = found.id.unwrap_or_default();
        let what = format!("{} {replica}", if freeze { "pause" } else { "wake" });
        self.call(&what, |docker| async move {
            match freeze {
                true => docker.pause_container(&id).await,
                false => docker.unpause_container(&id).await,
            }
        })
        .await
    }

    /// Stops a container and keeps it. Docker gives its address back meanwhile; nobody else gets it, since the plan hands out
    /// all addresses of the network and knows of this one.
    pub(super) async fn park(&self, replica: &ReplicaId, grace_ms: u64) -> Result<(), EngineError> {
        let found = self.inspect(replica).await?.ok_or_else(|| EngineError::NoSuchReplica(replica.clone()))?;
        if observe::status(&found) == Some(Status::PAUSED) {
            // A frozen process hears no signal.
            self.freeze(replica, false).await?;
        }
        self.stop(replica, &found.id.unwrap_or_default(), grace_ms).await
    }

    /// Starts a container that has ended. It has its address again, by the settings it was made with.
    pub(super) async fn revive(&self, replica: &ReplicaId) -> Result<(), EngineError> {
        let found = self.inspect(replica).await?.ok_or_else(|| EngineError::NoSuchReplica(replica.clone()))?;
        match observe::status(&found) {
            Some(Status::EXITED | Status::CREATED) => {}
            Some(Status::RUNNING | Status::PAUSED) => return Ok(()),
            _ => return Err(self.failed(format!("{replica} is neither running nor stopped"))),
        }
        let id = found.id.unwrap_or_default();
        let what = format!("start {replica} again");
        let started =
            self.ask(&what, self.config.deadline, |docker| async move { docker.start_container(&id, None).await });
        match started.await {
            Ok(()) => Ok(()),
            // It runs already.
            Err(Failure::Docker(error)) if is(&error, 304) => Ok(()),
            Err(Failure::Docker(error)) if never_starts(&error) => Err(refused(&error)),
            Err(failure) => Err(self.plain(&what, failure)),
        }
    }

    /// Stops a container, keeps the end of its log, removes it.
    pub(super) async fn end(&self, replica: &ReplicaId, grace_ms: u64) -> Result<(), EngineError> {
        let Some(found) = self.inspect(replica).await? else { return Ok(()) };
        let id = found.id.clone().unwrap_or_default();
        if observe::status(&found) == Some(Status::PAUSED) {
            // A frozen process hears no signal.
            self.freeze(replica, false).await?;
        }
        if !waiting(&found) {
            self.stop(replica, &id, grace_ms).await?;
            self.keep_log(replica, &id).await;
        }
        self.remove(replica, &id).await
    }

    async fn stop(&self, replica: &ReplicaId, id: &str, grace_ms: u64) -> Result<(), EngineError> {
        let seconds = grace_ms.div_ceil(1000).min(3600);
        let deadline = Duration::from_secs(seconds) + STOP_MARGIN;
        let what = format!("stop {replica}");
        let id = id.to_owned();
        let stopped = self.ask(&what, deadline, |docker| async move {
            let options = StopContainerOptions { t: Some(seconds as i32), ..StopContainerOptions::default() };
            docker.stop_container(&id, Some(options)).await
        });
        match stopped.await {
            Ok(()) => Ok(()),
            Err(Failure::Docker(error)) if is(&error, 304) || is(&error, 404) => Ok(()),
            Err(failure) => Err(self.plain(&what, failure)),
        }
    }

    async fn remove(&self, replica: &ReplicaId, id: &str) -> Result<(), EngineError> {
        let what = format!("remove {replica}");
        let asked = id.to_owned();
        let removed = self.ask(&what, self.config.deadline, |docker| async move {
            let options = RemoveContainerOptions { force: true, v: true, link: false };
            docker.remove_container(&asked, Some(options)).await
        });
        match removed.await {
            Ok(()) => Ok(()),
            Err(Failure::Docker(error)) if is(&error, 404) => Ok(()),
            // Somebody else is at it.
            Err(Failure::Docker(error)) if is(&error, 409) => self.gone(replica).await,
            Err(failure) => Err(self.plain(&what, failure)),
        }
    }

    /// Waits until a container that is being removed is gone.
    async fn gone(&self, replica: &ReplicaId) -> Result<(), EngineError> {
        let gone = async {
            while self.inspect(replica).await?.is_some() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Ok(())
        };
        let deadline = self.config.deadline;
        tokio::time::timeout(deadline, gone)
            .await
            .unwrap_or_else(|_| Err(self.timed_out(&format!("remove {replica}"), deadline)))
    }
}

/// Entrypoint and command. An image's entrypoint is kept, as with `docker run IMAGE ARGS`; files have none.
fn words(app: &AppSpec) -> (Option<Vec<String>>, Option<Vec<String>>) {
    let given = (!app.command.is_empty()).then(|| app.command.clone());
    match &app.source {
        Source::Image(_) => (None, given),
        Source::Files { .. } => {
            let only = || only_program(app).map(|path| vec![path.to_owned()]);
            (Some(Vec::new()), given.or_else(only))
        }
    }
}

/// Whether a container was made and never started, and no start of it failed.
fn waiting(container: &ContainerInspectResponse) -> bool {
    let state = container.state.as_ref();
    observe::status(container) == Some(Status::CREATED)
        && state.and_then(|state| state.error.as_ref()).is_none_or(|error| error.is_empty() || !final_words(error))
}

/// Whether Docker's words on a failed start mean that it can never succeed.
fn final_words(words: &str) -> bool {
    [
        "exec: ",
        "executable file",
        "no such file or directory",
        "permission denied",
        "exec format",
        "unable to find user",
    ]
    .iter()
    .any(|sign| words.contains(sign))
}

fn never_starts(error: &bollard::errors::Error) -> bool {
    refusal(error).is_some_and(|(status, words)| status == 400 || final_words(words))
}

fn refused(error: &bollard::errors::Error) -> EngineError {
    let words = refusal(error).map_or("", |(_, words)| words);
    EngineError::refused(format!("Docker refuses: {}", words.trim()), "Change the app and deploy it again")
}

enum Mode {
    Program,
    Other,
}

/// Docker writes a file's mode as Go does: these bits say folder and link.
const FOLDER: u32 = 1 << 31;
const LINK: u32 = 1 << 27;
/// Links are followed so far.
const LINKS_MAX: usize = 8;

fn stat_mode(mode: u32) -> Mode {
    if mode & FOLDER == 0 && mode & 0o111 != 0 { Mode::Program } else { Mode::Other }
}

/// The paths that the first word of a command may mean.
fn candidates(word: &str, folder: &str, path: &str) -> Vec<String> {
    if word.starts_with('/') {
        return vec![word.to_owned()];
    }
    if word.contains('/') {
        return vec![format!("{}/{word}", folder.trim_end_matches('/'))];
    }
    path.split(':').take(16).map(|folder| format!("{}/{word}", folder.trim_end_matches('/'))).collect()
}

/// Says that a call is changing a replica, as long as it lives.
pub(super) struct UnderWay<'a>(&'a Inner, ReplicaId);

impl<'a> UnderWay<'a> {
    pub(super) fn begin(inner: &'a Inner, replica: &ReplicaId) -> Self {
        inner.busy.lock().unwrap_or_else(PoisonError::into_inner).insert(replica.clone());
        Self(inner, replica.clone())
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.busy.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_a_word_means() {
        assert_eq!(candidates("/bin/x", "/w", "/a:/b"), ["/bin/x"]);
        assert_eq!(candidates("./x", "/w/", "/a:/b"), ["/w/./x"]);
        assert_eq!(candidates("x", "/w", "/a:/b/"), ["/a/x", "/b/x"]);
    }

    #[test]
    fn an_image_keeps_its_entrypoint_and_files_have_none() {
        let mut app: AppSpec = serde_json::from_value(serde_json::json!({ "source": { "image": "i" } })).unwrap();
        assert_eq!(words(&app), (None, None));
        app.command = vec!["serve".to_owned(), "a b".to_owned()];
        assert_eq!(words(&app), (None, Some(app.command.clone())));
        app.source = Source::Files { base: None };
        assert_eq!(words(&app), (Some(vec![]), Some(app.command.clone())));
    }
}
