//! The engine's answers, read into the agent's words.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use bollard::container::LogOutput;
use bollard::errors::Error;
use bollard::models::{
    ContainerInspectResponse, ContainerState, ContainerStateStatusEnum as Status,
    ContainerStatsResponse, ContainerSummary, CreateImageInfo, EventMessage, EventMessageTypeEnum,
    ImageInspect, ImageSummary,
};
use muster_core::logframe::LogStream;
use muster_core::time::Timestamp;

use crate::plan::Seen;
use crate::runtime::{
    Container, EngineError, EngineEvent, ImageFacts, Listed, ListedImage, Output, PullError,
    PullProgress, Stats,
};

pub(super) fn error(error: Error) -> EngineError {
    match error {
        Error::DockerResponseServerError {
            status_code,
            message,
        } => EngineError::Refused {
            status: status_code,
            message,
        },
        Error::DockerStreamError { error } => EngineError::Refused {
            status: 500,
            message: error,
        },
        other => unreachable(other),
    }
}

pub(super) fn unreachable(error: Error) -> EngineError {
    EngineError::Unreachable {
        source: Box::new(error),
    }
}

/// The response ended before it said what was asked.
pub(super) fn cut_off(request: &'static str) -> EngineError {
    EngineError::Unreachable {
        source: format!("the answer to {request} was cut off").into(),
    }
}

pub(super) fn pull_error(message: String) -> PullError {
    let unknown = ["manifest unknown", "not found", "does not exist"];
    if unknown.iter().any(|words| message.contains(words)) {
        PullError::NoSuchImage { message }
    } else {
        PullError::Failed { message }
    }
}

pub(super) fn container(found: ContainerInspectResponse) -> Container {
    let state = found.state.unwrap_or_default();
    let started = state.started_at.as_deref().and_then(timestamp);
    let labels = found.config.and_then(|config| config.labels);
    Container {
        seen: seen(&state, started.is_some()),
        exit_code: state
            .exit_code
            .and_then(|code| i32::try_from(code).ok())
            .unwrap_or(-1),
        oom_killed: state.oom_killed.unwrap_or(false),
        error: state.error.unwrap_or_default(),
        started,
        finished: state.finished_at.as_deref().and_then(timestamp),
        labels: labels.into_iter().flatten().collect(),
    }
}

fn seen(state: &ContainerState, started: bool) -> Seen {
    if state.dead == Some(true) {
        return Seen::Dead;
    }
    match state.status {
        Some(Status::RUNNING | Status::RESTARTING | Status::STOPPING) => Seen::Running,
        Some(Status::PAUSED) => Seen::Paused,
        Some(Status::REMOVING) => Seen::Removing,
        Some(Status::DEAD) => Seen::Dead,
        Some(Status::EXITED) if started => Seen::Exited,
        Some(Status::CREATED | Status::EXITED | Status::EMPTY) | None => {
            let failed = state.error.as_deref().is_some_and(|text| !text.is_empty());
            if failed || state.exit_code.is_some_and(|code| code != 0) {
                Seen::StartFailed
            } else if state.status == Some(Status::EXITED) {
                Seen::Exited
            } else {
                Seen::Created
            }
        }
    }
}

/// `None` for the engine's zero time, the year 1.
fn timestamp(text: &str) -> Option<Timestamp> {
    let time: jiff::Timestamp = text.parse().ok()?;
    let millis = u64::try_from(time.as_millisecond()).ok()?;
    (millis > 0).then_some(Timestamp(millis))
}

pub(super) fn listed(found: ContainerSummary) -> Option<Listed> {
    let name = found.names?.into_iter().next()?;
    Some(Listed {
        name: name.trim_start_matches('/').to_owned(),
        labels: found.labels?.into_iter().collect(),
    })
}

