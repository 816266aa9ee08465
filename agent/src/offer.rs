//! An offer, read and checked again: the agent trusts neither the coordinator's bounds nor its policy.

use std::collections::BTreeMap;

use muster_core::ids::{AttemptId, TeamName};
use muster_core::image::Image;
use muster_core::spec::limits;
use muster_core::time::Millis;
use muster_proto::v1 as pb;

use crate::disk::DiskFull;
use crate::policy::{Forbidden, Policy};
use crate::runtime::Limits;
use crate::wire;

/// The host's disk has no room.
pub(crate) const DISK_FULL: &str = "disk_full";
/// The container engine is slow or silent.
pub(crate) const DOCKER_DEGRADED: &str = "docker_degraded";
const DEFAULT_RUN_TIMEOUT: Millis = Millis::from_secs(86_400);
const DEFAULT_GRACE: Millis = Millis::from_secs(10);

/// What the agent needs of an offer. Can only be within bounds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Task {
    pub id: AttemptId,
    pub team: TeamName,
    pub job_name: String,
    pub pool: String,
    pub tasks: u32,
    pub image: Image,
    pub channel: String,
    pub release: u64,
    /// Of the rollout that the release is on trial in; empty: it is not.
    pub phase: String,
    pub traceparent: String,
    pub entrypoint: Option<Vec<String>>,
    pub command: Vec<String>,
    pub env: BTreeMap<String, String>,
    pub workdir: Option<String>,
    /// `None`: the image's, unless that is root.
    pub user: Option<String>,
    pub cpu_millis: u32,
    pub memory_bytes: u64,
    pub pids: u32,
    pub gpus: u32,
    pub run_timeout: Millis,
    pub kill_grace: Millis,
    /// How long ago the last contact with the coordinator may be.
    pub stop_after: Option<Millis>,
    pub success_codes: Vec<u8>,
    pub bridge: bool,
    pub writable_root: bool,
    /// Whether the image may be pulled.
    pub may_pull: bool,
}

/// Why an offer is refused. The attempt never ran and never will.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("the offer's {field} can't be used: {problem}")]
    Malformed {
        field: &'static str,
        problem: String,
    },
    #[error(transparent)]
    Policy(#[from] Forbidden),
    #[error(transparent)]
    DiskFull(#[from] DiskFull),
    #[error("the task wants {wanted} GPUs, and this agent gives {offered} to tasks")]
    Gpus { wanted: u32, offered: u32 },
    #[error("the host's container engine does not answer in time; new tasks wait until it does")]
    Degraded,
    #[error("this agent never saw it")]
    NeverSeen,
}

impl Refusal {
    /// The stable word on the wire.
    pub(crate) const fn word(&self) -> &'static str {
        match self {
            Self::Malformed { .. } => "malformed",
            Self::Policy(_) => "policy",
            Self::DiskFull(_) => DISK_FULL,
            Self::Gpus { .. } => "no_gpus",
            Self::Degraded => DOCKER_DEGRADED,
            Self::NeverSeen => "never_seen",
        }
    }
}

fn malformed(field: &'static str, problem: impl ToString) -> Refusal {
    Refusal::Malformed {
        field,
        problem: problem.to_string(),
    }
}

impl Task {
    /// What its container may use.
    pub(crate) const fn limits(&self) -> Limits {
        Limits {
            cpu_millis: self.cpu_millis,
            memory_bytes: self.memory_bytes,
            pids: self.pids,
        }
    }

    /// Reads an offer under the host's policy.
    pub(crate) fn check(offer: &pb::Offer, policy: &Policy) -> Result<Self, Refusal> {
        let task = Self::read(offer)?;
        if let Some(spec) = &offer.spec {
            policy.check(&task.image, spec)?;
        }
        Ok(task)
    }

