//! This host's Docker: the few calls that `sc up`, `sc down` and `sc doctor` make. Each is idempotent.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use super::{
    bridge::{self, Bridge},
    container,
    hand_over::{self, Seen, Step},
    parts::{INSTANCE, Part},
};
use crate::exit;
use anyhow::Context as _;
use bollard::{
    API_DEFAULT_VERSION, Docker,
    errors::Error,
    models::{
        ContainerInspectResponse, ContainerSummary, ContainerUpdateBody, Ipam, IpamConfig, NetworkCreateRequest,
        RestartPolicy, RestartPolicyNameEnum, VolumeCreateRequest,
    },
    query_parameters::{
        CreateContainerOptions, DownloadFromContainerOptions, ListContainersOptions, ListNetworksOptions,
        ListVolumesOptions, RemoveContainerOptions, RemoveVolumeOptions, RenameContainerOptions, StopContainerOptions,
        UploadToContainerOptions,
    },
};
use futures_util::TryStreamExt;

/// Where Docker listens unless `DOCKER_HOST` says otherwise.
const DEFAULT_HOST: &str = "unix:///var/run/docker.sock";
/// The longest a call may take.
const LIMIT: Duration = Duration::from_secs(60);
/// The largest file that is copied out of a container.
const FILE_MAX: usize = 64 << 10;

/// This host's Docker.
pub(crate) struct Host {
    docker: Docker,
}

/// A container of the installation.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub id: String,
    pub name: String,
    pub running: bool,
    pub status: String,
    /// Of an app, rather than one of ours.
    pub replica: bool,
}

/// Where Docker is: `DOCKER_HOST`, else its socket.
pub(crate) fn address() -> String {
    std::env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty()).unwrap_or_else(|| DEFAULT_HOST.to_owned())
}

fn is(error: &Error, status: u16) -> bool {
    matches!(error, Error::DockerResponseServerError { status_code, .. } if *status_code == status)
}

impl Host {
    /// Connects.
    ///
    /// # Errors
    /// When there is no Docker, or it may not be used; says what to do.
    pub async fn connect() -> anyhow::Result<Self> {
        let address = address();
        let open = || match address.strip_prefix("unix://") {
            Some(path) => Docker::connect_with_unix(path, LIMIT.as_secs(), API_DEFAULT_VERSION),
            None => Docker::connect_with_http(&address, LIMIT.as_secs(), API_DEFAULT_VERSION),
        };
        let connect = async { open()?.negotiate_version().await };
        let connected = tokio::time::timeout(Duration::from_secs(10), connect).await;
        let docker = connected.map_err(|_| anyhow::anyhow!("no answer within 10 s")).and_then(|docker| Ok(docker?));
        let docker = docker.map_err(|error| {
            let hint = if format!("{error:#} {:?}", error).to_lowercase().contains("permission denied") {
                "you may not use it: add yourself to the group docker, or use sudo"
            } else {
                "is it running? systemctl start docker (Debian: apt-get install docker.io). DOCKER_HOST names another; \
                 `sc demo` needs none"
            };
            exit::failure(exit::ERROR, format!("Docker at {address} does not answer: {error:#}\n  → {hint}"))
        })?;
        Ok(Self { docker })
    }

    /// What the engine is.
    pub async fn version(&self) -> anyhow::Result<String> {
        let version = self.docker.version().await?;
        Ok(format!("{} (API {})", version.version.unwrap_or_default(), version.api_version.unwrap_or_default()))
    }

    /// The id of a local image, if there is one of that name.
    pub async fn image_id(&self, name: &str) -> anyhow::Result<Option<String>> {
        match self.docker.inspect_image(name).await {
            Ok(image) => Ok(image.id),
            Err(error) if is(&error, 404) => Ok(None),
            Err(error) => Err(error).with_context(|| format!("the image {name}")),
        }
    }

