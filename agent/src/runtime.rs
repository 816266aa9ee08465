//! The container engine as the agent sees it.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use muster_core::image::Digest;
use muster_core::logframe::LogStream;
use muster_core::time::Timestamp;

use crate::plan::Seen;

pub mod docker;
pub mod fake;
mod namespace;

pub use namespace::{NamespaceView, NewParked, Traces};

/// The start of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DaemonStart {
    /// By the host's clock as it is now: moves when that is set, and by a few milliseconds from one look
    /// to the next.
    pub at: Timestamp,
    /// Hundredths of a second since the host's boot. Two looks in one boot that give the same are at the
    /// same process.
    pub ticks: u64,
}

/// How far a pull is; written by the engine's side and read by anybody.
#[derive(Debug, Default)]
pub struct PullProgress {
    /// Bytes of the layers that were begun, and how many of them are there.
    pub total: AtomicU64,
    pub done: AtomicU64,
}

/// One method is one request to the engine, with a deadline; no method retries, waits for something
/// else, or decides.
pub trait Runtime: Clone + Send + Sync + 'static {
    fn engine(&self) -> impl Future<Output = Result<EngineInfo, EngineError>> + Send;

    /// When the engine's daemon started, if that can be told; asks the host, not the engine.
    fn daemon_started(&self) -> impl Future<Output = Option<DaemonStart>> + Send;

    fn ping(&self) -> impl Future<Output = Result<(), EngineError>> + Send;

    /// Creates the container under the attempt's name. A name in use means: inspect it.
    fn create(&self, new: &NewContainer) -> impl Future<Output = Result<(), CreateError>> + Send;

    /// Creates a container that holds a network namespace and does nothing else.
    fn create_parked(
        &self,
        new: &NewParked,
    ) -> impl Future<Output = Result<(), CreateError>> + Send;

    /// A look from this host into the network namespace of a parked container that runs. `None`: the host
    /// can't see into it. Asks the engine, then the host.
    fn view_namespace(
        &self,
        name: &str,
    ) -> impl Future<Output = Result<Option<Arc<dyn NamespaceView>>, EngineError>> + Send;

    /// Called once per attempt, ever. An error means "unknown", never "not started": inspect it.
    fn start(&self, name: &str) -> impl Future<Output = Result<(), EngineError>> + Send;

    /// `None`: there is no such container.
    fn inspect(
        &self,
        name: &str,
    ) -> impl Future<Output = Result<Option<Container>, EngineError>> + Send;

    /// The names and labels of all containers with these labels, running or not.
    fn list(
        &self,
        labels: &BTreeMap<String, String>,
    ) -> impl Future<Output = Result<Vec<Listed>, EngineError>> + Send;

    fn kill(
        &self,
        name: &str,
        signal: Signal,
    ) -> impl Future<Output = Result<(), KillError>> + Send;

    /// Sets the limits of a container that runs.
    fn update(
        &self,
        name: &str,
        limits: Limits,
    ) -> impl Future<Output = Result<(), EngineError>> + Send;

    /// Gives a container another name, whether it runs or not.
    fn rename(&self, name: &str, to: &str) -> impl Future<Output = Result<(), EngineError>> + Send;

    fn unpause(&self, name: &str) -> impl Future<Output = Result<(), EngineError>> + Send;

    /// Removes a container that doesn't run, with its anonymous volumes. One that is not there is removed.
    fn remove(&self, name: &str) -> impl Future<Output = Result<(), EngineError>> + Send;

    /// Returns when the container doesn't run, at once if it is so already. Has no deadline.
    fn wait(&self, name: &str) -> impl Future<Output = Result<(), EngineError>> + Send;

    /// The output, oldest first.
    fn logs(
        &self,
        name: &str,
        from: LogsFrom,
    ) -> impl Stream<Item = Result<Output, EngineError>> + Send + Unpin + 'static;

    /// What the container uses now.
    fn stats(&self, name: &str) -> impl Future<Output = Result<Stats, EngineError>> + Send;

    /// Pulls an image by a reference that holds a digest.
    fn pull(
        &self,
        image: &str,
        credentials: Option<Credentials>,
        progress: &PullProgress,
    ) -> impl Future<Output = Result<(), PullError>> + Send;

    /// `None`: the engine doesn't hold it.
    fn inspect_image(
        &self,
        image: &str,
    ) -> impl Future<Output = Result<Option<ImageFacts>, EngineError>> + Send;

    /// Makes an image of one layer, which holds the files of this tar.
    fn import_image(
        &self,
        repository: &str,
        tag: &str,
        layer: Bytes,
    ) -> impl Future<Output = Result<(), EngineError>> + Send;

    /// Takes the name `repository@digest` off an image, and removes the image if that was its last name.
    /// One that is not there is removed.
    fn remove_image(
        &self,
        image: &str,
    ) -> impl Future<Output = Result<ImageRemoval, EngineError>> + Send;

    fn list_images(&self) -> impl Future<Output = Result<Vec<ListedImage>, EngineError>> + Send;

    /// Makes a bridge network whose containers can't reach each other, unless it is there.
    fn ensure_network(
        &self,
        name: &str,
        labels: &BTreeMap<String, String>,
    ) -> impl Future<Output = Result<(), EngineError>> + Send;

    /// The names and labels of all networks with these labels.
    fn list_networks(
        &self,
        labels: &BTreeMap<String, String>,
    ) -> impl Future<Output = Result<Vec<Listed>, EngineError>> + Send;

    /// Removes a network. One that a running container uses is refused; one that is not there is removed.
    fn remove_network(&self, name: &str) -> impl Future<Output = Result<(), EngineError>> + Send;

    /// What happens in the engine, from `since` on as far as it remembers. A hint: it forgets.
    fn events(
        &self,
        since: Option<Timestamp>,
    ) -> impl Stream<Item = Result<EngineEvent, EngineError>> + Send + Unpin + 'static;
}

