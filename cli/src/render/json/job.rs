//! Jobs, tasks, attempts.

use std::collections::BTreeMap;

use muster_core::outcome::Outcome;
use muster_proto::v1;
use serde::Serialize;

use super::retry::RetryJson;
use super::set;
use crate::render::{span, words};

#[derive(Debug, Serialize)]
pub(crate) struct JobJson {
    pub(crate) id: String,
    team: String,
    /// `pending`, `running`, or the outcome.
    state: &'static str,
    /// `null` until the job has ended.
    outcome: Option<&'static str>,
    array: u32,
    counts: CountsJson,
    created: Option<String>,
    started: Option<String>,
    ended: Option<String>,
    digest: Option<String>,
    idempotency_key: Option<String>,
    cancel_requested: bool,
    cancel_reason: Option<String>,
    spec: SpecJson,
}

impl From<v1::Job> for JobJson {
    fn from(job: v1::Job) -> Self {
        let state = words::job_state(&job);
        let outcome = words::outcome(job.outcome()).map(Outcome::as_str);
        let v1::Job {
            id,
            team,
            spec,
            array,
            idempotency_key,
            created,
            state: _,
            counts,
            started,
            ended,
            digest,
            cancel_requested,
            cancel_reason,
            outcome: _,
        } = job;
        Self {
            id,
            team,
            state,
            outcome,
            array,
            counts: counts.unwrap_or_default().into(),
            created: span::rfc3339(created),
            started: span::rfc3339(started),
            ended: span::rfc3339(ended),
            digest: set(digest),
            idempotency_key: set(idempotency_key),
            cancel_requested,
            cancel_reason: set(cancel_reason),
            spec: spec.unwrap_or_default().into(),
        }
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct CountsJson {
    pending: u32,
    preparing: u32,
    running: u32,
    succeeded: u32,
    failed: u32,
    oom: u32,
    timeout: u32,
    canceled: u32,
    lost: u32,
    preempted: u32,
    image_error: u32,
    infra_error: u32,
    retries: u32,
}

impl From<v1::TaskCounts> for CountsJson {
    fn from(counts: v1::TaskCounts) -> Self {
        let v1::TaskCounts {
            pending,
            preparing,
            running,
            succeeded,
            failed,
            oom,
            timeout,
            canceled,
            lost,
            preempted,
            image_error,
            infra_error,
            retries,
        } = counts;
        Self {
            pending,
            preparing,
            running,
            succeeded,
            failed,
            oom,
            timeout,
            canceled,
            lost,
            preempted,
            image_error,
            infra_error,
            retries,
        }
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct SpecJson {
    name: Option<String>,
    image: String,
    pin: Option<&'static str>,
    pull: Option<&'static str>,
    entrypoint: Option<Vec<String>>,
    command: Vec<String>,
    env: BTreeMap<String, String>,
    labels: BTreeMap<String, String>,
    workdir: Option<String>,
    user: Option<String>,
    resources: ResourcesJson,
    pool: Option<String>,
    require: BTreeMap<String, String>,
    agent: Option<String>,
    priority: i32,
    queue_timeout_seconds: Option<f64>,
    run_timeout_seconds: Option<f64>,
    kill_grace_seconds: Option<f64>,
    retry: RetryJson,
    success_codes: Vec<u32>,
    delivery: Option<&'static str>,
    concurrency: Vec<ConcurrencyJson>,
    network: Option<&'static str>,
    writable_root: bool,
    /// Of `on_disconnect`; `null`: it finishes.
    stop_after_seconds: Option<f64>,
}

impl From<v1::JobSpec> for SpecJson {
    fn from(spec: v1::JobSpec) -> Self {
        let pin = words::pin(spec.pin());
        let pull = words::pull(spec.pull());
        let delivery = words::delivery(spec.delivery());
        let network = words::network(spec.network());
        let v1::JobSpec {
            name,
            image,
            pin: _,
            pull: _,
            entrypoint,
            command,
            env,
            labels,
            workdir,
            user,
            resources,
            pool,
            require,
            agent,
            priority,
            queue_timeout,
            run_timeout,
            kill_grace,
            retry,
            success_codes,
            delivery: _,
            concurrency,
            network: _,
            writable_root,
            on_disconnect,
        } = spec;
        let concurrency = concurrency.into_iter().map(ConcurrencyJson::from);
        Self {
            name: set(name),
            image,
            pin,
            pull,
            entrypoint: entrypoint.map(|argv| argv.args),
            command,
            env,
            labels,
            workdir: set(workdir),
            user: set(user),
            resources: resources.unwrap_or_default().into(),
            pool: set(pool),
            require,
            agent: set(agent),
            priority,
            queue_timeout_seconds: span::seconds(queue_timeout),
            run_timeout_seconds: span::seconds(run_timeout),
            kill_grace_seconds: span::seconds(kill_grace),
            retry: retry.unwrap_or_default().into(),
            success_codes,
            delivery,
            concurrency: concurrency.collect(),
            network,
            writable_root,
            stop_after_seconds: span::seconds(on_disconnect.and_then(|wish| wish.stop_after)),
        }
    }
}

/// An amount of 0 is the default.
#[derive(Debug, Serialize)]
pub(crate) struct ResourcesJson {
    cpu_millis: u32,
    memory_bytes: u64,
    pids: u32,
    gpus: u32,
    custom: BTreeMap<String, u64>,
}

impl From<v1::Resources> for ResourcesJson {
    fn from(resources: v1::Resources) -> Self {
        let v1::Resources {
            cpu_millis,
            memory_bytes,
            pids,
            gpus,
            custom,
        } = resources;
        Self {
            cpu_millis,
            memory_bytes,
            pids,
            gpus,
            custom,
        }
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct ConcurrencyJson {
    key: String,
    limit: u32,
}

impl From<v1::ConcurrencyKey> for ConcurrencyJson {
    fn from(entry: v1::ConcurrencyKey) -> Self {
        let v1::ConcurrencyKey { key, limit } = entry;
        Self { key, limit }
    }
}

/// What `muster run -d` prints.
#[derive(Debug, Serialize)]
pub(crate) struct SubmittedJson {
    pub(crate) id: String,
    pub(crate) existed: bool,
    pub(crate) warnings: Vec<String>,
    pub(crate) job: JobJson,
}

#[derive(Debug, Serialize)]
pub(crate) struct EndJson {
    outcome: Option<&'static str>,
    exit_code: Option<i32>,
    reason: String,
    message: String,
}

impl From<v1::End> for EndJson {
    fn from(end: v1::End) -> Self {
        let outcome = words::outcome(end.outcome()).map(Outcome::as_str);
        let v1::End {
            outcome: _,
            exit_code,
            reason,
            message,
        } = end;
        Self {
            outcome,
            exit_code,
            reason,
            message,
        }
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct TaskJson {
    /// `JOB.INDEX`.
    pub(crate) id: String,
    job: String,
    index: u32,
    /// `pending`, `assigned`, `preparing`, `running`, or the outcome.
    state: &'static str,
    /// `null` until the task has ended.
    end: Option<EndJson>,
    attempt: u32,
    agent: Option<String>,
    digest: Option<String>,
    started: Option<String>,
    ended: Option<String>,
    not_before: Option<String>,
    user_retries_used: u32,
    infra_retries_used: u32,
    quarantined: bool,
    deaths: u32,
    /// What its attempts ask for since a retry rule let it grow; `null`: what the job asks for.
    memory_bytes: Option<u64>,
    /// Only where one task was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) attempts: Option<Vec<AttemptJson>>,
}

impl From<v1::Task> for TaskJson {
    fn from(task: v1::Task) -> Self {
        let state = words::task_state(&task);
        let v1::Task {
            job,
            index,
            state: _,
            end,
            attempt,
            agent,
            digest,
            started,
            ended,
            not_before,
            user_retries_used,
            infra_retries_used,
            quarantined,
            deaths,
            memory_bytes,
        } = task;
        Self {
            id: format!("{job}.{index}"),
            job,
            index,
            state,
            end: end.map(EndJson::from),
            attempt,
            agent: set(agent),
            digest: set(digest),
            started: span::rfc3339(started),
            ended: span::rfc3339(ended),
            not_before: span::rfc3339(not_before),
            user_retries_used,
            infra_retries_used,
            quarantined,
            deaths,
            memory_bytes: (memory_bytes > 0).then_some(memory_bytes),
            attempts: None,
        }
    }
}

#[derive(Debug, Serialize)]
pub(crate) struct AttemptJson {
    /// `JOB.INDEX#ATTEMPT`.
    id: String,
    number: u32,
    agent: String,
    image: String,
    assigned: Option<String>,
    started: Option<String>,
    ended: Option<String>,
    end: Option<EndJson>,
    usage: Option<UsageJson>,
    because: String,
    late_report: Option<String>,
}

impl From<v1::Attempt> for AttemptJson {
    fn from(attempt: v1::Attempt) -> Self {
        let v1::Attempt {
            job,
            index,
            number,
            agent,
            image,
            assigned,
            started,
            ended,
            end,
            usage,
            because,
            late_report,
        } = attempt;
        Self {
            id: format!("{job}.{index}#{number}"),
            number,
            agent,
            image,
            assigned: span::rfc3339(assigned),
            started: span::rfc3339(started),
            ended: span::rfc3339(ended),
            end: end.map(EndJson::from),
            usage: usage.map(UsageJson::from),
            because,
            late_report: set(late_report),
        }
    }
}

/// `null`: not measured.
#[derive(Debug, Serialize)]
pub(crate) struct UsageJson {
    peak_memory_bytes: Option<u64>,
    cpu_seconds: Option<f64>,
    pull_seconds: Option<f64>,
    start_seconds: Option<f64>,
    run_seconds: Option<f64>,
}

impl From<v1::Usage> for UsageJson {
    fn from(usage: v1::Usage) -> Self {
        let v1::Usage {
            peak_memory_bytes,
            cpu_seconds,
            pull,
            start,
            run,
        } = usage;
        Self {
            peak_memory_bytes,
            cpu_seconds,
            pull_seconds: span::seconds(pull),
            start_seconds: span::seconds(start),
            run_seconds: span::seconds(run),
        }
    }
}
