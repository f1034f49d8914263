//! This host's Docker: the few calls that `sc up`, `sc down` and `sc doctor` make. Each is idempotent.

use std::{collections::HashMap, time::Duration};

use super::parts::{self, INSTANCE, Part};
use crate::exit;
use anyhow::Context as _;
use bollard::{
    API_DEFAULT_VERSION, Docker,
    errors::Error,
    models::{ContainerSummary, VolumeCreateRequest},
    query_parameters::{
        CreateContainerOptions, DownloadFromContainerOptions, ListContainersOptions, ListNetworksOptions,
        ListVolumesOptions, RemoveContainerOptions, RemoveVolumeOptions, StopContainerOptions,
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
                if parts::is_current(labels, part, &image) {
                    if running {
                        return Ok(None);
                    }
                    self.docker.start_container(&part.name, None).await.with_context(what)?;
                    return Ok(Some("started"));
                }
                self.remove(&part.name).await?;
                done = "replaced";
            }
            Err(error) if is(&error, 404) => {}
            Err(error) => return Err(error).with_context(what),
        }
        let options = CreateContainerOptions { name: Some(part.name.clone()), ..Default::default() };
        self.docker.create_container(Some(options), parts::body(part, instance, &image)).await.with_context(what)?;
        self.docker.start_container(&part.name, None).await.with_context(what)?;
        Ok(Some(done))
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
