//! Agents, channels, releases, versions.

use std::collections::BTreeMap;

use muster_proto::v1;
use serde::Serialize;

use super::set;
use crate::render::{span, words};

#[derive(Debug, Serialize)]
pub(crate) struct AgentJson {
    pub(crate) id: String,
    pool: String,
    labels: BTreeMap<String, String>,
    /// `online`, `unreachable` or `lost`.
    state: &'static str,
    /// `schedulable`, `cordoned` or `draining`.
    schedulable: &'static str,
    reason: Option<String>,
    drain_deadline: Option<String>,
    capacity: CapacityJson,
    reserved: CapacityJson,
    running: u32,
    version: String,
    engine: String,
    last_contact: Option<String>,
    load: Option<LoadJson>,
    images: Vec<ImageJson>,
}

impl From<v1::Agent> for AgentJson {
    fn from(agent: v1::Agent) -> Self {
        let state = words::agent_state(agent.state());
        let schedulable = words::schedulable(agent.schedulable());
        let v1::Agent {
            id,
            pool,
            labels,
            state: _,
            schedulable: _,
            reason,
            drain_deadline,
            capacity,
            reserved,
            running,
            version,
            engine,
            last_contact,
            load,
            images,
        } = agent;
        Self {
            id,
            pool,
            labels,
            state,
            schedulable,
            reason: set(reason),
            drain_deadline: span::rfc3339(drain_deadline),
            capacity: capacity.unwrap_or_default().into(),
            reserved: reserved.unwrap_or_default().into(),
            running,
            version,
            engine,
            last_contact: span::rfc3339(last_contact),
            load: load.map(LoadJson::from),
            images: images.into_iter().map(ImageJson::from).collect(),
        }
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct CapacityJson {
    cpu_millis: u32,
    memory_bytes: u64,
    places: u32,
    gpus: u32,
    custom: BTreeMap<String, u64>,
}

impl From<v1::Capacity> for CapacityJson {
    fn from(capacity: v1::Capacity) -> Self {
        let v1::Capacity {
            cpu_millis,
            memory_bytes,
            places,
            gpus,
            custom,
        } = capacity;
        Self {
            cpu_millis,
            memory_bytes,
            places,
            gpus,
            custom,
        }
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct LoadJson {
    load1: f64,
    memory_available_bytes: u64,
    disk_free_bytes: u64,
    preparing: u32,
    running: u32,
    engine_latency_seconds: Option<f64>,
    disk_full: bool,
    docker_degraded: bool,
    unfinished_logs: u32,
}

impl From<v1::HostLoad> for LoadJson {
    fn from(load: v1::HostLoad) -> Self {
        let v1::HostLoad {
            load1,
            memory_available_bytes,
            disk_free_bytes,
            preparing,
            running,
            engine_latency,
            disk_full,
            docker_degraded,
            unfinished_logs,
        } = load;
        Self {
            load1,
            memory_available_bytes,
            disk_free_bytes,
            preparing,
            running,
            engine_latency_seconds: span::seconds(engine_latency),
            disk_full,
            docker_degraded,
            unfinished_logs,
        }
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct ImageJson {
    id: String,
    digests: Vec<String>,
    tags: Vec<String>,
}

impl From<v1::HeldImage> for ImageJson {
    fn from(image: v1::HeldImage) -> Self {
        let v1::HeldImage { id, digests, tags } = image;
        Self { id, digests, tags }
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct ChannelJson {
    team: String,
    pub(crate) name: String,
    repository: String,
    tag: String,
    current: Option<ReleaseJson>,
    previous: Option<ReleaseJson>,
    held_by: u32,
    agents: u32,
    resolved: Option<String>,
    problem: Option<String>,
    policy_from: Option<String>,
    warm: Option<WarmJson>,
    poll_interval_seconds: Option<f64>,
    credentials: Option<String>,
}

#[derive(Debug, Serialize)]
struct WarmJson {
    min: u32,
    max: u32,
}

impl From<v1::WarmBounds> for WarmJson {
    fn from(warm: v1::WarmBounds) -> Self {
        let v1::WarmBounds { min, max } = warm;
        Self { min, max }
    }
}

impl From<v1::Channel> for ChannelJson {
    fn from(channel: v1::Channel) -> Self {
        let v1::Channel {
            team,
            name,
            repository,
            tag,
            current,
            previous,
            held_by,
            agents,
            resolved,
            problem,
            policy_from,
            warm,
            poll_interval,
            credentials,
        } = channel;
        Self {
            team,
            name,
            repository,
            tag,
            current: current.map(ReleaseJson::from),
            previous: previous.map(ReleaseJson::from),
            held_by,
            agents,
            resolved: span::rfc3339(resolved),
            problem: set(problem),
            policy_from: set(policy_from),
            warm: warm.map(WarmJson::from),
            poll_interval_seconds: span::seconds(poll_interval),
            credentials: set(credentials),
        }
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct ReleaseJson {
    pub(crate) number: u64,
    digest: String,
    at: Option<String>,
    cause: String,
    reason: Option<String>,
    by: Option<String>,
    revision: Option<String>,
    created: Option<String>,
    repository: Option<String>,
    carries_policy: bool,
}

impl From<v1::Release> for ReleaseJson {
    fn from(release: v1::Release) -> Self {
        let v1::Release {
            number,
            digest,
            at,
            cause,
            reason,
            by,
            revision,
            created,
            repository,
            policy,
        } = release;
        Self {
            number,
            digest,
            at: span::rfc3339(at),
            cause,
            reason: set(reason),
            by: set(by),
            revision: set(revision),
            created: set(created),
            repository: set(repository),
            carries_policy: policy.is_some(),
        }
    }
}

/// What `muster version` prints.
#[derive(Debug, Serialize)]
pub(crate) struct VersionJson {
    pub(crate) client: ClientJson,
    /// `null`: not reachable.
    pub(crate) server: Option<ServerJson>,
}

#[derive(Debug, Serialize)]
pub(crate) struct ClientJson {
    pub(crate) version: &'static str,
    pub(crate) commit: Option<&'static str>,
}

#[derive(Debug, Serialize)]
pub(crate) struct ServerJson {
    pub(crate) version: String,
    pub(crate) commit: Option<String>,
    cluster: String,
    term: u64,
    started: Option<String>,
    store: String,
    /// Why nothing is started or stopped.
    pub(crate) safe_mode: Option<String>,
}

impl From<v1::InfoResponse> for ServerJson {
    fn from(info: v1::InfoResponse) -> Self {
        let v1::InfoResponse {
            version,
            commit,
            cluster,
            term,
            started,
            store,
            safe_mode,
        } = info;
        Self {
            version,
            commit: set(commit),
            cluster,
            term,
            started: span::rfc3339(started),
            store,
            safe_mode: set(safe_mode),
        }
    }
}