    /// Makes sure that there is a volume; gives its labels. Those of one that is there already stay.
    pub async fn volume(&self, name: &str, labels: HashMap<String, String>) -> anyhow::Result<HashMap<String, String>> {
        let what = || format!("the volume {name}");
        if let Some(labels) = self.volume_labels(name).await? {
            return Ok(labels);
        }
        let request = VolumeCreateRequest { name: Some(name.to_owned()), labels: Some(labels), ..Default::default() };
        Ok(self.docker.create_volume(request).await.with_context(what)?.labels)
    }

    /// The labels of a volume, if there is one of that name.
    pub async fn volume_labels(&self, name: &str) -> anyhow::Result<Option<HashMap<String, String>>> {
        match self.docker.inspect_volume(name).await {
            Ok(volume) => Ok(Some(volume.labels)),
            Err(error) if is(&error, 404) => Ok(None),
            Err(error) => Err(error).with_context(|| format!("the volume {name}")),
        }
    }

    /// Makes sure that a container is there and runs as it should. Says what was done, if anything.
    pub async fn ensure(&self, part: &Part, instance: &str) -> anyhow::Result<Option<&'static str>> {
        let what = || format!("the container {}", part.name);
        let image = self.image_id(&part.image).await?.with_context(|| format!("the image {} is gone", part.image))?;
        if part.hands_over && self.hand_over(part, instance, &image).await? {
            return Ok(Some("handed over to a new one"));
        }
        let mut done = "made";
        match self.docker.inspect_container(&part.name, None).await {
            Ok(found) => {
                let labels = found.config.as_ref().and_then(|config| config.labels.as_ref());
                let ours = labels.and_then(|labels| labels.get(INSTANCE)).is_some_and(|name| name == instance);
                anyhow::ensure!(
                    ours,
                    "there is a container {} that is not of this installation; remove it, or use --instance",
                    part.name
                );
                let running = found.state.as_ref().and_then(|state| state.running).unwrap_or(false);
                if container::is_current(labels, part, &image) && self.is_in_place(&found, part).await? {
                    if running {
                        return Ok(None);
                    }
                    self.docker.start_container(&part.name, None).await.with_context(what)?;
                    return Ok(Some("started"));
                }
                self.make_way(part).await?;
                self.remove(&part.name).await?;
                done = "replaced";
            }
            Err(error) if is(&error, 404) => self.make_way(part).await?,
            Err(error) => return Err(error).with_context(what),
        }
        self.create(&part.name, part, instance, &image).await.with_context(what)?;
        self.docker.start_container(&part.name, None).await.with_context(what)?;
        Ok(Some(done))
    }

    /// Makes the container of a part, not started, with its files in it.
    async fn create(&self, name: &str, part: &Part, instance: &str, image: &str) -> anyhow::Result<()> {
        let options = CreateContainerOptions { name: Some(name.to_owned()), ..Default::default() };
        self.docker.create_container(Some(options), container::body(part, instance, image)).await?;
        if !part.files.is_empty() {
            self.put(name, &part.files).await?;
        }
        Ok(())
    }

    /// Replaces a container that hands over, see [`hand_over`]; also finishes what an earlier call began. Whether it did
    /// anything.
    async fn hand_over(&self, part: &Part, instance: &str, image: &str) -> anyhow::Result<bool> {
        let (name, next) = (&part.name, format!("{}-next", part.name));
        let what = || format!("the container {name} hands over to {next}");
        let (mut done, mut began) = (false, false);
        let mut since = None;
        loop {
            let seen = (self.seen(name, part, instance, image).await?, self.seen(&next, part, instance, image).await?);
            let step = hand_over::step(seen.0, seen.1, since, Instant::now());
            done |= !matches!(step, Step::Done | Step::GiveUp);
            match step {
                Step::Done => return Ok(done),
                Step::Begin => {
                    self.create(&next, part, instance, image).await.with_context(what)?;
                    self.restarts(name, false).await.with_context(what)?;
                    self.docker.start_container(&next, None).await.with_context(what)?;
                    began = true;
                }
                Step::Wait => {
                    since.get_or_insert_with(Instant::now);
                    tokio::time::sleep(hand_over::PERIOD).await;
                }
                Step::GiveUp => {
                    let words = self.last_words(&next).await;
                    self.remove(&next).await?;
                    self.restarts(name, true).await.with_context(what)?;
                    if began {
                        let text = format!("a new {name} did not take over, the old one serves on; it said\n{words}");
                        return Err(exit::failure(exit::NOT_CONVERGED, text));
                    }
                }
                Step::RemoveOld => self.remove(name).await?,
                Step::Rename => {
                    let options = RenameContainerOptions { name: name.clone() };
                    self.docker.rename_container(&next, options).await.with_context(what)?;
                }
            }
        }
    }

    /// A container as it is found; none when there is none.
    async fn seen(&self, name: &str, part: &Part, instance: &str, image: &str) -> anyhow::Result<Option<Seen>> {
        let found = match self.docker.inspect_container(name, None).await {
            Err(error) if is(&error, 404) => return Ok(None),
            other => other.with_context(|| format!("the container {name}"))?,
        };
        let labels = found.config.as_ref().and_then(|config| config.labels.as_ref());
        let ours = labels.and_then(|labels| labels.get(INSTANCE)).is_some_and(|name| name == instance);
        let running = found.state.as_ref().and_then(|state| state.running).unwrap_or(false);
        // One of somebody else, or on another network, hands nothing over.
        let running = running && ours && self.is_in_place(&found, part).await?;
        let current = container::is_current(labels, part, image);
        Ok(Some(Seen { running, current, restarts: found.restart_count.unwrap_or(0).max(0) as u64 }))
    }

    /// Whether a container is on the network where it should be: the host's, or the one of the container that it joins as that
    /// is now. One with a network of its own is.
    async fn is_in_place(&self, found: &ContainerInspectResponse, part: &Part) -> anyhow::Result<bool> {
        let mode = found.host_config.as_ref().and_then(|host| host.network_mode.as_deref()).unwrap_or_default();
        let Some(joined) = &part.joins else { return Ok(part.address.is_some() || mode == "host") };
        let id = match self.docker.inspect_container(joined, None).await {
            Err(error) if is(&error, 404) => return Ok(false),
            other => other.with_context(|| format!("the container {joined}"))?.id,
        };
        Ok(mode.strip_prefix("container:").is_some_and(|mode| Some(mode) == id.as_deref()))
    }

    /// Removes what shares the network of a container that is to be made, since it would be left with one of no use; or what
    /// has the ports that it is to have.
    async fn make_way(&self, part: &Part) -> anyhow::Result<()> {
        for name in part.joined_by.iter().flat_map(|name| [format!("{name}-next"), name.clone()]) {
            self.remove(&name).await?;
        }
        Ok(())
    }

    /// Whether Docker starts a container again when it ends.
    async fn restarts(&self, name: &str, always: bool) -> Result<(), Error> {
        let policy = if always { RestartPolicyNameEnum::ALWAYS } else { RestartPolicyNameEnum::NO };
        let policy = RestartPolicy { name: Some(policy), maximum_retry_count: None };
        let body = ContainerUpdateBody { restart_policy: Some(policy), ..ContainerUpdateBody::default() };
        self.docker.update_container(name, body).await
    }

    /// Puts files into a container, readable by its own user alone.
    async fn put(&self, container: &str, files: &[(String, Vec<u8>)]) -> anyhow::Result<()> {
        let mut archive = tar::Builder::new(Vec::new());
        for (path, content) in files {
            let mut header = tar::Header::new_gnu();
            header.set_mode(0o400);
            header.set_size(content.len() as u64);
            archive.append_data(&mut header, path.trim_start_matches('/'), content.as_slice())?;
        }
        let archive = bollard::body_full(archive.into_inner()?.into());
        let options = UploadToContainerOptions { path: "/".to_owned(), ..UploadToContainerOptions::default() };
        Ok(self.docker.upload_to_container(container, Some(options), archive).await?)
    }

    /// Makes sure that the parts have a network of their own.
    ///
    /// Docker lets addresses be chosen only where the range was: so it chooses a free range for a network that goes again,
    /// and the real one gets that.
    pub async fn bridge(&self, instance: &str) -> anyhow::Result<Bridge> {
        let name = bridge::name(instance);
        let mut range = None;
        // Another's network may take the range in between.
        for _ in 0..3 {
            if let Some(subnet) = self.subnet(&name).await? {
                let bridge = Bridge::parse(instance, &subnet);
                return bridge.with_context(|| format!("the network {name} has no usable range: {subnet}"));
            }
            if let Some(range) = range.take() {
                match self.network(&name, instance, Some(range)).await {
                    Err(error) if is(&error, 403) || is(&error, 409) || is(&error, 400) => {}
                    made => made.with_context(|| format!("the network {name}"))?,
                }
                continue;
            }
            let probe = format!("{name}-probe");
            self.network(&probe, instance, None).await.with_context(|| format!("the network {probe}"))?;
            range = self.subnet(&probe).await?;
            self.docker.remove_network(&probe).await.with_context(|| format!("the network {probe}"))?;
        }
        let found = self.subnet(&name).await?.and_then(|subnet| Bridge::parse(instance, &subnet));
        found.with_context(|| format!("Docker finds no range of addresses for the network {name}"))
    }

    /// Removes the parts' own network, if there is one.
    pub async fn forget_bridge(&self, instance: &str) -> anyhow::Result<()> {
        let name = bridge::name(instance);
        match self.docker.remove_network(&name).await {
            Err(error) if !is(&error, 404) => Err(error).with_context(|| format!("the network {name}")),
            _ => Ok(()),
        }
    }

    async fn network(&self, name: &str, instance: &str, subnet: Option<String>) -> Result<(), Error> {
        let ranges = subnet.map(|subnet| vec![IpamConfig { subnet: Some(subnet), ..IpamConfig::default() }]);
        let request = NetworkCreateRequest {
            name: name.to_owned(),
            driver: Some("bridge".to_owned()),
            ipam: ranges.map(|config| Ipam { config: Some(config), ..Ipam::default() }),
            labels: Some(HashMap::from([(INSTANCE.to_owned(), instance.to_owned())])),
            ..NetworkCreateRequest::default()
        };
        self.docker.create_network(request).await.map(|_| ())
    }

    /// The range of a network, if there is one of that name.
    async fn subnet(&self, name: &str) -> anyhow::Result<Option<String>> {
        match self.docker.inspect_network(name, None).await {
            Ok(network) => {
                let ranges = network.ipam.and_then(|ipam| ipam.config).unwrap_or_default();
                Ok(ranges.into_iter().find_map(|range| range.subnet))
            }
            Err(error) if is(&error, 404) => Ok(None),
            Err(error) => Err(error).with_context(|| format!("the network {name}")),
        }
    }

    /// The labels of the installation's own containers that run.
    pub async fn labels(&self, instance: &str) -> anyhow::Result<Vec<HashMap<String, String>>> {
        let options = ListContainersOptions { filters: Some(of(instance)), ..Default::default() };
        let found = self.docker.list_containers(Some(options)).await.context("listing containers")?;
        Ok(found.into_iter().filter_map(|found| found.labels).collect())
    }

    /// The container that has a port of this host published, if one has.
    pub async fn publisher(&self, port: u16) -> anyhow::Result<Option<String>> {
        let options = ListContainersOptions {
            filters: Some(HashMap::from([("publish".to_owned(), vec![port.to_string()])])),
            ..Default::default()
        };
        let found = self.docker.list_containers(Some(options)).await.context("listing containers")?;
        Ok(found.into_iter().next().map(|found| Found::from(found).name))
    }

    /// All containers of an installation.
    pub async fn containers(&self, instance: &str) -> anyhow::Result<Vec<Found>> {
        let options = ListContainersOptions { all: true, filters: Some(of(instance)), ..Default::default() };
        let found = self.docker.list_containers(Some(options)).await.context("listing containers")?;
        Ok(found.into_iter().map(Found::from).collect())
    }

    /// Stops a container and removes it; one that is gone is fine.
    pub async fn remove(&self, container: &str) -> anyhow::Result<()> {
        let what = || format!("the container {container}");
        let stop = StopContainerOptions { t: Some(15), ..Default::default() };
        match self.docker.stop_container(container, Some(stop)).await {
            Ok(()) => {}
            Err(error) if is(&error, 404) => return Ok(()),
            Err(error) if is(&error, 304) => {}
            Err(error) => return Err(error).with_context(what),
        }
        let remove = RemoveContainerOptions { force: true, ..Default::default() };
        match self.docker.remove_container(container, Some(remove)).await {
            Err(error) if !is(&error, 404) && !is(&error, 409) => Err(error).with_context(what),
            _ => Ok(()),
        }
    }

    /// Removes the networks and the volumes of an installation.
    pub async fn forget(&self, instance: &str) -> anyhow::Result<()> {
        let networks = ListNetworksOptions { filters: Some(of(instance)) };
        for network in self.docker.list_networks(Some(networks)).await.context("listing networks")? {
            let name = network.name.unwrap_or_default();
            self.docker.remove_network(&name).await.with_context(|| format!("the network {name}"))?;
        }
        let volumes = ListVolumesOptions { filters: Some(of(instance)) };
        let volumes = self.docker.list_volumes(Some(volumes)).await.context("listing volumes")?;
        for volume in volumes.volumes.unwrap_or_default() {
            let what = || format!("the volume {}", volume.name);
            self.docker.remove_volume(&volume.name, None::<RemoveVolumeOptions>).await.with_context(what)?;
        }
        Ok(())
    }

    /// The last lines that a container wrote.
    pub async fn last_words(&self, container: &str) -> String {
        let options = bollard::query_parameters::LogsOptions {
            stdout: true,
            stderr: true,
            tail: "15".to_owned(),
            ..Default::default()
        };
        let lines: Result<Vec<_>, _> = self.docker.logs(container, Some(options)).try_collect().await;
        lines.unwrap_or_default().into_iter().map(|line| format!("    {line}")).collect()
    }

    /// A small file of a container, if it is there.
    pub async fn file(&self, container: &str, path: &str) -> anyhow::Result<Option<Vec<u8>>> {
        let options = DownloadFromContainerOptions { path: path.to_owned() };
        let mut pieces = self.docker.download_from_container(container, Some(options));
        let mut archive = Vec::new();
        loop {
            match pieces.try_next().await {
                Ok(Some(piece)) => archive.extend_from_slice(&piece),
                Ok(None) => break,
                Err(error) if is(&error, 404) => return Ok(None),
                Err(error) => return Err(error).with_context(|| format!("{path} of {container}")),
            }
            anyhow::ensure!(archive.len() <= FILE_MAX, "{path} of {container} is larger than it should be");
        }
        let mut archive = tar::Archive::new(archive.as_slice());
        let Some(file) = archive.entries()?.next() else { return Ok(None) };
        let mut content = Vec::new();
        std::io::Read::read_to_end(&mut file?, &mut content)?;
        Ok(Some(content))
    }
}

fn of(instance: &str) -> HashMap<String, Vec<String>> {
    HashMap::from([("label".to_owned(), vec![format!("{INSTANCE}={instance}")])])
}

impl From<ContainerSummary> for Found {
    fn from(found: ContainerSummary) -> Self {
        let labels = found.labels.unwrap_or_default();
        let name = found.names.and_then(|names| names.first().cloned()).unwrap_or_default();
        Self {
            id: found.id.unwrap_or_default(),
            name: name.trim_start_matches('/').to_owned(),
            running: found.state.is_some_and(|state| state.to_string() == "running"),
            status: found.status.unwrap_or_default(),
            replica: labels.contains_key("sc.app"),
        }
    }
}
