//! How a command ends: its exit code, and what it says when it could not do its work.

use std::path::PathBuf;
use std::process::ExitCode;

use muster_core::outcome::{EndReason, Outcome};
use muster_proto::is_broken;
use serde::Serialize;
use tonic::Code;
use tonic_types::StatusExt;

use crate::client::ConnectError;
use crate::config::BadConfig;
use crate::daemon::DaemonError;
use crate::files::BadFile;
use crate::submit::BadSpec;
use crate::target::BadTarget;

const MAYBE_DONE: &str =
    "what was asked for may have been done; look before you ask again, or submit with --key";

/// A process's exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exit(pub(crate) u8);

impl Exit {
    pub(crate) const DONE: Self = Self(0);
    pub(crate) const OTHER: Self = Self(1);
    pub(crate) const USAGE: Self = Self(2);
    pub(crate) const NOT_FOUND: Self = Self(3);
    pub(crate) const DENIED: Self = Self(4);
    pub(crate) const CONFLICT: Self = Self(5);
    pub(crate) const UNREACHABLE: Self = Self(6);
    pub(crate) const NO_FIT: Self = Self(7);
    pub(crate) const TIMED_OUT: Self = Self(8);
    pub(crate) const QUOTA: Self = Self(9);
    pub(crate) const TASK_FAILED: Self = Self(10);
    pub(crate) const FLEET_FAILED: Self = Self(11);
    pub(crate) const CANCELED: Self = Self(12);
    pub(crate) const INTERRUPTED: Self = Self(130);

    /// The class of an end, for several tasks and for `wait`. The larger severity counts.
    pub(crate) const fn of_class(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Succeeded => Self::DONE,
            Outcome::Failed | Outcome::Oom | Outcome::Timeout => Self::TASK_FAILED,
            Outcome::Lost | Outcome::Preempted | Outcome::ImageError | Outcome::InfraError => {
                Self::FLEET_FAILED
            }
            Outcome::Canceled => Self::CANCELED,
        }
    }

    /// What `docker run` would have ended with.
    pub(crate) fn as_docker(outcome: Outcome, exit_code: Option<i32>, reason: EndReason) -> Self {
        let own = exit_code.and_then(|code| u8::try_from(code & 0xff).ok());
        match outcome {
            Outcome::Succeeded => own.map_or(Self::DONE, Self),
            // Without a code of its own, or with 0 although something else went wrong.
            Outcome::Failed => own.filter(|code| *code != 0).map_or(Self::OTHER, Self),
            Outcome::Oom => Self(137),
            Outcome::Timeout => Self(124),
            Outcome::Canceled => Self(143),
            Outcome::ImageError => match (own, reason) {
                (Some(code @ (126 | 127)), _) => Self(code),
                (_, EndReason::NoSuchEntrypoint) => Self(127),
                (_, EndReason::Rejected) => Self(126),
                _ => Self(125),
            },
            Outcome::Lost | Outcome::Preempted | Outcome::InfraError => Self(125),
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.0)
    }
}