/// Splits the time off that the engine puts before each piece.
pub(super) fn output(piece: LogOutput) -> Output {
    let stream = match &piece {
        LogOutput::StdErr { .. } => LogStream::Stderr,
        LogOutput::StdOut { .. } | LogOutput::StdIn { .. } | LogOutput::Console { .. } => {
            LogStream::Stdout
        }
    };
    let bytes = piece.into_bytes();
    let space = bytes.iter().take(40).position(|byte| *byte == b' ');
    let stamped = space.and_then(|space| {
        let text = std::str::from_utf8(&bytes[..space]).ok()?;
        let time: jiff::Timestamp = text.parse().ok()?;
        let micros = u64::try_from(time.as_microsecond()).ok()?;
        Some((micros, bytes.slice(space + 1..)))
    });
    let (at_micros, data) = stamped.unwrap_or((0, bytes));
    Output {
        stream,
        at_micros,
        data,
    }
}

pub(super) fn stats(found: ContainerStatsResponse) -> Stats {
    let usage = found.cpu_stats.and_then(|cpu| cpu.cpu_usage);
    let memory = found.memory_stats.unwrap_or_default();
    Stats {
        cpu_micros: usage.and_then(|usage| usage.total_usage).unwrap_or(0) / 1000,
        memory_bytes: memory.max_usage.or(memory.usage).unwrap_or(0),
    }
}

pub(super) fn image(found: ImageInspect) -> ImageFacts {
    let config = found.config.unwrap_or_default();
    ImageFacts {
        id: found.id.unwrap_or_default(),
        entrypoint: config.entrypoint.unwrap_or_default(),
        command: config.cmd.unwrap_or_default(),
        user: config.user.unwrap_or_default(),
    }
}

pub(super) fn listed_image(found: ImageSummary) -> Option<ListedImage> {
    let named = |names: Vec<String>| {
        let named = |name: &String| !name.contains("<none>");
        names.into_iter().filter(named).collect()
    };
    Some(ListedImage {
        id: found.id.parse().ok()?,
        digests: named(found.repo_digests),
        tags: named(found.repo_tags),
        created: found.created,
    })
}

pub(super) fn event(message: EventMessage) -> Option<EngineEvent> {
    if message.typ == Some(EventMessageTypeEnum::IMAGE) {
        return Some(EngineEvent::Images);
    }
    let mut attributes = message.actor?.attributes?;
    let container = attributes.remove("name")?;
    match message.action.as_deref() {
        Some("die") => Some(EngineEvent::Die { container }),
        Some("kill") => Some(EngineEvent::Kill {
            container,
            signal: attributes.get("signal")?.parse().ok()?,
            at: Timestamp(u64::try_from(message.time_nano? / 1_000_000).ok()?),
        }),
        Some(_) | None => None,
    }
}

/// The layers of a pull, as far as the engine has begun them.
#[derive(Debug, Default)]
pub(super) struct Layers(BTreeMap<String, (u64, u64)>);

impl Layers {
    /// Adds up what the engine says of one layer. Extracting is told in the same form, and is no fetching.
    pub(super) fn note(&mut self, info: &CreateImageInfo, progress: &PullProgress) {
        let (Some(id), Some(status)) = (&info.id, &info.status) else {
            return;
        };
        let bytes = |value: Option<i64>| value.and_then(|value| u64::try_from(value).ok());
        let detail = info.progress_detail.as_ref();
        let current = detail.and_then(|detail| bytes(detail.current));
        let total = detail.and_then(|detail| bytes(detail.total));
        match (status.as_str(), current, total) {
            ("Downloading", Some(current), Some(total)) => {
                self.0.insert(id.clone(), (current, total));
            }
            ("Download complete" | "Pull complete", ..) => {
                if let Some((current, total)) = self.0.get_mut(id) {
                    *current = *total;
                }
            }
            _ => return,
        }
        let (done, total) = self
            .0
            .values()
            .fold((0, 0), |(done, all), (one, of)| (done + one, all + of));
        progress.done.store(done, Ordering::Relaxed);
        progress.total.store(total, Ordering::Relaxed);
    }
}
