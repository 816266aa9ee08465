//! The words of the wire's enums. They are part of the JSON contract.

use muster_core::outcome::{EndReason, Outcome};
use muster_proto::v1;

pub(crate) fn outcome(outcome: v1::Outcome) -> Option<Outcome> {
    match outcome {
        v1::Outcome::Unspecified => None,
        v1::Outcome::Succeeded => Some(Outcome::Succeeded),
        v1::Outcome::Failed => Some(Outcome::Failed),
        v1::Outcome::Oom => Some(Outcome::Oom),
        v1::Outcome::Timeout => Some(Outcome::Timeout),
        v1::Outcome::Canceled => Some(Outcome::Canceled),
        v1::Outcome::Lost => Some(Outcome::Lost),
        v1::Outcome::Preempted => Some(Outcome::Preempted),
        v1::Outcome::ImageError => Some(Outcome::ImageError),
        v1::Outcome::InfraError => Some(Outcome::InfraError),
    }
}

pub(crate) const fn wire_outcome(outcome: Outcome) -> v1::Outcome {
    match outcome {
        Outcome::Succeeded => v1::Outcome::Succeeded,
        Outcome::Failed => v1::Outcome::Failed,
        Outcome::Oom => v1::Outcome::Oom,
        Outcome::Timeout => v1::Outcome::Timeout,
        Outcome::Canceled => v1::Outcome::Canceled,
        Outcome::Lost => v1::Outcome::Lost,
        Outcome::Preempted => v1::Outcome::Preempted,
        Outcome::ImageError => v1::Outcome::ImageError,
        Outcome::InfraError => v1::Outcome::InfraError,
    }
}

/// `pending`, `running`, or how the job ended.
pub(crate) fn job_state(job: &v1::Job) -> &'static str {
    match job.state() {
        v1::JobState::Unspecified => "unknown",
        v1::JobState::Pending => "pending",
        v1::JobState::Running => "running",
        v1::JobState::Ended => outcome(job.outcome()).map_or("ended", Outcome::as_str),
    }
}

/// `pending`, `assigned`, `preparing`, `running`, or how the task ended.
pub(crate) fn task_state(task: &v1::Task) -> &'static str {
    match task.state() {
        v1::TaskState::Unspecified => "unknown",
        v1::TaskState::Pending => "pending",
        v1::TaskState::Assigned => "assigned",
        v1::TaskState::Preparing => "preparing",
        v1::TaskState::Running => "running",
        v1::TaskState::Ended => {
            let end = task.end.as_ref();
            let known = end.and_then(|end| outcome(end.outcome()));
            known.map_or("ended", Outcome::as_str)
        }
    }
}

pub(crate) const fn verdict(verdict: v1::Verdict) -> &'static str {
    match verdict {
        v1::Verdict::Unspecified | v1::Verdict::Unknown => "unknown",
        v1::Verdict::Ok => "ok",
        v1::Verdict::Warning => "warning",
        v1::Verdict::Problem => "problem",
    }
}

pub(crate) const fn agent_state(state: v1::AgentState) -> &'static str {
    match state {
        v1::AgentState::Unspecified => "unknown",
        v1::AgentState::Online => "online",
        v1::AgentState::Unreachable => "unreachable",
        v1::AgentState::Lost => "lost",
    }
}

pub(crate) const fn schedulable(state: v1::Schedulable) -> &'static str {
    match state {
        v1::Schedulable::Unspecified => "unknown",
        v1::Schedulable::Yes => "schedulable",
        v1::Schedulable::Cordoned => "cordoned",
        v1::Schedulable::Draining => "draining",
    }
}

pub(crate) const fn pin(pin: v1::Pin) -> Option<&'static str> {
    match pin {
        v1::Pin::Unspecified => None,
        v1::Pin::Task => Some("task"),
        v1::Pin::Run => Some("run"),
        v1::Pin::Digest => Some("digest"),
    }
}

pub(crate) const fn pull(pull: v1::PullPolicy) -> Option<&'static str> {
    match pull {
        v1::PullPolicy::Unspecified => None,
        v1::PullPolicy::Missing => Some("missing"),
        v1::PullPolicy::Never => Some("never"),
    }
}

pub(crate) const fn delivery(delivery: v1::Delivery) -> Option<&'static str> {
    match delivery {
        v1::Delivery::Unspecified => None,
        v1::Delivery::AtLeastOnce => Some("at_least_once"),
        v1::Delivery::AtMostOnce => Some("at_most_once"),
    }
}

pub(crate) const fn network(network: v1::Network) -> Option<&'static str> {
    match network {
        v1::Network::Unspecified => None,
        v1::Network::Bridge => Some("bridge"),
        v1::Network::None => Some("none"),
    }
}

pub(crate) const fn backoff(kind: v1::backoff::Kind) -> Option<&'static str> {
    match kind {
        v1::backoff::Kind::Unspecified => None,
        v1::backoff::Kind::Fixed => Some("fixed"),
        v1::backoff::Kind::Exponential => Some("exponential"),
    }
}

pub(crate) const fn stream(stream: v1::LogStream) -> &'static str {
    match stream {
        v1::LogStream::Unspecified => "unknown",
        v1::LogStream::Stdout => "stdout",
        v1::LogStream::Stderr => "stderr",
        v1::LogStream::Gap => "gap",
    }
}

pub(crate) const fn action(action: v1::ApplyAction) -> &'static str {
    match action {
        v1::ApplyAction::Unspecified => "unknown",
        v1::ApplyAction::Unchanged => "unchanged",
        v1::ApplyAction::Created => "created",
        v1::ApplyAction::Changed => "changed",
    }
}

/// An end for people: `succeeded`, `failed(2)`, `infra_error (interrupted): the engine restarted`.
pub(crate) fn end(end: &v1::End) -> String {
    let word = outcome(end.outcome()).map_or("ended", Outcome::as_str);
    let mut text = match (end.outcome(), end.exit_code) {
        (v1::Outcome::Failed, Some(code)) => format!("failed({code})"),
        (v1::Outcome::Succeeded, Some(code)) if code != 0 => {
            format!("succeeded (exit code {code})")
        }
        (v1::Outcome::Succeeded, _) => return word.to_owned(),
        _ => word.to_owned(),
    };
    let says_more = !matches!(
        EndReason::from_word(&end.reason),
        EndReason::Exited | EndReason::Other
    );
    if says_more {
        text.push_str(&format!(" ({})", end.reason));
    }
    if !end.message.is_empty() {
        text.push_str(": ");
        text.push_str(&end.message);
    }
    text
}
