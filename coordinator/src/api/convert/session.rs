//! What agents say and what they are told.

use std::collections::BTreeSet;
use std::sync::Arc;

use muster_core::agent::{Held, Hello, Profile};
use muster_core::channel::ChannelId;
use muster_core::effect::{Offer, Order, WarmOrder};
use muster_core::event::{AttemptEnd, News, Report};
use muster_core::ids::{
    AgentId, AttemptId, AttemptNo, BadJobId, BadName, PoolName, SessionNo, TaskId, Term,
};
use muster_core::job::Job;
use muster_core::outcome::{End, EndReason, Outcome, Usage};
use muster_core::spec::{ImageSource, Pin};
use muster_core::task::{Stop, StopReason};
use muster_core::time::Millis;
use muster_proto::v1 as pb;

use super::agents::{capacity_from_wire, held_from_wire};
use super::duration::{millis_from_wire, time_from_wire};
use super::jobs::{attempt_id_to_wire, outcome_from_wire};
use super::spec::spec_to_wire;

/// Longest message about an end that is kept, in bytes.
const MESSAGE_MAX: usize = 1024;
/// Containers without a journal that are taken from one Hello.
const ORPHANS: usize = 4096;
/// Reasons of a refusal that are in the agent's host and not in the task.
const UNFIT: [&str; 2] = ["disk_full", "docker_degraded"];

/// Why an agent's message can't be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadMessage {
    #[error("agent {name:?} {problem}")]
    Agent { name: String, problem: BadName },
    #[error("pool {name:?} {problem}")]
    Pool { name: String, problem: BadName },
    #[error("job id {id:?}")]
    Job { id: String, source: BadJobId },
    #[error("the message has no {what}")]
    Missing { what: &'static str },
}

/// What an agent says first; `ours` is the coordinator's cluster. Containers of other clusters are left out.
pub(crate) fn hello_from_wire(
    wire: pb::Hello,
    session: SessionNo,
    ours: &str,
) -> Result<Hello, BadMessage> {
    let pb::Hello {
        agent,
        pool,
        labels,
        capacity,
        version,
        engine,
        boot_id,
        process: _,
        term,
        attempts,
        images,
        cluster: _,
        details,
        leases,
        orphans,
        platform,
    } = wire;
    let id = AgentId::parse(&agent).map_err(|problem| BadMessage::Agent {
        name: agent,
        problem,
    })?;
    let pool = PoolName::parse(&pool).map_err(|problem| BadMessage::Pool {
        name: pool,
        problem,
    })?;
    let attempts: Result<BTreeSet<AttemptId>, BadMessage> =
        attempts.into_iter().map(attempt_from_wire).collect();
    let capacity = capacity_from_wire(capacity.unwrap_or_default());
    Ok(Hello {
        agent: id,
        session,
        profile: Profile {
            pool,
            labels,
            capacity,
            version,
            engine,
            boot_id,
            leases,
            platform,
        },
        term: Term(term),
        attempts: attempts?,
        // What can't be read is as if it were not said.
        details: details.into_iter().filter_map(held_attempt).collect(),
        orphans: orphans
            .into_iter()
            .take(ORPHANS)
            .filter_map(|orphan| orphan_from_wire(orphan, ours))
            .collect(),
        held: held_from_wire(images),
    })
}

fn orphan_from_wire(wire: pb::Orphan, ours: &str) -> Option<AttemptId> {
    let pb::Orphan { attempt, cluster } = wire;
    let attempt = attempt.filter(|_| cluster == ours)?;
    attempt_from_wire(attempt).ok()
}

fn held_attempt(wire: pb::HeldAttempt) -> Option<(AttemptId, Held)> {
    let pb::HeldAttempt {
        attempt,
        image,
        release,
        started,
    } = wire;
    let held = Held {
        image: image.parse().ok()?,
        release: (release > 0).then_some(release),
        started: started.as_ref().map(time_from_wire),
    };
    Some((attempt_from_wire(attempt?).ok()?, held))
}

pub(crate) fn attempt_from_wire(wire: pb::AttemptId) -> Result<AttemptId, BadMessage> {
    let pb::AttemptId { job, index, number } = wire;
    let id = job
        .parse()
        .map_err(|source| BadMessage::Job { id: job, source })?;
    Ok(AttemptId {
        task: TaskId { job: id, index },
        number: AttemptNo(number),
    })
}

pub(crate) fn report_from_wire(
    wire: pb::Report,
    agent: &AgentId,
    session: SessionNo,
) -> Result<Report, BadMessage> {
    let pb::Report { attempt, seq, news } = wire;
    let attempt = attempt.ok_or(BadMessage::Missing { what: "attempt" })?;
    let news = match news.ok_or(BadMessage::Missing { what: "news" })? {
        pb::report::News::Accepted(pb::Accepted {}) => News::Accepted,
        pb::report::News::Refused(pb::Refused { reason, message }) => News::Refused {
            unfit: UNFIT.contains(&reason.as_str()),
            message: cut(format!("{reason}: {message}")),
        },
        pb::report::News::Started(pb::Started { at }) => {
            let at = at.ok_or(BadMessage::Missing {
                what: "time of the start",
            })?;
            News::Started {
                at: time_from_wire(&at),
            }
        }
        pb::report::News::Ended(ended) => News::Ended(Box::new(ended_from_wire(ended)?)),
    };
    let attempt = attempt_from_wire(attempt)?;
    Ok(Report {
        agent: agent.clone(),
        session,
        attempt,
        seq,
        news,
    })
}

