//! `muster wait`: until jobs or tasks have ended.

use std::collections::BTreeSet;

use muster_core::outcome::Outcome;
use muster_proto::v1;
use muster_proto::v1::watch_event::Change;

use super::Context;
use crate::args::Format;
use crate::args::job::WaitArgs;
use crate::client::Client;
use crate::exit::{Exit, Failure};
use crate::progress;
use crate::quantity::count_text;
use crate::render::json::{JobJson, TaskJson};
use crate::render::{json, span, words};
use crate::target::short;
use crate::watch::{self, News};

/// Failed tasks that are named for each job.
const FAILED_SHOWN: u32 = 10;

/// What is waited for.
#[derive(Debug, Default)]
struct Waiting {
    jobs: BTreeSet<String>,
    tasks: BTreeSet<(String, u32)>,
    ended_jobs: Vec<v1::Job>,
    ended_tasks: Vec<v1::Task>,
}

pub(crate) async fn run(context: &mut Context, args: &WaitArgs) -> Result<Exit, Failure> {
    let mut waiting = Waiting::default();
    for target in &args.ids {
        let job = context.client.job(&target.job).await?;
        match target.one_task()? {
            (None, _) => {
                waiting.jobs.insert(job.id);
            }
            (Some(index), _) => {
                waiting.tasks.insert((job.id, index));
            }
        }
    }
    let wait = until_ended(context, &mut waiting);
    match args.timeout {
        None => wait.await?,
        Some(span) => tokio::time::timeout(span.into(), wait)
            .await
            .map_err(|_| Failure::WaitedLongEnough { span })??,
    }
    report(context, waiting).await
}

async fn until_ended(context: &mut Context, waiting: &mut Waiting) -> Result<(), Failure> {
    let in_tasks = waiting.tasks.iter().map(|(job, _)| job);
    let jobs: BTreeSet<String> = waiting.jobs.iter().chain(in_tasks).cloned().collect();
    let request = v1::WatchRequest {
        team: context.client.team.clone(),
        jobs: jobs.into_iter().collect(),
        position: 0,
        jobs_only: waiting.tasks.is_empty(),
    };
    let mut news = watch::jobs(&context.client, request);
    while !waiting.is_over() {
        let received = tokio::select! {
            received = news.recv() => received,
            _ = context.signals.next() => return Err(Failure::Interrupted),
        };
        match received {
            Some(News::Item(Change::Job(job))) => waiting.on_job(job),
            Some(News::Item(Change::Task(task))) => waiting.on_task(task),
            Some(News::Lost) => context
                .console
                .note("the coordinator does not answer; the jobs run on, and muster tries again"),
            Some(News::Back) => context.console.note("the coordinator answers again"),
            Some(News::Failed(status)) => return Err(status.into()),
            Some(News::Ended) | None => break,
        }
    }
    Ok(())
}

impl Waiting {
    fn is_over(&self) -> bool {
        self.jobs.is_empty() && self.tasks.is_empty()
    }

    fn on_job(&mut self, job: v1::Job) {
        if job.state() == v1::JobState::Ended && self.jobs.remove(&job.id) {
            self.ended_jobs.push(job);
        }
    }

    fn on_task(&mut self, task: v1::Task) {
        let id = (task.job.clone(), task.index);
        if task.state() == v1::TaskState::Ended && self.tasks.remove(&id) {
            self.ended_tasks.push(task);
        }
    }
}

