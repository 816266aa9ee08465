//! `muster job get` and `muster task get`: one thing with everything about it.

use muster_proto::v1;

use super::Context;
use crate::exit::{Exit, Failure};
use crate::progress::summary;
use crate::quantity::{count_text, cpus_text, size_text};
use crate::render::json::{AttemptJson, JobJson, TaskJson};
use crate::render::table::{Table, properties};
use crate::render::{self, span, words};
use crate::target::{Target, short};

pub(crate) async fn get(context: &mut Context, target: &Target) -> Result<Exit, Failure> {
    let job = context.client.job(target.whole_job()?).await?;
    let id = job.id.clone();
    let shown = job.clone();
    render::one(&mut context.console, &JobJson::from(job), &id, |console| {
        console.fit(&job_text(&shown))
    })?;
    Ok(Exit::DONE)
}

pub(crate) async fn get_task(context: &mut Context, target: &Target) -> Result<Exit, Failure> {
    let (index, _) = target.one_task()?;
    let job = context.client.job(&target.job).await?;
    let index = match index {
        Some(index) => index,
        None if job.array <= 1 => 0,
        None => {
            return Err(Failure::ManyTasks {
                job: short(&job.id).to_owned(),
                array: job.array,
            });
        }
    };
    let task = find_task(context, &job.id, index).await?;
    let request = v1::ListAttemptsRequest {
        team: context.client.team.clone(),
        job: job.id,
        index,
    };
    let reply = context.client.jobs().list_attempts(request).await?;
    let attempts = reply.into_inner().attempts;
    let shown = (task.clone(), attempts.clone());
    let mut task = TaskJson::from(task);
    task.attempts = Some(attempts.into_iter().map(AttemptJson::from).collect());
    let id = task.id.clone();
    render::one(&mut context.console, &task, &id, |console| {
        let (task, attempts) = &shown;
        let table =
            attempts_table(attempts).text(console.headers, console.color, console.out_is_terminal);
        console.fit(&task_text(task)) + "\n" + &table
    })?;
    Ok(Exit::DONE)
}

/// The task, from the page that begins with it. One that was never assigned is `pending`.
async fn find_task(context: &Context, job: &str, index: u32) -> Result<v1::Task, Failure> {
    let mut page_token = String::new();
    loop {
        let request = v1::ListTasksRequest {
            team: context.client.team.clone(),
            job: job.to_owned(),
            page_size: 1000,
            page_token,
            ..v1::ListTasksRequest::default()
        };
        let page = context
            .client
            .jobs()
            .list_tasks(request)
            .await?
            .into_inner();
        let is_past = page.tasks.last().is_some_and(|task| task.index >= index);
        let found = page.tasks.into_iter().find(|task| task.index == index);
        if let Some(task) = found {
            return Ok(task);
        }
        if is_past || page.next_page_token.is_empty() {
            return Ok(v1::Task {
                job: job.to_owned(),
                index,
                state: v1::TaskState::Pending.into(),
                ..v1::Task::default()
            });
        }
        page_token = page.next_page_token;
    }
}

fn job_text(job: &v1::Job) -> String {
    let spec = job.spec.clone().unwrap_or_default();
    let counts = job.counts.unwrap_or_default();
    let resources = spec.resources.clone().unwrap_or_default();
    let pairs = |map: &std::collections::BTreeMap<String, String>| {
        let pairs: Vec<String> = map
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        pairs.join(" ")
    };
    let time = |at| span::rfc3339(at).unwrap_or_default();
    let text_of = |span| {
        span::millis(span)
            .map(|span| span.to_string())
            .unwrap_or_default()
    };
    let entrypoint = spec.entrypoint.as_ref().map(|argv| argv.args.join(" "));
    let live = counts.pending + counts.preparing + counts.running;
    let tasks = match (live, summary(&counts)) {
        (0, summary) => format!("{}: {summary}", count_text(job.array.into())),
        (live, summary) if summary.is_empty() => {
            format!(
                "{}: {} to go",
                count_text(job.array.into()),
                count_text(live.into())
            )
        }
        (live, summary) => format!(
            "{}: {summary}, {} to go",
            count_text(job.array.into()),
            count_text(live.into())
        ),
    };
    properties(&[
        ("job", job.id.clone()),
        ("name", spec.name.clone()),
        ("team", job.team.clone()),
        ("state", words::job_state(job).to_owned()),
        ("canceled", job.cancel_reason.clone()),
        ("tasks", tasks),
        ("image", spec.image.clone()),
        ("digest", job.digest.clone()),
        ("entrypoint", entrypoint.unwrap_or_default()),
        ("command", spec.command.join(" ")),
        ("cpus", cpus_text(resources.cpu_millis)),
        ("memory", size_text(resources.memory_bytes)),
        ("pool", spec.pool.clone()),
        ("on", spec.agent.clone()),
        ("require", pairs(&spec.require)),
        ("env", pairs(&spec.env)),
        ("labels", pairs(&spec.labels)),
        ("run timeout", text_of(spec.run_timeout)),
        ("queue timeout", text_of(spec.queue_timeout)),
        ("key", job.idempotency_key.clone()),
        ("created", time(job.created)),
        ("started", time(job.started)),
        ("ended", time(job.ended)),
    ])
}

fn task_text(task: &v1::Task) -> String {
    let end = task.end.as_ref().map(words::end);
    let time = |at| span::rfc3339(at).unwrap_or_default();
    properties(&[
        ("task", format!("{}.{}", task.job, task.index)),
        (
            "state",
            end.unwrap_or_else(|| words::task_state(task).to_owned()),
        ),
        ("agent", task.agent.clone()),
        ("digest", task.digest.clone()),
        ("started", time(task.started)),
        ("ended", time(task.ended)),
        ("not before", time(task.not_before)),
    ])
}

/// Also what `muster why` shows under its reasons.
pub(crate) fn attempts_table(attempts: &[v1::Attempt]) -> Table {
    let mut table = Table::new(&[
        "ATTEMPT", "STATE", "AGENT", "DIGEST", "RAN", "PEAK", "CPU", "BECAUSE",
    ]);
    for attempt in attempts {
        let end = attempt.end.as_ref().map(words::end);
        let usage = attempt.usage.unwrap_or_default();
        let digest = attempt.image.rsplit('@').next().unwrap_or_default();
        let ran = span::millis(usage.run).or_else(|| span::between(attempt.started, attempt.ended));
        table.row(vec![
            format!("#{}", attempt.number),
            end.unwrap_or_else(|| live_word(attempt).to_owned()),
            attempt.agent.clone(),
            digest.get(..15).unwrap_or(digest).to_owned(),
            ran.map(|span| span.to_string()).unwrap_or_default(),
            usage.peak_memory_bytes.map(size_text).unwrap_or_default(),
            usage
                .cpu_seconds
                .map(|seconds| format!("{seconds:.2} s"))
                .unwrap_or_default(),
            attempt.because.clone(),
        ]);
    }
    table
}

fn live_word(attempt: &v1::Attempt) -> &'static str {
    match attempt.started {
        Some(_) => "running",
        None => "preparing",
    }
}
