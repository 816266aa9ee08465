//! A real coordinator and real agents in one process: real gRPC, a real store in a directory of its own,
//! a registry and container engines in memory.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use muster_coordinator::config::Config;
use muster_coordinator::registry::fake::FakeRegistry;
use muster_coordinator::store::OpenError;
use muster_coordinator::{Addresses, RunError, run_with};
use muster_core::image::{Digest, Tag};
use muster_proto::v1 as pb;
use muster_proto::v1::agent_service_client::AgentServiceClient;
use muster_proto::v1::channel_service_client::ChannelServiceClient;
use muster_proto::v1::job_service_client::JobServiceClient;
use muster_proto::v1::manifest_service_client::ManifestServiceClient;
use muster_proto::v1::rollout_service_client::RolloutServiceClient;
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::sample;

mod host;

pub use host::Host;

/// No wait of a test is longer, but for those that name their own.
pub const DEADLINE: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Looks until there is something to see.
///
/// # Panics
/// If there is nothing within [`DEADLINE`]; names what was waited for.
pub async fn until<T, F: Future<Output = Option<T>>>(what: &str, look: impl FnMut() -> F) -> T {
    until_within(DEADLINE, what, look).await
}

/// The same, within `deadline`.
///
/// # Panics
/// If there is nothing within it; names what was waited for.
pub async fn until_within<T, F: Future<Output = Option<T>>>(
    deadline: Duration,
    what: &str,
    mut look: impl FnMut() -> F,
) -> T {
    let mut turns = tokio::time::interval(LOOK_EVERY);
    let looking = async {
        loop {
            turns.tick().await;
            if let Some(seen) = look().await {
                return seen;
            }
        }
    };
    match tokio::time::timeout(deadline, looking).await {
        Ok(seen) => seen,
        Err(_) => panic!("not within {deadline:?}: {what}"),
    }
}

/// A coordinator's directory, registry and address, which outlive its processes.
#[derive(Debug)]
pub struct Cluster {
    dir: TempDir,
    pub registry: Arc<FakeRegistry>,
    process: Option<Process>,
    tcp: bool,
    /// Beside the usual settings.
    settings: BTreeMap<String, String>,
    grpc: String,
    /// Of webhooks and metrics; another one after each start.
    pub http: String,
}

#[derive(Debug)]
struct Process {
    stop: CancellationToken,
    running: JoinHandle<Result<(), RunError>>,
}

impl Cluster {
    /// A coordinator that serves on a socket, whose address stays the same. The registry has `analytics:latest`, which
    /// means the digest of ones.
    ///
    /// # Panics
    /// If it can't start.
    pub async fn start() -> Self {
        Self::start_with(false, &[]).await
    }

    /// The same on a port that is free, which is another one after each start.
    pub async fn start_on_tcp() -> Self {
        Self::start_with(true, &[]).await
    }

    /// The same with settings of the test's own.
    pub async fn start_on_tcp_with(settings: &[(&str, &str)]) -> Self {
        Self::start_with(true, settings).await
    }

    async fn start_with(tcp: bool, settings: &[(&str, &str)]) -> Self {
        let mut cluster = Self {
            tcp,
            settings: settings
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            grpc: String::new(),
            dir: tempfile::tempdir().expect("there is room for temporary files"),
            registry: Arc::new(FakeRegistry::default()),
            process: None,
            http: String::new(),
        };
        cluster.push("latest", 1);
        cluster.start_again().await;
        cluster
    }

    /// Where clients and agents find it, also after a restart.
    #[must_use]
    pub fn address(&self) -> String {
        if self.tcp {
            return format!("http://{}", self.grpc);
        }
        format!("unix://{}", self.dir.path().join("muster.sock").display())
    }

    /// Where it listens for proxies.
    ///
    /// # Panics
    /// If it serves on a socket.
    #[must_use]
    pub fn tcp_address(&self) -> std::net::SocketAddr {
        self.grpc.parse().expect("it serves on a port")
    }

