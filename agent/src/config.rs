//! The agent's settings: every one is a variable `MUSTER_AGENT_…`, and a flag of the same name.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use muster_core::ids::{AgentId, BadName, PoolName};

use crate::host::HostFacts;
use crate::policy::{BadPolicy, Policy};
use crate::ship;

mod parse;

pub use parse::{BadSetting, parse_size};

/// What the agent needs to know before it starts. Nothing in here opens or binds anything.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// `http://HOST:PORT` or `unix:///path`. `MUSTER_AGENT_COORDINATOR`, required.
    pub coordinator: String,
    /// Unique in the cluster. `MUSTER_AGENT_NAME`, default: the host's name.
    pub name: AgentId,
    /// `MUSTER_AGENT_POOL`, default `default`.
    pub pool: PoolName,
    /// `k=v,k=v`. `MUSTER_AGENT_LABELS`, default none.
    pub labels: BTreeMap<String, String>,
    /// `MUSTER_AGENT_DATA_DIR`, default `/var/lib/muster/agent`.
    pub data_dir: PathBuf,
    /// Attempts at a time. `MUSTER_AGENT_PLACES`, default two per CPU and at least 4: most tasks wait for
    /// something else most of the time, and CPU and memory are bounded on their own.
    pub places: u32,
    /// `MUSTER_AGENT_CPUS`, default: the host's.
    pub cpu_millis: u32,
    /// `MUSTER_AGENT_MEMORY`, default: the host's without a tenth and at least 256 MiB of it, which are
    /// for the engine and the agent.
    pub memory_bytes: u64,
    /// Whole GPUs to give to tasks, at most 64. `MUSTER_AGENT_GPUS`, default none.
    pub gpus: u32,
    /// Any other resource to give to tasks, by name. `MUSTER_AGENT_RESOURCES`, `name=amount,…`, default none.
    pub resources: BTreeMap<String, u64>,
    /// What stays free on the disks of tasks. `MUSTER_AGENT_DISK_FREE` (a size, default 2 GiB) and
    /// `MUSTER_AGENT_DISK_FREE_PERCENT` (default 10).
    pub disk_reserve: DiskReserve,
    /// `MUSTER_AGENT_IMAGE_GC`: `off`, or two percentages, default `80-70`.
    pub image_gc: Option<ImageGc>,
    /// `MUSTER_AGENT_POLICY_FILE`; the built-in policy otherwise. See `docs/policy.md`.
    pub policy: Policy,
    /// Loopback only. `MUSTER_AGENT_METRICS_LISTEN`, default: no port at all.
    pub metrics_listen: Option<SocketAddr>,
    /// Passed to tasks as `PUSHGATEWAY_URL`. `MUSTER_AGENT_PUSHGATEWAY_URL`, default none.
    pub pushgateway_url: Option<String>,
    /// Passed to tasks as `OTEL_EXPORTER_OTLP_ENDPOINT`. `MUSTER_AGENT_OTLP_ENDPOINT`, default none.
    pub otlp_endpoint: Option<String>,
    /// Images pulled at a time. `MUSTER_AGENT_PULLS`, default 3.
    pub pulls: u32,
    /// Most containers created and started at a time; how many are, follows how the engine keeps up.
    /// `MUSTER_AGENT_STARTS`, default four per CPU.
    pub starts: u32,
    /// `MUSTER_AGENT_INIT`: `muster`, the default, or `engine`.
    pub init: InitChoice,
    pub warm: WarmBudget,
    /// How long a stream of output stays when nothing is left to send: a minute. No variable sets it; tests
    /// do not wait for so long.
    pub log_stream_idle: Duration,
}

/// How many warm containers this host may have, whatever channels want.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WarmBudget {
    /// `MUSTER_AGENT_WARM`, 0 to 1,000, default 8.
    pub count: u32,
    /// None is added while less memory than this could be used, in bytes. `MUSTER_AGENT_WARM_MEMORY_FREE`,
    /// default 512 MiB.
    pub memory_free: u64,
}

impl Default for WarmBudget {
    fn default() -> Self {
        Self {
            count: 8,
            memory_free: 512 << 20,
        }
    }
}

/// Whose init process containers get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InitChoice {
    /// muster's own, where the engine can mount it.
    Muster,
    Engine,
}

/// With less than the larger of the two free, an agent takes no new tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskReserve {
    pub bytes: u64,
    /// Of the disk, 0 to 90.
    pub percent: u8,
}

/// From `high` hundredths of the engine's disk in use, images that the agent pulled and nobody wants any
/// more are removed until it is `low`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageGc {
    /// 1 to 100.
    pub high: u8,
    /// Below `high`.
    pub low: u8,
}

