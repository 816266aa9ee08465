//! The Docker engine, through bollard. Nothing else in muster knows bollard.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bollard::Docker;
use bollard::errors::Error;
use bollard::models::{ContainerCreateBody, NetworkCreateRequest, SystemInfoCgroupDriverEnum};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, CreateImageOptionsBuilder, EventsOptionsBuilder,
    InspectContainerOptions, KillContainerOptionsBuilder, ListContainersOptionsBuilder,
    ListImagesOptions, ListNetworksOptionsBuilder, LogsOptionsBuilder,
    RemoveContainerOptionsBuilder, RemoveImageOptionsBuilder, RenameContainerOptionsBuilder,
    StartContainerOptions, StatsOptionsBuilder, WaitContainerOptionsBuilder,
};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _};
use muster_core::time::Timestamp;

use super::{
    Container, CreateError, Credentials, DaemonStart, EngineError, EngineEvent, EngineInfo,
    ImageFacts, ImageRemoval, KillError, Limits, Listed, ListedImage, LogsFrom, NamespaceView,
    NewContainer, NewParked, Output, PullError, PullProgress, Runtime, Signal, Stats,
};
use crate::host;

mod body;
mod namespace;
mod read;
mod report;

pub(crate) use report::EngineReport;

const DEFAULT_ADDRESS: &str = "unix:///var/run/docker.sock";
/// Where the daemon leaves its process id.
const PID_FILE: &str = "/var/run/docker.pid";
const INSPECT: Duration = Duration::from_secs(10);
const KILL: Duration = Duration::from_secs(30);
const CREATE: Duration = Duration::from_secs(60);
const START: Duration = Duration::from_secs(60);
/// Of listing and removing, which take the engine's locks.
const SLOW: Duration = Duration::from_secs(60);
/// A pull without any progress for so long is given up.
const PULL_STALL: Duration = Duration::from_secs(120);

/// A connection to the engine that `DOCKER_HOST` names, or to the local one.
#[derive(Debug, Clone)]
pub struct DockerRuntime {
    docker: Docker,
    /// Of an engine on this host.
    socket: Option<PathBuf>,
    /// What containers run with. `None`: the engine's default.
    oci_runtime: Option<String>,
}

impl DockerRuntime {
    /// # Errors
    /// If the address is no address. Does not talk to the engine.
    pub fn connect() -> Result<Self, EngineError> {
        Self::connect_at(std::env::var("DOCKER_HOST").ok().as_deref())
    }

    /// The same engine, with containers run by this OCI runtime from now on.
    #[must_use]
    pub fn with_oci_runtime(self, oci_runtime: Option<String>) -> Self {
        Self {
            oci_runtime,
            ..self
        }
    }

    /// The engine at this value of `DOCKER_HOST`.
    pub(crate) fn connect_at(address: Option<&str>) -> Result<Self, EngineError> {
        let docker = Docker::connect_with_host(address.unwrap_or(DEFAULT_ADDRESS));
        let docker = docker.map_err(read::unreachable)?;
        Ok(Self::over(docker, Self::socket_of(address)))
    }

    /// Where that engine listens, if it is on this host.
    pub(crate) fn socket_of(address: Option<&str>) -> Option<PathBuf> {
        let address = address.unwrap_or(DEFAULT_ADDRESS);
        address.strip_prefix("unix://").map(PathBuf::from)
    }

    /// The engine that listens on this socket.
    ///
    /// # Errors
    /// If there is no such socket. Does not talk to the engine.
    pub fn connect_to(socket: &Path) -> Result<Self, EngineError> {
        let path = socket.display().to_string();
        let docker = Docker::connect_with_unix(&path, 120, bollard::API_DEFAULT_VERSION);
        let docker = docker.map_err(read::unreachable)?;
        Ok(Self::over(docker, Some(socket.to_owned())))
    }

    fn over(docker: Docker, socket: Option<PathBuf>) -> Self {
        // Requests have deadlines of their own; this one is for the heads of endless responses.
        let docker = docker.with_timeout(Duration::from_secs(24 * 3600));
        let docker = docker.with_request_modifier(|mut request| {
            // The engine wants this header in the URL's alphabet and silently ignores any other.
            if let Some(value) = request.headers().get("x-registry-auth") {
                let value = value.to_str().unwrap_or("").replace('+', "-");
                if let Ok(value) = value.replace('/', "_").parse() {
                    request.headers_mut().insert("x-registry-auth", value);
                }
            }
            request
        });
        Self {
            docker,
            socket,
            oci_runtime: None,
        }
    }