/// Why a request came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error("the engine did not answer {request} within {} s", after.as_secs())]
    Deadline {
        request: &'static str,
        after: Duration,
    },
    #[error("the engine refused with {status}: {message}")]
    Refused { status: u16, message: String },
    #[error("the engine can't be reached")]
    Unreachable {
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    #[error("the name is in use")]
    NameTaken,
    #[error("the engine doesn't hold the image")]
    NoSuchImage,
    /// It will not take such a container, however often it is asked.
    #[error("{message}")]
    Rejected { message: String },
    #[error(transparent)]
    Engine(#[from] EngineError),
}

#[derive(Debug, thiserror::Error)]
pub enum KillError {
    #[error("it doesn't run")]
    NotRunning,
    #[error(transparent)]
    Engine(#[from] EngineError),
}

#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// The registry knows no such content.
    #[error("{message}")]
    NoSuchImage { message: String },
    #[error("{message}")]
    Failed { message: String },
    #[error(transparent)]
    Engine(#[from] EngineError),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineInfo {
    pub version: String,
    /// What it runs, as `linux/amd64`; empty: it does not say.
    pub platform: String,
    pub live_restore: bool,
    /// Gives each attempt a control group of its own, readable after its end.
    pub cgroup_parents: bool,
    pub cpus: u32,
    /// It can mount files and directories of this host.
    pub mounts: bool,
    /// The names of the OCI runtimes it knows.
    pub runtimes: Vec<String>,
    /// This host can see into the network namespaces of its containers.
    pub in_sight: bool,
    /// Where it keeps images and containers, if that is on this host.
    pub root: Option<PathBuf>,
}

/// Everything the agent may ask of a container. What isn't here can't be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewContainer {
    pub name: String,
    /// The engine's id of the image.
    pub image: String,
    /// `None`: the image's own.
    pub entrypoint: Option<Vec<String>>,
    /// Empty: the image's own.
    pub command: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    pub labels: BTreeMap<String, String>,
    /// `None`: the image's own.
    pub workdir: Option<String>,
    pub user: String,
    pub limits: Limits,
    /// Whole GPUs, of the engine's choice.
    pub gpus: u32,
    /// The name of a bridge network, or `container:NAME` for the network of that container; `None`: no
    /// network at all.
    pub network: Option<String>,
    pub writable_root: bool,
    /// The host's directory that the task finds as `/run/muster`.
    pub run_dir: PathBuf,
    /// The control group above the container's own.
    pub cgroup_parent: Option<String>,
    /// `None`: the engine's own init process.
    pub init: Option<InitProcess>,
}

/// What a container may use of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub cpu_millis: u32,
    /// There is no swap besides.
    pub memory_bytes: u64,
    pub pids: u32,
}