const KNOWN: [&str; 22] = [
    "MUSTER_AGENT_COORDINATOR",
    "MUSTER_AGENT_CPUS",
    "MUSTER_AGENT_DATA_DIR",
    "MUSTER_AGENT_DISK_FREE",
    "MUSTER_AGENT_DISK_FREE_PERCENT",
    "MUSTER_AGENT_GPUS",
    "MUSTER_AGENT_IMAGE_GC",
    "MUSTER_AGENT_INIT",
    "MUSTER_AGENT_LABELS",
    "MUSTER_AGENT_MEMORY",
    "MUSTER_AGENT_METRICS_LISTEN",
    "MUSTER_AGENT_NAME",
    "MUSTER_AGENT_OTLP_ENDPOINT",
    "MUSTER_AGENT_PLACES",
    "MUSTER_AGENT_POLICY_FILE",
    "MUSTER_AGENT_POOL",
    "MUSTER_AGENT_PULLS",
    "MUSTER_AGENT_PUSHGATEWAY_URL",
    "MUSTER_AGENT_RESOURCES",
    "MUSTER_AGENT_STARTS",
    "MUSTER_AGENT_WARM",
    "MUSTER_AGENT_WARM_MEMORY_FREE",
];
const PREFIX: &str = "MUSTER_AGENT_";
const DEFAULT_DATA_DIR: &str = "/var/lib/muster/agent";

impl Default for DiskReserve {
    fn default() -> Self {
        Self {
            bytes: 2 << 30,
            percent: 10,
        }
    }
}

impl Config {
    /// Reads and checks every setting. Variables without the agent's prefix are ignored; flags are put
    /// into the map by the caller, over the variables of the same name. Reads the policy file.
    ///
    /// # Errors
    /// Names the setting and its value.
    pub fn parse(vars: &BTreeMap<String, String>) -> Result<Self, BadSetting> {
        Self::parse_on(vars, &HostFacts::measure())
    }

    fn parse_on(vars: &BTreeMap<String, String>, host: &HostFacts) -> Result<Self, BadSetting> {
        let vars = parse::Vars(vars);
        vars.refuse_unknown(PREFIX, &KNOWN)?;
        let spare = (host.memory_bytes / 10).max(256 << 20);
        let host_memory = host.memory_bytes.saturating_sub(spare);
        let reserve = DiskReserve::default();
        let warm = WarmBudget::default();
        Ok(Self {
            coordinator: vars.coordinator("MUSTER_AGENT_COORDINATOR")?,
            name: name(&vars, "MUSTER_AGENT_NAME", &host.name, AgentId::parse)?,
            pool: name(&vars, "MUSTER_AGENT_POOL", "default", PoolName::parse)?,
            labels: vars.labels("MUSTER_AGENT_LABELS")?,
            data_dir: vars
                .text("MUSTER_AGENT_DATA_DIR")
                .unwrap_or(DEFAULT_DATA_DIR)
                .into(),
            places: vars.count("MUSTER_AGENT_PLACES", (host.cpus * 2).max(4))?,
            cpu_millis: vars.cpus("MUSTER_AGENT_CPUS", host.cpus * 1000)?,
            memory_bytes: vars.size("MUSTER_AGENT_MEMORY", host_memory)?,
            gpus: vars.gpus("MUSTER_AGENT_GPUS")?,
            resources: vars.resources("MUSTER_AGENT_RESOURCES")?,
            disk_reserve: DiskReserve {
                bytes: vars.size("MUSTER_AGENT_DISK_FREE", reserve.bytes)?,
                percent: vars.percent("MUSTER_AGENT_DISK_FREE_PERCENT", reserve.percent)?,
            },
            image_gc: vars.image_gc("MUSTER_AGENT_IMAGE_GC")?,
            policy: policy(&vars, "MUSTER_AGENT_POLICY_FILE")?,
            metrics_listen: vars.loopback("MUSTER_AGENT_METRICS_LISTEN")?,
            pushgateway_url: owned(vars.text("MUSTER_AGENT_PUSHGATEWAY_URL")),
            otlp_endpoint: owned(vars.text("MUSTER_AGENT_OTLP_ENDPOINT")),
            pulls: vars.count("MUSTER_AGENT_PULLS", 3)?,
            starts: vars.count("MUSTER_AGENT_STARTS", host.cpus * 4)?,
            init: vars.init("MUSTER_AGENT_INIT")?,
            warm: WarmBudget {
                count: vars.warm("MUSTER_AGENT_WARM", warm.count)?,
                memory_free: vars.size("MUSTER_AGENT_WARM_MEMORY_FREE", warm.memory_free)?,
            },
            log_stream_idle: ship::IDLE,
        })
    }
}

fn owned(text: Option<&str>) -> Option<String> {
    text.map(str::to_owned)
}

fn name<T>(
    vars: &parse::Vars<'_>,
    variable: &'static str,
    default: &str,
    read: impl Fn(&str) -> Result<T, BadName>,
) -> Result<T, BadSetting> {
    let text = vars.text(variable).unwrap_or(default);
    read(text).map_err(|bad| BadSetting::Name {
        variable,
        text: text.to_owned(),
        bad,
    })
}

fn policy(vars: &parse::Vars<'_>, variable: &'static str) -> Result<Policy, BadSetting> {
    let Some(path) = vars.text(variable) else {
        return Ok(Policy::default());
    };
    let bad = |bad: BadPolicy| BadSetting::Policy {
        variable,
        path: path.to_owned(),
        bad: Box::new(bad),
    };
    let text = std::fs::read_to_string(path).map_err(|source| bad(BadPolicy::Read { source }))?;
    Policy::parse(&text).map_err(bad)
}

#[cfg(test)]
mod tests;