    /// Asks for a container.
    async fn create_of(
        &self,
        name: &str,
        mut body: ContainerCreateBody,
    ) -> Result<(), CreateError> {
        if let Some(host) = &mut body.host_config {
            host.runtime.clone_from(&self.oci_runtime);
        }
        let options = CreateContainerOptionsBuilder::default().name(name);
        let request = self.docker.create_container(Some(options.build()), body);
        match within("create", CREATE, request).await {
            Ok(_) => Ok(()),
            Err(EngineError::Refused { status: 409, .. }) => Err(CreateError::NameTaken),
            Err(EngineError::Refused {
                status: 404,
                message,
            }) if message.contains("No such image") => Err(CreateError::NoSuchImage),
            Err(EngineError::Refused {
                status: 400,
                message,
            }) => Err(CreateError::Rejected { message }),
            Err(other) => Err(other.into()),
        }
    }
}

/// Runs one request under its deadline.
async fn within<T>(
    request: &'static str,
    after: Duration,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, EngineError> {
    match tokio::time::timeout(after, work).await {
        Ok(result) => result.map_err(read::error),
        Err(_) => Err(EngineError::Deadline { request, after }),
    }
}

/// `None` where the engine says that there is no such thing.
fn or_absent<T>(result: Result<T, EngineError>) -> Result<Option<T>, EngineError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(EngineError::Refused { status: 404, .. }) => Ok(None),
        Err(other) => Err(other),
    }
}

/// As image indexes name it; engines name an architecture as the kernel does.
fn platform(os: Option<String>, machine: Option<String>) -> String {
    let (Some(os), Some(machine)) = (os, machine) else {
        return String::new();
    };
    let architecture = match machine.as_str() {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "armv6l" | "armv7l" => "arm",
        "i386" | "i686" => "386",
        other => other,
    };
    format!("{os}/{architecture}")
}

impl Runtime for DockerRuntime {
    async fn engine(&self) -> Result<EngineInfo, EngineError> {
        let info = within("info", INSPECT, self.docker.info()).await?;
        let driver = info.cgroup_driver;
        Ok(EngineInfo {
            version: info.server_version.unwrap_or_default(),
            platform: platform(info.os_type, info.architecture),
            live_restore: info.live_restore_enabled.unwrap_or(false),
            cgroup_parents: self.socket.is_some()
                && driver == Some(SystemInfoCgroupDriverEnum::CGROUPFS),
            cpus: info
                .ncpu
                .and_then(|cpus| u32::try_from(cpus).ok())
                .unwrap_or(1),
            mounts: self.socket.is_some(),
            runtimes: info.runtimes.unwrap_or_default().into_keys().collect(),
            in_sight: self.socket.is_some(),
            root: info
                .docker_root_dir
                .filter(|_| self.socket.is_some())
                .map(PathBuf::from),
        })
    }

    async fn daemon_started(&self) -> Option<DaemonStart> {
        let socket = self.socket.as_ref()?;
        let stream = tokio::net::UnixStream::connect(socket).await.ok()?;
        let peer = stream.peer_cred().ok()?.pid()?;
        // With socket activation the peer is whoever made the socket.
        host::process_started(peer, "dockerd").or_else(|| {
            let pid = std::fs::read_to_string(PID_FILE).ok()?;
            let is_default = socket.ends_with("docker.sock");
            is_default
                .then(|| host::process_started(pid.trim().parse().ok()?, "dockerd"))
                .flatten()
        })
    }

    async fn ping(&self) -> Result<(), EngineError> {
        within("ping", INSPECT, self.docker.ping())
            .await
            .map(|_| ())
    }

    async fn create(&self, new: &NewContainer) -> Result<(), CreateError> {
        self.create_of(&new.name, body::container(new)).await
    }
    async fn create_parked(&self, new: &NewParked) -> Result<(), CreateError> {
        self.create_of(&new.name, body::parked(new)).await
    }

    async fn view_namespace(
        &self,
        name: &str,
    ) -> Result<Option<Arc<dyn NamespaceView>>, EngineError> {
        let request = self
            .docker
            .inspect_container(name, None::<InspectContainerOptions>);
        let found = within("inspect", INSPECT, request).await?;
        let pid = found.state.and_then(|state| state.pid);
        let view = pid.and_then(namespace::ProcView::open);
        Ok(view.map(|view| -> Arc<dyn NamespaceView> { Arc::new(view) }))
    }

    async fn start(&self, name: &str) -> Result<(), EngineError> {
        let request = self
            .docker
            .start_container(name, None::<StartContainerOptions>);
        within("start", START, request).await
    }

    async fn inspect(&self, name: &str) -> Result<Option<Container>, EngineError> {
        let request = self
            .docker
            .inspect_container(name, None::<InspectContainerOptions>);
        let found = or_absent(within("inspect", INSPECT, request).await)?;
        Ok(found.map(read::container))
    }

