//! The channel to the coordinator.

use std::time::Duration;

use hyper_util::rt::TokioIo;
use muster_proto::v1::admin_service_client::AdminServiceClient;
use muster_proto::v1::agent_service_client::AgentServiceClient;
use muster_proto::v1::channel_service_client::ChannelServiceClient;
use muster_proto::v1::job_service_client::JobServiceClient;
use muster_proto::v1::manifest_service_client::ManifestServiceClient;
use muster_proto::v1::rollout_service_client::RolloutServiceClient;
use muster_proto::{is_broken, v1};
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::exit::{Exit, Failure};
use crate::target::LAST;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A page of a thousand jobs with full specs is larger than tonic's 4 MiB.
const MESSAGE_MAX: usize = 64 << 20;

/// A connection, and the team whose things are meant. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    channel: Channel,
    pub(crate) team: String,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("{addr:?} is not an address such as http://127.0.0.1:7380 or unix:///run/muster.sock")]
    Address { addr: String },
    #[error("the coordinator at {addr} cannot be reached")]
    Unreachable {
        addr: String,
        source: tonic::transport::Error,
    },
}

impl ConnectError {
    pub(crate) const fn exit(&self) -> Exit {
        match self {
            Self::Address { .. } => Exit::USAGE,
            Self::Unreachable { .. } => Exit::UNREACHABLE,
        }
    }

    pub(crate) const fn code(&self) -> &'static str {
        match self {
            Self::Address { .. } => "bad_config",
            Self::Unreachable { .. } => "unavailable",
        }
    }

    pub(crate) fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Address { .. } => "set --addr or MUSTER_ADDR",
            Self::Unreachable { .. } => {
                "start one here with: muster up; or set --addr or MUSTER_ADDR"
            }
        };
        Some(hint.to_owned())
    }
}

impl Client {
    /// Connects to `http://HOST:PORT` or `unix:///PATH`, waiting 5 s at most.
    ///
    /// The channel connects again by itself when a later call finds it broken.
    pub(crate) async fn connect(addr: &str, team: &str) -> Result<Self, ConnectError> {
        let bad = || ConnectError::Address {
            addr: addr.to_owned(),
        };
        let socket = addr.strip_prefix("unix:").map(|path| {
            let path = path.strip_prefix("//").unwrap_or(path);
            path.to_owned()
        });
        let connected = if let Some(path) = socket {
            if !path.starts_with('/') {
                return Err(bad());
            }
            // The name is only there because HTTP/2 wants one; nothing looks it up.
            let endpoint = settings(Endpoint::from_static("http://muster.invalid"));
            let dial = move |_: Uri| {
                let path = path.clone();
                async move { UnixStream::connect(path).await.map(TokioIo::new) }
            };
            endpoint
                .connect_with_connector(tower::service_fn(dial))
                .await
        } else {
            if !addr.starts_with("http://") {
                return Err(bad());
            }
            let endpoint = Endpoint::from_shared(addr.to_owned()).map_err(|_| bad())?;
            settings(endpoint).connect().await
        };
        let channel = connected.map_err(|source| ConnectError::Unreachable {
            addr: addr.to_owned(),
            source,
        })?;
        Ok(Self {
            channel,
            team: team.to_owned(),
        })
    }

    pub(crate) fn jobs(&self) -> JobServiceClient<Channel> {
        JobServiceClient::new(self.channel.clone()).max_decoding_message_size(MESSAGE_MAX)
    }

    pub(crate) fn agents(&self) -> AgentServiceClient<Channel> {
        AgentServiceClient::new(self.channel.clone()).max_decoding_message_size(MESSAGE_MAX)
    }

    pub(crate) fn channels(&self) -> ChannelServiceClient<Channel> {
        ChannelServiceClient::new(self.channel.clone())
    }

    pub(crate) fn rollouts(&self) -> RolloutServiceClient<Channel> {
        RolloutServiceClient::new(self.channel.clone()).max_decoding_message_size(MESSAGE_MAX)
    }

    pub(crate) fn manifests(&self) -> ManifestServiceClient<Channel> {
        ManifestServiceClient::new(self.channel.clone())
    }

    pub(crate) fn admin(&self) -> AdminServiceClient<Channel> {
        AdminServiceClient::new(self.channel.clone())
    }

    pub(crate) fn health(&self) -> tonic_health::pb::health_client::HealthClient<Channel> {
        tonic_health::pb::health_client::HealthClient::new(self.channel.clone())
    }

    /// The job that `id` names: the end of an id, or `@last`.
    pub(crate) async fn job(&self, id: &str) -> Result<v1::Job, Failure> {
        if id == LAST {
            let request = v1::ListJobsRequest {
                team: self.team.clone(),
                page_size: 1,
                ..v1::ListJobsRequest::default()
            };
            let page = self.jobs().list(request).await?.into_inner();
            return page.jobs.into_iter().next().ok_or(Failure::NoLastJob);
        }
        let request = v1::GetJobRequest {
            team: self.team.clone(),
            id: id.to_owned(),
        };
        match self.jobs().get(request).await {
            Ok(reply) => Ok(reply.into_inner()),
            Err(status) if status.code() == tonic::Code::NotFound => Err(Failure::NoJob {
                message: status.message().to_owned(),
            }),
            Err(status) => Err(status.into()),
        }
    }

    /// Turns `@last` into an id; leaves anything else to the coordinator.
    pub(crate) async fn job_id(&self, id: &str) -> Result<String, Failure> {
        if id == LAST {
            return Ok(self.job(id).await?.id);
        }
        Ok(id.to_owned())
    }
}

fn settings(endpoint: Endpoint) -> Endpoint {
    endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(10))
        .keep_alive_while_idle(true)
}

/// Whether asking again later can help: the coordinator restarts, or the connection broke.
pub(crate) fn is_transient(status: &tonic::Status) -> bool {
    matches!(
        status.code(),
        tonic::Code::Unavailable | tonic::Code::Cancelled
    ) || is_broken(status)
}

/// How long to wait before connecting again. Grows from 0.1 s to 5 s; the process's number spreads
/// many clients of one host.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(100);
    const CAP: Duration = Duration::from_secs(5);

    pub(crate) const fn new() -> Self {
        Self { next: Self::FIRST }
    }

    pub(crate) fn reset(&mut self) {
        self.next = Self::FIRST;
    }

    pub(crate) fn next_delay(&mut self) -> Duration {
        let delay = self.next;
        self.next = (delay * 2).min(Self::CAP);
        delay + Duration::from_millis(u64::from(std::process::id() % 100))
    }
}