/// muster's own init process for a container; see `docs/init.md`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InitProcess {
    /// The program, on this host.
    pub program: PathBuf,
    /// The host's directory where it takes the one start and leaves its record.
    pub records: PathBuf,
    /// The host's directory that holds nothing but the lease, if the task runs only while the agent renews it.
    pub lease: Option<PathBuf>,
    /// `None`: it waits to be told, on a socket in the directory of records.
    pub run: Option<RunTerms>,
}

/// What an init process runs.
#[derive(Clone, PartialEq, Eq)]
pub struct RunTerms {
    /// What shows that it wrote the record.
    pub key: String,
    /// The task's own program and arguments, of which there is at least one.
    pub argv: Vec<String>,
    pub lease: Option<LeaseTerms>,
}

impl std::fmt::Debug for RunTerms {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RunTerms")
            .field("argv", &self.argv)
            .field("lease", &self.lease)
            .finish_non_exhaustive()
    }
}

/// When a task ends whose lease is not renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseTerms {
    /// The oldest that the last renewal may be, by the clock that also runs while the host sleeps.
    pub limit: Duration,
    /// Between TERM and KILL.
    pub grace: Duration,
    /// When the task may start at the latest, by that clock, in milliseconds.
    pub start_by: u64,
}

/// A container as the engine shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    pub seen: Seen,
    pub exit_code: i32,
    pub oom_killed: bool,
    /// Why it could not be started; empty otherwise.
    pub error: String,
    pub started: Option<Timestamp>,
    pub finished: Option<Timestamp>,
    pub labels: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub name: String,
    pub labels: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    Term,
    Kill,
}

impl Signal {
    #[must_use]
    pub const fn number(self) -> i32 {
        match self {
            Self::Term => 15,
            Self::Kill => 9,
        }
    }
}

/// Which part of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogsFrom {
    /// Wait for more until the container ends.
    pub follow: bool,
    /// Only what is as new as this second of Unix time.
    pub since: Option<i64>,
}

/// A line with its end, or a part of a long one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    pub stream: LogStream,
    pub at_micros: u64,
    pub data: Bytes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    pub cpu_micros: u64,
    pub memory_bytes: u64,
}

/// Never printed.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    Password { user: String, password: String },
    Token(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageFacts {
    pub id: String,
    pub entrypoint: Vec<String>,
    pub command: Vec<String>,
    /// Empty: root.
    pub user: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageRemoval {
    Removed,
    /// A container is made of it, running or not.
    InUse,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedImage {
    pub id: Digest,
    /// `repository@sha256:…`, as the engine writes them.
    pub digests: Vec<String>,
    /// `repository:tag`, as the engine writes them.
    pub tags: Vec<String>,
    /// Seconds since the Unix epoch.
    pub created: i64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EngineEvent {
    /// Somebody asked the engine to send a signal.
    Kill {
        container: String,
        signal: i32,
        at: Timestamp,
    },
    /// The container's process ended.
    Die { container: String },
    /// An image came, went or was named.
    Images,
}