    async fn list(&self, labels: &BTreeMap<String, String>) -> Result<Vec<Listed>, EngineError> {
        let labels = labels.iter().map(|(name, value)| format!("{name}={value}"));
        let filters = HashMap::from([("label".to_owned(), labels.collect::<Vec<_>>())]);
        let options = ListContainersOptionsBuilder::default()
            .all(true)
            .filters(&filters);
        let request = self.docker.list_containers(Some(options.build()));
        let found = within("list", SLOW, request).await?;
        Ok(found.into_iter().filter_map(read::listed).collect())
    }

    async fn kill(&self, name: &str, signal: Signal) -> Result<(), KillError> {
        let word = match signal {
            Signal::Term => "SIGTERM",
            Signal::Kill => "SIGKILL",
        };
        let options = KillContainerOptionsBuilder::default().signal(word);
        let request = self.docker.kill_container(name, Some(options.build()));
        match within("kill", KILL, request).await {
            Ok(()) => Ok(()),
            // 409: it doesn't run; 404: it is gone.
            Err(EngineError::Refused {
                status: 404 | 409, ..
            }) => Err(KillError::NotRunning),
            Err(other) => Err(other.into()),
        }
    }

    async fn update(&self, name: &str, limits: Limits) -> Result<(), EngineError> {
        let request = self.docker.update_container(name, body::update(limits));
        within("update", START, request).await
    }
    async fn rename(&self, name: &str, to: &str) -> Result<(), EngineError> {
        let options = RenameContainerOptionsBuilder::default().name(to).build();
        let request = self.docker.rename_container(name, options);
        within("rename", START, request).await
    }
    async fn unpause(&self, name: &str) -> Result<(), EngineError> {
        within("unpause", START, self.docker.unpause_container(name)).await
    }

    async fn remove(&self, name: &str) -> Result<(), EngineError> {
        let options = RemoveContainerOptionsBuilder::default()
            .force(false)
            .v(true);
        let request = self.docker.remove_container(name, Some(options.build()));
        or_absent(within("remove", SLOW, request).await).map(|_| ())
    }

    async fn wait(&self, name: &str) -> Result<(), EngineError> {
        let options = WaitContainerOptionsBuilder::default().condition("not-running");
        let mut answers = std::pin::pin!(self.docker.wait_container(name, Some(options.build())));
        match answers.next().await {
            // An exit code other than zero is an error for bollard.
            Some(Ok(_) | Err(Error::DockerContainerWaitError { .. })) => Ok(()),
            Some(Err(other)) => Err(read::error(other)),
            None => Err(read::cut_off("wait")),
        }
    }