/// Prints each end and chooses the exit code; the worst counts.
async fn report(context: &mut Context, waiting: Waiting) -> Result<Exit, Failure> {
    // A task that was never assigned has no end of its own: its job was canceled.
    let unassigned = waiting.tasks.iter().map(|_| Outcome::Canceled);
    let jobs = waiting.ended_jobs.iter();
    let jobs = jobs.map(|job| words::outcome(job.outcome()).unwrap_or(Outcome::InfraError));
    let tasks = waiting.ended_tasks.iter().map(|task| {
        let end = task.end.as_ref();
        end.and_then(|end| words::outcome(end.outcome()))
            .unwrap_or(Outcome::InfraError)
    });
    let worst = unassigned
        .chain(jobs)
        .chain(tasks)
        .max_by_key(|outcome| outcome.severity());

    for job in waiting.ended_jobs {
        match context.console.format {
            Format::Json | Format::Jsonl => {
                context.console.data(&json::text(&JobJson::from(job)))?;
            }
            _ if context.console.quiet => {}
            _ => {
                let mut lines = job_line(&job);
                for line in failed_tasks(&context.client, &job, FAILED_SHOWN).await? {
                    lines.push('\n');
                    lines.push_str(&line);
                }
                let lines = context.console.fit(&lines);
                context.console.data(&lines)?;
            }
        }
    }
    for task in waiting.ended_tasks {
        match context.console.format {
            Format::Json | Format::Jsonl => {
                context.console.data(&json::text(&TaskJson::from(task)))?;
            }
            _ if context.console.quiet => {}
            _ => {
                let line = context.console.fit(task_line(&task).trim_start());
                context.console.data(&line)?;
            }
        }
    }
    Ok(worst.map_or(Exit::DONE, Exit::of_class))
}

/// `k7m2q9x4 load-users: 17,399 succeeded, 1 failed, in 10 m 22 s`.
pub(crate) fn job_line(job: &v1::Job) -> String {
    let counts = job.counts.unwrap_or_default();
    let name = job.spec.as_ref().map(|spec| spec.name.as_str());
    let mut line = format!("{} {}: ", short(&job.id), name.unwrap_or_default());
    match progress::summary(&counts) {
        summary if summary.is_empty() => line.push_str(words::job_state(job)),
        summary => line.push_str(&summary),
    }
    if let Some(span) = span::between(job.created, job.ended) {
        line.push_str(&format!(", in {span}"));
    }
    line
}

/// `  k7m2q9x4.8123  failed(2) after 5 attempts    see: muster why k7m2q9x4.8123`.
fn task_line(task: &v1::Task) -> String {
    let id = format!("{}.{}", short(&task.job), task.index);
    let end = task.end.clone().unwrap_or_default();
    let attempts = match task.attempt {
        0 => "without an attempt".to_owned(),
        1 => "after 1 attempt".to_owned(),
        count => format!("after {} attempts", count_text(u64::from(count))),
    };
    let is_good = end.outcome() == v1::Outcome::Succeeded;
    let hint = if is_good {
        String::new()
    } else {
        format!("    see: muster why {id}")
    };
    format!("  {id}  {} {attempts}{hint}", words::end(&end))
}

/// A line for each task that ended badly, up to `limit`, and one for the rest.
pub(crate) async fn failed_tasks(
    client: &Client,
    job: &v1::Job,
    limit: u32,
) -> Result<Vec<String>, Failure> {
    let counts = job.counts.unwrap_or_default();
    let bad = progress::bad(&counts);
    if bad == 0 {
        return Ok(Vec::new());
    }
    let wanted = Outcome::ALL
        .into_iter()
        .filter(|outcome| outcome.severity() > Outcome::Canceled.severity());
    let request = v1::ListTasksRequest {
        team: client.team.clone(),
        job: job.id.clone(),
        states: Vec::new(),
        outcomes: wanted
            .map(|outcome| words::wire_outcome(outcome).into())
            .collect(),
        page_size: limit,
        page_token: String::new(),
    };
    let tasks = client.jobs().list_tasks(request).await?.into_inner().tasks;
    let mut lines: Vec<String> = tasks.iter().map(task_line).collect();
    let shown = u32::try_from(tasks.len()).unwrap_or(u32::MAX);
    if bad > shown {
        let more = count_text(u64::from(bad - shown));
        lines.push(format!(
            "  and {more} more    see: muster task list {} --state failed",
            short(&job.id)
        ));
    }
    Ok(lines)
}

#[cfg(test)]
mod tests;