    /// Where the coordinator keeps what must survive.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        self.dir.path()
    }

    /// Starts the coordinator that was stopped.
    ///
    /// # Panics
    /// If it can't start.
    pub async fn start_again(&mut self) {
        let listen = if self.tcp {
            "127.0.0.1:0".to_owned()
        } else {
            self.address().replace("unix://", "unix:")
        };
        let dir = self.dir.path().display().to_string();
        let vars = [
            ("MUSTER_COORDINATOR_DATA_DIR", dir.as_str()),
            ("MUSTER_COORDINATOR_LISTEN", &listen),
            ("MUSTER_COORDINATOR_HTTP_LISTEN", "127.0.0.1:0"),
            ("MUSTER_COORDINATOR_HEARTBEAT", "500ms"),
        ];
        let mut vars =
            BTreeMap::from(vars.map(|(name, value)| (name.to_owned(), value.to_owned())));
        vars.extend(self.settings.clone());
        let config = Config::parse(&vars).expect("the settings are good");
        // Streams of the one before may hold its store for a moment longer.
        let (process, addresses) = until("a coordinator that starts", || async {
            match self.try_to_start(config.clone()).await {
                Ok(started) => Some(started),
                Err(RunError::Store {
                    source: OpenError::InUse { .. },
                    ..
                }) => None,
                Err(error) => panic!("the coordinator did not start: {error:?}"),
            }
        })
        .await;
        self.http = format!("http://{}", addresses.http);
        self.grpc = addresses.grpc;
        self.process = Some(process);
    }

    async fn try_to_start(&self, config: Config) -> Result<(Process, Addresses), RunError> {
        let stop = CancellationToken::new();
        let (ready, serving) = oneshot::channel();
        let registry = Arc::clone(&self.registry);
        let running = tokio::spawn(run_with(registry, config, stop.clone(), ready));
        match serving.await {
            Ok(addresses) => Ok((Process { stop, running }, addresses)),
            Err(_) => {
                let ended = running.await.expect("the coordinator does not panic");
                Err(ended.expect_err("it ended before it served"))
            }
        }
    }

    /// Ends the coordinator, and returns when it is gone.
    ///
    /// # Panics
    /// If it ends with an error.
    pub async fn stop(&mut self) {
        if let Some(Process { stop, running }) = self.process.take() {
            stop.cancel();
            let ended = running.await.expect("the coordinator does not panic");
            ended.expect("a coordinator that is told to stop ends well");
        }
    }

    /// A connection of its own.
    ///
    /// # Panics
    /// If the address is none.
    #[must_use]
    pub fn connect(&self) -> Channel {
        let endpoint = tonic::transport::Endpoint::from_shared(self.address());
        endpoint.expect("it is an address").connect_lazy()
    }

    #[must_use]
    pub fn jobs(&self) -> JobServiceClient<Channel> {
        JobServiceClient::new(self.connect())
    }

    #[must_use]
    pub fn channels(&self) -> ChannelServiceClient<Channel> {
        ChannelServiceClient::new(self.connect())
    }

    #[must_use]
    pub fn rollouts(&self) -> RolloutServiceClient<Channel> {
        RolloutServiceClient::new(self.connect())
    }

    #[must_use]
    pub fn manifests(&self) -> ManifestServiceClient<Channel> {
        ManifestServiceClient::new(self.connect())
    }

    #[must_use]
    pub fn agents(&self) -> AgentServiceClient<Channel> {
        AgentServiceClient::new(self.connect())
    }

    /// Makes a tag of `analytics` mean another digest.
    ///
    /// # Panics
    /// If `tag` is no tag.
    pub fn push(&self, tag: &str, byte: u8) {
        let tag = Tag::parse(tag).expect("the test gives a tag");
        self.registry
            .push(&sample::repository(), &tag, sample::digest(byte));
    }

    /// Has the channel `analytics` follow `analytics:latest`.
    ///
    /// # Panics
    /// If the coordinator refuses.
    pub async fn set_channel(&self) -> pb::Channel {
        let request = pb::SetChannelRequest {
            name: "analytics".into(),
            repository: sample::repository().to_string(),
            tag: "latest".into(),
            ..Default::default()
        };
        let answer = self.channels().set(request).await;
        answer.expect("the registry has the tag").into_inner()
    }

    /// Submits one job.
    ///
    /// # Panics
    /// If the coordinator refuses.
    pub async fn submit(&self, spec: pb::JobSpec, array: u32) -> pb::Job {
        let answer = self.jobs().submit(submission(spec, array, "")).await;
        let mut answer = answer.expect("the job is good").into_inner();
        let submitted = answer.jobs.pop().expect("one job was sent");
        submitted.job.expect("the job is in the answer")
    }

    /// # Panics
    /// If there is no such job.
    pub async fn job(&self, id: &str) -> pb::Job {
        let request = pb::GetJobRequest {
            id: id.to_owned(),
            ..Default::default()
        };
        let answer = self.jobs().get(request).await;
        answer.expect("the job is stored").into_inner()
    }

    /// Tasks that were ever assigned.
    ///
    /// # Panics
    /// If there is no such job.
    pub async fn tasks(&self, job: &str) -> Vec<pb::Task> {
        let request = pb::ListTasksRequest {
            job: job.to_owned(),
            ..Default::default()
        };
        let answer = self.jobs().list_tasks(request).await;
        answer.expect("the job is stored").into_inner().tasks
    }

    /// Waits for the job's end, over restarts of the coordinator.
    pub async fn ended(&self, id: &str) -> pb::Job {
        until("the job's end", || async {
            let job = self.job(id).await;
            (job.state() == pb::JobState::Ended).then_some(job)
        })
        .await
    }

    /// Waits until so many tasks of the job run.
    pub async fn running(&self, id: &str, count: u32) {
        until("running tasks", || async {
            let job = self.job(id).await;
            let counts = job.counts.unwrap_or_default();
            (counts.running == count).then_some(())
        })
        .await;
    }

    /// Waits until the agent stands so.
    pub async fn agent_is(&self, name: &str, state: pb::AgentState) -> pb::Agent {
        until("an agent's state", || async {
            let answer = self.agents().list(pb::ListAgentsRequest::default()).await;
            let agents = answer.ok()?.into_inner().agents;
            agents
                .into_iter()
                .find(|agent| agent.id == name && agent.state() == state)
        })
        .await
    }
}