fn ended_from_wire(wire: pb::Ended) -> Result<AttemptEnd, BadMessage> {
    let pb::Ended {
        end,
        started,
        ended,
        usage,
        metrics,
        metrics_problem,
    } = wire;
    let ended = ended.ok_or(BadMessage::Missing {
        what: "time of the end",
    })?;
    Ok(AttemptEnd {
        end: noting(
            end_from_wire(end.ok_or(BadMessage::Missing { what: "end" })?),
            metrics_problem,
        ),
        started: started.as_ref().map(time_from_wire),
        ended: time_from_wire(&ended),
        usage: usage_from_wire(usage.unwrap_or_default()),
        metrics: (!metrics.is_empty()).then(|| Arc::from(metrics.as_ref())),
    })
}

/// A metrics file that could not be used changes no outcome, but whoever asks why shall read of it.
fn noting(mut end: End, metrics_problem: String) -> End {
    if end.message.is_empty() {
        end.message = cut(metrics_problem);
    } else if !metrics_problem.is_empty() {
        end.message = cut(format!("{}; {metrics_problem}", end.message));
    }
    end
}

/// An outcome that a newer agent knows and this coordinator does not is an infrastructure error: it
/// must be no success, and nobody's fault.
fn end_from_wire(wire: pb::End) -> End {
    let pb::End {
        outcome,
        exit_code,
        reason,
        message,
    } = wire;
    End {
        outcome: outcome_from_wire(outcome).unwrap_or(Outcome::InfraError),
        exit_code,
        reason: EndReason::from_word(&reason),
        message: cut(message),
    }
}

fn cut(mut message: String) -> String {
    if message.len() > MESSAGE_MAX {
        let end = (0..=MESSAGE_MAX)
            .rev()
            .find(|end| message.is_char_boundary(*end));
        message.truncate(end.unwrap_or(0));
    }
    message
}

fn usage_from_wire(wire: pb::Usage) -> Usage {
    let pb::Usage {
        peak_memory_bytes,
        cpu_seconds,
        pull,
        start,
        run,
    } = wire;
    let span = |span: Option<prost_types::Duration>| -> Option<Millis> {
        span.as_ref().and_then(millis_from_wire)
    };
    Usage {
        peak_memory_bytes,
        cpu_micros: cpu_seconds.and_then(micros),
        pull: span(pull),
        start: span(start),
        run: span(run),
    }
}

fn micros(seconds: f64) -> Option<u64> {
    let span = std::time::Duration::try_from_secs_f64(seconds).ok()?;
    u64::try_from(span.as_micros()).ok()
}

pub(crate) fn order_to_wire(order: Order) -> pb::Order {
    let kind = match order {
        Order::Offer(offer) => pb::order::Kind::Offer(offer_to_wire(&offer)),
        Order::Stop {
            attempt,
            stop: Stop { reason, now },
        } => pb::order::Kind::Stop(pb::Stop {
            attempt: Some(attempt_id_to_wire(attempt)),
            reason: stop_reason_to_wire(reason).into(),
            now,
        }),
        Order::Ack { attempt, seq } => pb::order::Kind::Ack(pb::Ack {
            attempt: Some(attempt_id_to_wire(attempt)),
            seq,
        }),
        Order::Keep {
            channel: ChannelId { team, name },
            images,
            warm,
        } => pb::order::Kind::Keep(pb::Keep {
            channel: format!("{team}/{name}"),
            images: images.iter().map(ToString::to_string).collect(),
            warm: warm.map(|WarmOrder { image, warm }| pb::Warm {
                image: image.to_string(),
                min: warm.min(),
                max: warm.max(),
            }),
        }),
        Order::Adopt(offer) => pb::order::Kind::Adopt(offer_to_wire(&offer)),
        Order::Discard { attempt } => pb::order::Kind::Discard(pb::Discard {
            attempt: Some(attempt_id_to_wire(attempt)),
        }),
        Order::Prefetch { image, at_once } => pb::order::Kind::Prefetch(pb::Prefetch {
            image: image.to_string(),
            at_once,
        }),
    };
    pb::Order { kind: Some(kind) }
}

fn offer_to_wire(offer: &Offer) -> pb::Offer {
    let Offer {
        attempt,
        job,
        image,
        release,
        phase,
        memory,
    } = offer;
    let Job {
        id: _,
        team,
        spec,
        array,
        key: _,
        pinned: _,
        release: _,
        created: _,
        traceparent,
    } = job.as_ref();
    let channel = match &spec.image {
        ImageSource::Channel {
            name,
            pin: Pin::Task | Pin::Run,
        } => name.to_string(),
        ImageSource::Reference { .. } => String::new(),
    };
    let mut wire = spec_to_wire(spec);
    if let Some(resources) = &mut wire.resources {
        resources.memory_bytes = *memory;
    }
    pb::Offer {
        attempt: Some(attempt_id_to_wire(*attempt)),
        team: team.to_string(),
        spec: Some(wire),
        array: *array,
        image: image.to_string(),
        channel,
        release: release.unwrap_or(0),
        traceparent: traceparent.clone().unwrap_or_default(),
        rollout_phase: phase
            .map(|phase| phase.as_str().to_owned())
            .unwrap_or_default(),
    }
}

const fn stop_reason_to_wire(reason: StopReason) -> pb::StopReason {
    match reason {
        StopReason::Canceled => pb::StopReason::Canceled,
        StopReason::Preempted => pb::StopReason::Preempted,
        StopReason::Superseded => pb::StopReason::Superseded,
        StopReason::Timeout => pb::StopReason::Timeout,
    }
}
