//! What the coordinator says of a job that ended, against what was asked and what really ran.

use std::future::Future;
use std::time::{Duration, Instant};

use muster_proto::v1 as pb;
use muster_proto::v1::job_service_client::JobServiceClient;
use muster_tests::cluster::is_away;
use tonic::transport::Channel;
use tonic::{Code, Response, Status};

use crate::ledger::{ATTEMPTS, Ledger};
use crate::load::Kind;

/// Of the tasks whose dispatch is timed, one in so many.
const TIMED: u32 = 10;
/// For a coordinator that was killed to be back.
const PATIENCE: Duration = Duration::from_secs(120);
const RETRY: Duration = Duration::from_millis(100);

/// Calls until there is an answer; a coordinator that is away comes back.
pub(crate) async fn patiently<T, F>(what: &str, mut call: impl FnMut() -> F) -> T
where
    F: Future<Output = Result<Response<T>, Status>>,
{
    let deadline = Instant::now() + PATIENCE;
    let mut turns = tokio::time::interval(RETRY);
    loop {
        turns.tick().await;
        match call().await {
            Ok(answer) => return answer.into_inner(),
            Err(status) => {
                let away = is_away(&status) || status.code() == Code::DeadlineExceeded;
                assert!(away && Instant::now() < deadline, "{what}: {status:?}");
            }
        }
    }
}

/// One job as it ended.
#[derive(Debug)]
pub(crate) struct Audited {
    pub(crate) id: String,
    number: u32,
    kind: Kind,
    array: u32,
    counts: pb::TaskCounts,
    tasks: Vec<Seen>,
    /// Milliseconds from the assignment to the start, of some tasks.
    pub(crate) dispatch: Vec<f64>,
    findings: Findings,
}

/// Of one task. Attempts are bits, the first is the lowest.
#[derive(Debug, Clone, Copy)]
struct Seen {
    attempts: u32,
    /// The coordinator has a start of these.
    started: u128,
    succeeded: bool,
}

/// What is wrong, by kind; all zeros is a pass.
#[derive(Debug, Clone, Default)]
pub(crate) struct Findings {
    /// Tasks that were submitted and have no end.
    pub(crate) lost: u64,
    /// Ends beyond one for each task.
    pub(crate) duplicates: u64,
    /// Tasks that ended by no fault of their own.
    pub(crate) platform: u64,
    /// Successes of tasks that never succeeded, or never ran.
    pub(crate) false_success: u64,
    /// Other ends than the task's own, and user retries for what was no fault of the task.
    pub(crate) wrong: u64,
    /// Attempts that were started more than once, or by nobody's order.
    pub(crate) starts_beyond: u64,
    /// Starts that the coordinator recorded and that did not happen.
    pub(crate) starts_missing: u64,
    pub(crate) attempts: u64,
    /// The first few, in words.
    pub(crate) examples: Vec<String>,
}

impl Findings {
    pub(crate) fn add(&mut self, other: Self) {
        let Self {
            lost,
            duplicates,
            platform,
            false_success,
            wrong,
            starts_beyond,
            starts_missing,
            attempts,
            examples,
        } = other;
        self.lost += lost;
        self.duplicates += duplicates;
        self.platform += platform;
        self.false_success += false_success;
        self.wrong += wrong;
        self.starts_beyond += starts_beyond;
        self.starts_missing += starts_missing;
        self.attempts += attempts;
        examples.into_iter().for_each(|text| self.example(text));
    }

    pub(crate) fn example(&mut self, text: String) {
        if self.examples.len() < 20 {
            self.examples.push(text);
        }
    }
}

/// Reads everything about a job that has ended.
pub(crate) async fn read(
    jobs: JobServiceClient<Channel>,
    job: pb::Job,
    number: u32,
    kind: Kind,
    array: u32,
) -> Audited {
    let listed = list(&jobs, &job.id).await;
    let mut audited = Audited {
        id: job.id.clone(),
        number,
        kind,
        array,
        counts: job.counts.unwrap_or_default(),
        tasks: Vec::with_capacity(listed.len()),
        dispatch: Vec::new(),
        findings: Findings::default(),
    };
    for (place, task) in listed.iter().enumerate() {
        let looked_at = task.attempt > 1 || task.index.is_multiple_of(TIMED);
        let attempts = if looked_at {
            attempts(&jobs, &job.id, task.index).await
        } else {
            Vec::new()
        };
        audited.take(task, &attempts, place);
    }
    audited.check_counts();
    audited
}

pub(crate) async fn list(jobs: &JobServiceClient<Channel>, job: &str) -> Vec<pb::Task> {
    let mut tasks = Vec::new();
    let mut page_token = String::new();
    loop {
        let answer = patiently("tasks", || {
            let (mut jobs, request) = (
                jobs.clone(),
                pb::ListTasksRequest {
                    job: job.to_owned(),
                    page_size: 1000,
                    page_token: page_token.clone(),
                    ..Default::default()
                },
            );
            async move { jobs.list_tasks(request).await }
        })
        .await;
        tasks.extend(answer.tasks);
        page_token = answer.next_page_token;
        if page_token.is_empty() {
            return tasks;
        }
    }
}

pub(crate) async fn attempts(
    jobs: &JobServiceClient<Channel>,
    job: &str,
    index: u32,
) -> Vec<pb::Attempt> {
    let answer = patiently("attempts", || {
        let (mut jobs, request) = (
            jobs.clone(),
            pb::ListAttemptsRequest {
                job: job.to_owned(),
                index,
                ..Default::default()
            },
        );
        async move { jobs.list_attempts(request).await }
    });
    answer.await.attempts
}