/// Why a command did not do its work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Target(#[from] BadTarget),
    #[error(transparent)]
    Spec(#[from] BadSpec),
    #[error(transparent)]
    Config(#[from] BadConfig),
    #[error(transparent)]
    Manifest(#[from] BadFile),
    #[error(transparent)]
    Connect(#[from] ConnectError),
    // The status is no source: its message is the whole of what it has to say.
    #[error("{}", .0.message())]
    Call(Box<tonic::Status>),
    #[error("the connection to the coordinator broke: {}", .0.message())]
    Broken(Box<tonic::Status>),
    #[error(transparent)]
    Daemon(#[from] DaemonError),
    #[error("job {job} has {array} tasks; name one")]
    ManyTasks { job: String, array: u32 },
    #[error("task {job}.{index} has no attempt yet")]
    NoAttempt { job: String, index: u32 },
    #[error("{message}")]
    NoJob { message: String },
    #[error("no agent is called {name}")]
    NoAgent { name: String },
    #[error("the team has no job yet")]
    NoLastJob,
    #[error("not confirmed")]
    NotConfirmed,
    #[error("still not ended after {span}")]
    WaitedLongEnough { span: muster_core::time::Millis },
    #[error("no backup was made")]
    Backup(#[from] muster_coordinator::store::BackupError),
    #[error("nothing was restored")]
    Restore(#[from] muster_coordinator::store::RestoreError),
    #[error("{} is there already", file.display())]
    BundleExists { file: PathBuf },
    #[error("{} could not be written", file.display())]
    Bundle {
        file: PathBuf,
        source: std::io::Error,
    },
    #[error("the coordinator's answer has no {what}")]
    Incomplete { what: &'static str },
    #[error("interrupted")]
    Interrupted,
    #[error("writing the result failed")]
    Write { source: std::io::Error },
    #[error("the process could not be set up")]
    Setup { source: std::io::Error },
}

impl From<tonic::Status> for Failure {
    fn from(status: tonic::Status) -> Self {
        if is_broken(&status) {
            Self::Broken(Box::new(status))
        } else {
            Self::Call(Box::new(status))
        }
    }
}

impl Failure {
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Target(_)
            | Self::Spec(_)
            | Self::Config(_)
            | Self::Manifest(_)
            | Self::ManyTasks { .. } => Exit::USAGE,
            Self::Connect(error) => error.exit(),
            Self::Broken(_) => Exit::UNREACHABLE,
            Self::Call(status) => of_status(status.code()).0,
            Self::Daemon(error) => error.exit(),
            Self::NoJob { .. }
            | Self::NoAttempt { .. }
            | Self::NoAgent { .. }
            | Self::NoLastJob => Exit::NOT_FOUND,
            Self::WaitedLongEnough { .. } => Exit::TIMED_OUT,
            Self::BundleExists { .. } => Exit::CONFLICT,
            Self::Interrupted => Exit::INTERRUPTED,
            Self::NotConfirmed
            | Self::Backup(_)
            | Self::Restore(_)
            | Self::Bundle { .. }
            | Self::Incomplete { .. }
            | Self::Write { .. }
            | Self::Setup { .. } => Exit::OTHER,
        }
    }

    /// A stable word for programs.
    fn code(&self) -> String {
        let word = match self {
            Self::Target(_) | Self::ManyTasks { .. } => "bad_id",
            Self::Spec(_) => "bad_spec",
            Self::Config(_) => "bad_config",
            Self::Manifest(_) => "bad_manifest",
            Self::Connect(error) => error.code(),
            Self::Broken(_) => "unavailable",
            Self::Call(status) => {
                let reason = status.get_details_error_info().map(|info| info.reason);
                let reason = reason.filter(|reason| !reason.is_empty());
                return reason.unwrap_or_else(|| of_status(status.code()).1.to_owned());
            }
            Self::Daemon(_) => "daemon",
            Self::NoJob { .. }
            | Self::NoAttempt { .. }
            | Self::NoAgent { .. }
            | Self::NoLastJob => "not_found",
            Self::Backup(_) => "backup",
            Self::Restore(_) => "restore",
            Self::NotConfirmed => "not_confirmed",
            Self::WaitedLongEnough { .. } => "timeout",
            Self::Interrupted => "interrupted",
            Self::Incomplete { .. } => "internal",
            Self::BundleExists { .. } => "already_exists",
            Self::Bundle { .. } | Self::Write { .. } | Self::Setup { .. } => "io",
        };
        word.to_owned()
    }

    /// The next command to type, or what to change.
    fn hint(&self) -> Option<String> {
        match self {
            Self::Connect(error) => error.hint(),
            Self::Broken(_) => Some(MAYBE_DONE.to_owned()),
            Self::Spec(error) => error.hint(),
            Self::Call(status) => {
                let links = status.get_details_help().map(|help| help.links);
                let links = links.unwrap_or_default().into_iter();
                links
                    .map(|link| link.description)
                    .find(|text| !text.is_empty())
            }
            Self::ManyTasks { job, .. } => {
                Some(format!("for example {job}.0; see: muster ps {job}"))
            }
            Self::NoAttempt { job, index } => Some(format!("see: muster why {job}.{index}")),
            Self::NoJob { .. } => Some("see what there is: muster ps -a".to_owned()),
            Self::NoAgent { .. } => Some("see: muster agent list".to_owned()),
            Self::NotConfirmed => Some("-y skips the question".to_owned()),
            Self::BundleExists { .. } => Some("name another file, or remove that one".to_owned()),
            Self::Target(_)
            | Self::Config(_)
            | Self::Manifest(_)
            | Self::Daemon(_)
            | Self::NoLastJob
            | Self::WaitedLongEnough { .. }
            | Self::Interrupted
            | Self::Backup(_)
            | Self::Restore(_)
            | Self::Bundle { .. }
            | Self::Incomplete { .. }
            | Self::Write { .. }
            | Self::Setup { .. } => None,
        }
    }

    /// What is wrong with single fields of the request, as `field: problem`.
    fn fields(&self) -> Vec<String> {
        let Self::Call(status) = self else {
            return Vec::new();
        };
        let bad = status.get_details_bad_request();
        let fields = bad.map(|bad| bad.field_violations).unwrap_or_default();
        let lines = fields
            .into_iter()
            .map(|field| format!("{}: {}", field.field, field.description));
        lines.collect()
    }

    /// The whole report, for people or as JSON.
    pub(crate) fn report(&self, as_json: bool) -> String {
        let fields = self.fields();
        if as_json {
            let report = ErrorReport {
                error: ErrorBody {
                    code: self.code(),
                    message: match fields.as_slice() {
                        [] => chain(self),
                        fields => fields.join("; "),
                    },
                    hint: self.hint(),
                    docs: "docs/cli.md#exit-codes",
                },
            };
            return serde_json::to_string(&report).expect("strings are always valid JSON");
        }
        let mut lines = match fields.as_slice() {
            [] => vec![format!("error: {}", chain(self))],
            [field] => vec![format!("error: {field}")],
            fields => {
                let mut lines = vec![format!("error: {} things are wrong", fields.len())];
                lines.extend(fields.iter().map(|field| format!("  {field}")));
                lines
            }
        };
        lines.extend(self.hint().map(|hint| format!("  {hint}")));
        lines.join("\n")
    }
}

/// The message and those of what caused it, without repetition.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}

/// The exit code and the word of a gRPC status.
const fn of_status(code: Code) -> (Exit, &'static str) {
    match code {
        Code::Ok => (Exit::DONE, "ok"),
        Code::InvalidArgument | Code::OutOfRange => (Exit::USAGE, "invalid_argument"),
        Code::NotFound => (Exit::NOT_FOUND, "not_found"),
        Code::PermissionDenied => (Exit::DENIED, "permission_denied"),
        Code::Unauthenticated => (Exit::DENIED, "unauthenticated"),
        Code::AlreadyExists => (Exit::CONFLICT, "already_exists"),
        Code::Aborted => (Exit::CONFLICT, "aborted"),
        Code::FailedPrecondition => (Exit::CONFLICT, "failed_precondition"),
        Code::Unavailable => (Exit::UNREACHABLE, "unavailable"),
        Code::DeadlineExceeded => (Exit::TIMED_OUT, "deadline_exceeded"),
        Code::ResourceExhausted => (Exit::QUOTA, "resource_exhausted"),
        Code::Unimplemented => (Exit::OTHER, "unimplemented"),
        Code::Cancelled | Code::Unknown | Code::Internal | Code::DataLoss => {
            (Exit::OTHER, "internal")
        }
    }
}

#[derive(Debug, Serialize)]
struct ErrorReport {
    error: ErrorBody,
}

#[derive(Debug, Serialize)]
struct ErrorBody {
    code: String,
    message: String,
    hint: Option<String>,
    docs: &'static str,
}

#[cfg(test)]
mod tests;