/// Whether a call met a coordinator that ends, in the words of whichever layer noticed.
#[must_use]
pub fn is_away(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable | Code::Unknown | Code::Cancelled
    ) || muster_proto::is_broken(status)
}

/// A request for one job.
#[must_use]
pub fn submission(spec: pb::JobSpec, array: u32, key: &str) -> pb::SubmitRequest {
    let job = pb::NewJob {
        spec: Some(spec),
        array,
        idempotency_key: key.to_owned(),
    };
    pb::SubmitRequest {
        team: String::new(),
        jobs: vec![job],
    }
}

/// A spec with that image, whose first argument says to the engine how to behave.
#[must_use]
pub fn spec(image: &str, word: &str) -> pb::JobSpec {
    pb::JobSpec {
        name: "load".into(),
        image: image.to_owned(),
        command: vec![word.to_owned()],
        resources: Some(pb::Resources {
            cpu_millis: 10,
            memory_bytes: 16 << 20,
            ..Default::default()
        }),
        kill_grace: Some(prost_types::Duration {
            seconds: 1,
            nanos: 0,
        }),
        retry: Some(pb::RetryPolicy {
            backoff: Some(pb::Backoff {
                kind: pb::backoff::Kind::Fixed.into(),
                initial: Some(prost_types::Duration {
                    seconds: 0,
                    nanos: 50_000_000,
                }),
                no_jitter: true,
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// The reference of `analytics` that its registry has from the start.
#[must_use]
pub fn reference() -> String {
    format!("{}:latest", sample::repository())
}

/// The short form of a digest of [`sample`], as attempts show it.
#[must_use]
pub fn digest_text(byte: u8) -> String {
    let digest: Digest = sample::digest(byte);
    digest.to_string()
}