impl Audited {
    fn take(&mut self, task: &pb::Task, attempts: &[pb::Attempt], place: usize) {
        let name = format!("{}.{}", task.job, task.index);
        if usize::try_from(task.index) != Ok(place) {
            self.findings.duplicates += 1;
            self.findings
                .example(format!("{name} is listed at place {place}"));
        }
        let end = task.end.clone().unwrap_or_default();
        let succeeded = end.outcome() == pb::Outcome::Succeeded;
        self.check_end(task, &end, &name);
        let ends = attempts.iter().filter_map(|attempt| attempt.end.as_ref());
        let successes = ends.filter(|end| end.outcome() == pb::Outcome::Succeeded);
        if successes.count() > 1 {
            self.findings.duplicates += 1;
            self.findings.example(format!("{name} succeeded twice"));
        }
        let bit = |number: u32| 1_u128.checked_shl(number.saturating_sub(1)).unwrap_or(0);
        let mut started = if task.started.is_some() {
            bit(task.attempt)
        } else {
            0
        };
        for attempt in attempts.iter().filter(|attempt| attempt.started.is_some()) {
            started |= bit(attempt.number);
        }
        if let [attempt] = attempts
            && let (Some(assigned), Some(started)) = (attempt.assigned, attempt.started)
        {
            self.dispatch.push(millis(started) - millis(assigned));
        }
        self.findings.attempts += u64::from(task.attempt);
        self.tasks.push(Seen {
            attempts: task.attempt,
            started,
            succeeded,
        });
    }

    fn check_end(&mut self, task: &pb::Task, end: &pb::End, name: &str) {
        let (wanted, found) = (self.kind.outcome(), end.outcome());
        let bad = &mut self.findings;
        if task.state() != pb::TaskState::Ended {
            bad.lost += 1;
        } else if found == pb::Outcome::Succeeded && wanted != found {
            bad.false_success += 1;
        } else if wanted != found {
            match found {
                pb::Outcome::Failed | pb::Outcome::Timeout | pb::Outcome::Oom => bad.wrong += 1,
                _ => bad.platform += 1,
            }
        } else if task.user_retries_used != self.kind.user_retries() {
            bad.wrong += 1;
        } else {
            return;
        }
        bad.example(format!(
            "{name} ({}) is {:?} after attempt {}: {found:?} {} {}, {} retries of its own",
            self.kind.word(),
            task.state(),
            task.attempt,
            end.reason,
            end.message,
            task.user_retries_used
        ));
    }

    fn check_counts(&mut self) {
        let listed = u32::try_from(self.tasks.len()).unwrap_or(u32::MAX);
        let ended = ends(&self.counts);
        let bad = &mut self.findings;
        bad.lost += u64::from(self.array.saturating_sub(listed.min(ended)));
        bad.duplicates += u64::from(ended.max(listed).saturating_sub(self.array));
        if ended != self.array || listed != self.array {
            let (id, array) = (&self.id, self.array);
            bad.example(format!(
                "{id} has {array} tasks, {listed} listed and {ended} ended"
            ));
        }
    }

    /// Against the engines' starts, once everything has settled.
    pub(crate) fn against(&self, ledger: &Ledger, now: &pb::Job) -> Findings {
        let mut bad = self.findings.clone();
        if now.counts != Some(self.counts) {
            bad.duplicates += 1;
            bad.example(format!("{} ended and changed afterwards", self.id));
        }
        for (index, seen) in self.tasks.iter().enumerate() {
            let starts = ledger.starts(&self.id, index);
            let name = format!("{}.{index}", self.id);
            if seen.succeeded && starts.once == 0 {
                bad.false_success += 1;
                bad.example(format!("{name} succeeded and was never started"));
            }
            // Attempts beyond the last one that the coordinator knows are nobody's.
            let known = u128::MAX
                .checked_shr(ATTEMPTS - seen.attempts.min(ATTEMPTS))
                .unwrap_or(0);
            let beyond = starts.again | (starts.once & !known);
            let missing = seen.started & !starts.once;
            bad.starts_beyond += u64::from(beyond.count_ones());
            bad.starts_missing += u64::from(missing.count_ones());
            if beyond | missing != 0 {
                bad.example(format!("{name}: {starts:?}, {seen:?}"));
            }
        }
        bad
    }

    pub(crate) const fn number(&self) -> u32 {
        self.number
    }

    /// Memory that it takes up.
    pub(crate) fn bytes(&self) -> usize {
        self.tasks.capacity() * size_of::<Seen>() + self.dispatch.capacity() * size_of::<f64>()
    }
}

/// Tasks that have ended.
pub(crate) const fn ends(counts: &pb::TaskCounts) -> u32 {
    let pb::TaskCounts {
        pending: _,
        preparing: _,
        running: _,
        succeeded,
        failed,
        oom,
        timeout,
        canceled,
        lost,
        preempted,
        image_error,
        infra_error,
        retries: _,
    } = *counts;
    succeeded + failed + oom + timeout + canceled + lost + preempted + image_error + infra_error
}

fn millis(at: prost_types::Timestamp) -> f64 {
    let seconds = u32::try_from(at.seconds).unwrap_or(u32::MAX);
    f64::from(seconds) * 1000.0 + f64::from(at.nanos) / 1e6
}

#[cfg(test)]
mod tests;