    fn logs(
        &self,
        name: &str,
        from: LogsFrom,
    ) -> impl Stream<Item = Result<Output, EngineError>> + Send + Unpin + 'static {
        let since = from.since.and_then(|second| i32::try_from(second).ok());
        let options = LogsOptionsBuilder::default()
            .follow(from.follow)
            .stdout(true)
            .stderr(true)
            .timestamps(true)
            .since(since.unwrap_or(0))
            .build();
        Box::pin(
            self.docker
                .logs(name, Some(options))
                .map(|piece| piece.map(read::output).map_err(read::error)),
        )
    }

    async fn stats(&self, name: &str) -> Result<Stats, EngineError> {
        let options = StatsOptionsBuilder::default().stream(false).one_shot(true);
        let mut answers = std::pin::pin!(self.docker.stats(name, Some(options.build())));
        let found = within("stats", INSPECT, answers.try_next()).await?;
        Ok(found.map(read::stats).unwrap_or_default())
    }

    async fn pull(
        &self,
        image: &str,
        credentials: Option<Credentials>,
        progress: &PullProgress,
    ) -> Result<(), PullError> {
        let options = CreateImageOptionsBuilder::default().from_image(image);
        let credentials = credentials.map(|known| body::credentials(known, image));
        let mut layers = read::Layers::default();
        let mut steps = std::pin::pin!(self.docker.create_image(
            Some(options.build()),
            None,
            credentials
        ));
        loop {
            match within("pull", PULL_STALL, steps.try_next()).await {
                Ok(None) => return Ok(()),
                Ok(Some(info)) => {
                    layers.note(&info, progress);
                    if let Some(message) = info.error_detail.and_then(|error| error.message) {
                        return Err(read::pull_error(message));
                    }
                }
                Err(EngineError::Refused { message, .. }) => return Err(read::pull_error(message)),
                Err(other) => return Err(other.into()),
            }
        }
    }
    async fn inspect_image(&self, image: &str) -> Result<Option<ImageFacts>, EngineError> {
        let request = self.docker.inspect_image(image);
        let found = or_absent(within("inspect image", INSPECT, request).await)?;
        Ok(found.map(read::image))
    }

    async fn import_image(
        &self,
        repository: &str,
        tag: &str,
        layer: Bytes,
    ) -> Result<(), EngineError> {
        let options = CreateImageOptionsBuilder::default()
            .from_src("-")
            .repo(repository)
            .tag(tag)
            .build();
        let body = Some(bollard::body_full(layer));
        let steps = self.docker.create_image(Some(options), body, None);
        let steps = within("import", CREATE, steps.try_collect::<Vec<_>>()).await?;
        let error = steps.into_iter().find_map(|step| step.error_detail);
        match error {
            None => Ok(()),
            Some(error) => Err(EngineError::Refused {
                status: 500,
                message: error.message.unwrap_or_default(),
            }),
        }
    }

    async fn remove_image(&self, image: &str) -> Result<ImageRemoval, EngineError> {
        // Without `noprune` its unnamed parents would go too, and those are nobody's but the builder's.
        let options = RemoveImageOptionsBuilder::default()
            .force(false)
            .noprune(true)
            .build();
        let request = self.docker.remove_image(image, Some(options), None);
        match within("remove image", SLOW, request).await {
            Ok(_) | Err(EngineError::Refused { status: 404, .. }) => Ok(ImageRemoval::Removed),
            Err(EngineError::Refused { status: 409, .. }) => Ok(ImageRemoval::InUse),
            Err(other) => Err(other),
        }
    }

    async fn list_images(&self) -> Result<Vec<ListedImage>, EngineError> {
        let request = self.docker.list_images(None::<ListImagesOptions>);
        let found = within("list images", SLOW, request).await?;
        Ok(found.into_iter().filter_map(read::listed_image).collect())
    }

    async fn ensure_network(
        &self,
        name: &str,
        labels: &BTreeMap<String, String>,
    ) -> Result<(), EngineError> {
        let options = None::<bollard::query_parameters::InspectNetworkOptions>;
        let there = self.docker.inspect_network(name, options);
        if or_absent(within("inspect network", INSPECT, there).await)?.is_some() {
            return Ok(());
        }
        let icc = "com.docker.network.bridge.enable_icc".to_owned();
        let request = self.docker.create_network(NetworkCreateRequest {
            name: name.to_owned(),
            driver: Some("bridge".to_owned()),
            options: Some(HashMap::from([(icc, "false".to_owned())])),
            labels: Some(labels.clone().into_iter().collect()),
            ..Default::default()
        });
        match within("create network", CREATE, request).await {
            // 409: another agent on this host was faster.
            Ok(_) | Err(EngineError::Refused { status: 409, .. }) => Ok(()),
            Err(other) => Err(other),
        }
    }
    async fn list_networks(
        &self,
        labels: &BTreeMap<String, String>,
    ) -> Result<Vec<Listed>, EngineError> {
        let labels = labels.iter().map(|(name, value)| format!("{name}={value}"));
        let filters = HashMap::from([("label".to_owned(), labels.collect::<Vec<_>>())]);
        let options = ListNetworksOptionsBuilder::default().filters(&filters);
        let request = self.docker.list_networks(Some(options.build()));
        let found = within("list networks", SLOW, request).await?;
        let listed = found.into_iter().filter_map(|network| {
            Some(Listed {
                name: network.name?,
                labels: network.labels?.into_iter().collect(),
            })
        });
        Ok(listed.collect())
    }

    async fn remove_network(&self, name: &str) -> Result<(), EngineError> {
        let request = self.docker.remove_network(name);
        or_absent(within("remove network", SLOW, request).await).map(|_| ())
    }

    fn events(
        &self,
        since: Option<Timestamp>,
    ) -> impl Stream<Item = Result<EngineEvent, EngineError>> + Send + Unpin + 'static {
        let kinds = ["container", "image"].map(str::to_owned).to_vec();
        let actions = [
            "kill", "die", "pull", "tag", "untag", "delete", "import", "load",
        ];
        let filters = HashMap::from([
            ("type".to_owned(), kinds),
            ("event".to_owned(), actions.map(str::to_owned).to_vec()),
        ]);
        let mut options = EventsOptionsBuilder::default().filters(&filters);
        let since = since.map(|at| (at.0 / 1000).to_string());
        if let Some(since) = &since {
            options = options.since(since);
        }
        Box::pin(
            self.docker
                .events(Some(options.build()))
                .map_err(read::error)
                .try_filter_map(async |event| Ok(read::event(event))),
        )
    }
}

#[cfg(test)]
mod tests;