    /// Reads an offer that was accepted before, perhaps under another policy.
    pub(crate) fn read(offer: &pb::Offer) -> Result<Self, Refusal> {
        let id = offer.attempt.as_ref().and_then(wire::attempt_id);
        let spec = offer.spec.clone();
        let spec = spec.ok_or_else(|| malformed("spec", "it is missing"))?;
        let resources = spec.resources.clone().unwrap_or_default();
        let bridge = spec.network() != pb::Network::None;
        let may_pull = spec.pull() != pb::PullPolicy::Never;
        let task = Self {
            id: id.ok_or_else(|| malformed("attempt", "it is no attempt's id"))?,
            team: TeamName::parse(&offer.team).map_err(|bad| malformed("team", bad))?,
            tasks: offer.array.max(1),
            image: offer.image.parse().map_err(|bad| malformed("image", bad))?,
            channel: offer.channel.clone(),
            release: offer.release,
            phase: offer.rollout_phase.clone(),
            traceparent: traceparent(&offer.traceparent),
            run_timeout: span(spec.run_timeout, DEFAULT_RUN_TIMEOUT, limits::RUN_TIMEOUT),
            kill_grace: span(spec.kill_grace, DEFAULT_GRACE, limits::GRACE),
            stop_after: spec.on_disconnect.and_then(stop_after),
            success_codes: codes(&spec.success_codes)?,
            job_name: spec.name,
            pool: spec.pool,
            entrypoint: spec.entrypoint.map(|argv| argv.args),
            command: spec.command,
            env: spec.env,
            workdir: some(spec.workdir),
            user: some(spec.user),
            cpu_millis: resources.cpu_millis,
            memory_bytes: resources.memory_bytes,
            pids: resources.pids,
            gpus: resources.gpus,
            bridge,
            writable_root: spec.writable_root,
            may_pull,
        };
        task.check_bounds()?;
        Ok(task)
    }

    fn check_bounds(&self) -> Result<(), Refusal> {
        if !(limits::MEMORY_MIN..=limits::MEMORY_MAX).contains(&self.memory_bytes) {
            return Err(malformed("memory", self.memory_bytes));
        }
        if !(1..=limits::CPU_MILLIS).contains(&self.cpu_millis) {
            return Err(malformed("cpu", self.cpu_millis));
        }
        if !(1..=limits::PIDS).contains(&self.pids) {
            return Err(malformed("pids", self.pids));
        }
        let argv = self.entrypoint.iter().flatten().chain(&self.command);
        let count = argv.clone().count();
        let bytes: usize = argv.clone().map(String::len).sum();
        if count > 2 * limits::ARGS || bytes > 2 * limits::ARGS_BYTES {
            return Err(malformed("command", "it is too long"));
        }
        if argv.into_iter().any(|arg| arg.contains('\0')) {
            return Err(malformed("command", "it holds a zero byte"));
        }
        let relative = |dir: &String| !dir.starts_with('/');
        if self.workdir.as_ref().is_some_and(relative) {
            return Err(malformed("workdir", "it is not absolute"));
        }
        self.check_env()
    }

    fn check_env(&self) -> Result<(), Refusal> {
        let bytes: usize = self.env.iter().map(|(n, v)| n.len() + v.len()).sum();
        if bytes > limits::ENV_BYTES {
            return Err(malformed("env", "it is too long"));
        }
        for (name, value) in &self.env {
            if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
                return Err(malformed("env", format!("{name:?} is no variable")));
            }
            if name.starts_with("MUSTER_") {
                let problem = format!("{name} is one that muster sets");
                return Err(malformed("env", problem));
            }
        }
        Ok(())
    }
}

fn some(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

fn span(wire: Option<prost_types::Duration>, default: Millis, most: Millis) -> Millis {
    let span = wire.as_ref().and_then(wire::millis).unwrap_or(default);
    span.min(most)
}

fn stop_after(wish: pb::OnDisconnect) -> Option<Millis> {
    let pb::OnDisconnect { stop_after } = wish;
    let span = stop_after.as_ref().and_then(wire::millis)?;
    Some(span.min(limits::RUN_TIMEOUT))
}

fn codes(wire: &[u32]) -> Result<Vec<u8>, Refusal> {
    let code = |code: &u32| u8::try_from(*code).map_err(|_| malformed("success_codes", code));
    wire.iter().map(code).collect()
}

/// A W3C trace context goes into the task's environment, so only what looks like one is kept.
fn traceparent(text: &str) -> String {
    let known = |c: char| c.is_ascii_hexdigit() || c == '-';
    let ok = text.len() == 55 && text.chars().all(known);
    if ok { text.to_owned() } else { String::new() }
}

#[cfg(test)]
mod tests;
