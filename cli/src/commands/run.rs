//! `muster run`: submit, then follow.

use std::time::Duration;

use muster_proto::v1;
use muster_proto::v1::watch_event::Change;
use tokio::time::Instant;

use super::Context;
use super::wait::{failed_tasks, job_line};
use crate::args::run::{ExitKind, FollowFlags, OnSignal, Pull, RunArgs};
use crate::console::Console;
use crate::exit::{Exit, Failure};
use crate::follow::{Attempts, Ending, Follower, Plan, Stop};
use crate::printer::Printer;
use crate::progress::Progress;
use crate::quantity::count_text;
use crate::render::json::{self, JobJson, SpecJson, SubmittedJson};
use crate::render::{self, words};
use crate::signals::Asked;
use crate::submit::{Submission, is_channel, submission};
use crate::target::short;
use crate::watch::{self, News};

/// A second Ctrl-C within this time cancels.
const SECOND_THOUGHTS: Duration = Duration::from_secs(5);
/// How often an array's line is redrawn.
const REDRAW: Duration = Duration::from_millis(200);
/// How often the reason for waiting is asked for again.
const ASK_WHY: Duration = Duration::from_secs(5);
/// Failed tasks that are named at the end.
const FAILED_SHOWN: u32 = 5;

/// Prints what would be sent.
pub(crate) fn dry_run(args: &RunArgs, console: &mut Console) -> Result<Exit, Failure> {
    let Submission { job, notes } = submission(args, &|name| std::env::var(name).ok())?;
    notes.iter().for_each(|note| console.note(note));
    #[derive(serde::Serialize)]
    struct NewJobJson {
        array: u32,
        idempotency_key: String,
        spec: SpecJson,
    }
    let job = NewJobJson {
        array: job.array.max(1),
        idempotency_key: job.idempotency_key,
        spec: job.spec.unwrap_or_default().into(),
    };
    let text = match console.format {
        crate::args::Format::Json | crate::args::Format::Jsonl => json::text(&job),
        _ => render::yaml(&job),
    };
    console.data(&text)?;
    Ok(Exit::DONE)
}

pub(crate) async fn run(context: &mut Context, args: RunArgs) -> Result<Exit, Failure> {
    let Submission { job, notes } = submission(&args, &|name| std::env::var(name).ok())?;
    notes.iter().for_each(|note| context.console.note(note));
    let image = args.argv.first().cloned().unwrap_or_default();
    if args.container.pull == Pull::Always && is_channel(&image) {
        let request = v1::RefreshChannelRequest {
            team: context.client.team.clone(),
            name: image.clone(),
        };
        context.client.channels().refresh(request).await?;
    }
    let request = v1::SubmitRequest {
        team: context.client.team.clone(),
        jobs: vec![job],
    };
    let reply = context.client.jobs().submit(request).await?.into_inner();
    let submitted = reply.jobs.into_iter().next();
    let submitted = submitted.ok_or(Failure::Incomplete { what: "job" })?;
    let v1::SubmittedJob {
        job,
        existed,
        warnings,
    } = submitted;
    let job = job.ok_or(Failure::Incomplete { what: "job" })?;
    for warning in &warnings {
        context.console.say(&format!("warning: {warning}"));
    }
    let is_odd = args.follow.strict && !warnings.is_empty();
    if args.container.detach || is_odd {
        print_submitted(&mut context.console, job, existed, warnings)?;
        return Ok(if is_odd { Exit::NO_FIT } else { Exit::DONE });
    }
    if existed {
        let note = format!("job {} has this key already; following it", short(&job.id));
        context.console.note(&note);
    }
    if job.array > 1 {
        follow_array(context, &args.follow, job).await
    } else {
        follow_one(context, &args.follow, job, image, existed).await
    }
}

fn print_submitted(
    console: &mut Console,
    job: v1::Job,
    existed: bool,
    warnings: Vec<String>,
) -> Result<(), Failure> {
    let submitted = SubmittedJson {
        id: job.id.clone(),
        existed,
        warnings,
        job: JobJson::from(job),
    };
    let id = submitted.id.clone();
    render::one(console, &submitted, &id, |_| id.clone())
}

async fn follow_one(
    context: &mut Context,
    flags: &FollowFlags,
    job: v1::Job,
    image: String,
    existed: bool,
) -> Result<Exit, Failure> {
    let id = job.id;
    let attempts = match (flags.wait, existed) {
        (true, _) => Attempts::None,
        (false, true) => Attempts::FromNewest,
        (false, false) => Attempts::All,
    };
    // Attached, stdout is the task's; only a quiet wait has room for a result of its own.
    let format = context.console.format;
    if !flags.wait {
        context.console.format = crate::args::Format::Table;
    }
    let plan = Plan {
        job: id.clone(),
        index: 0,
        array: 1,
        image,
        created: job.created,
        attempts,
        logs: v1::LogsRequest::default(),
        printer: Printer::new(false, flags.raw),
        announce: !flags.wait,
    };
    let mut follower = Follower::new(&context.client, plan);
    let ending = loop {
        match follower
            .run(&mut context.console, &mut context.signals)
            .await?
        {
            Stop::Ended(ending) => break ending,
            // Somebody else's `head` has enough; the task's end still counts.
            Stop::Closed => context.console.out_closed = false,
            Stop::Asked(asked) => {
                if let Some(exit) = on_signal(context, flags, &id, asked).await? {
                    return Ok(exit);
                }
            }
        }
    };
    report_end(context, flags, &id, &ending, format).await
}

/// The last line on stderr, and the exit code it explains.
async fn report_end(
    context: &mut Context,
    flags: &FollowFlags,
    id: &str,
    ending: &Ending,
    format: crate::args::Format,
) -> Result<Exit, Failure> {
    let request = v1::ListAttemptsRequest {
        team: context.client.team.clone(),
        job: id.to_owned(),
        index: 0,
    };
    // Only for the times it took; the end is known.
    let attempts = context.client.jobs().list_attempts(request).await;
    let attempts = attempts
        .map(|reply| reply.into_inner().attempts)
        .unwrap_or_default();
    let usage = attempts.last().and_then(|attempt| attempt.usage.as_ref());
    context.console.note(&ending.text(short(id), usage));
    if flags.wait
        && matches!(
            format,
            crate::args::Format::Json | crate::args::Format::Jsonl
        )
    {
        let job = context.client.job(id).await?;
        context.console.data(&json::text(&JobJson::from(job)))?;
    }
    Ok(match flags.exit_code.unwrap_or(ExitKind::Docker) {
        ExitKind::Docker => ending.docker_exit(),
        ExitKind::Class => ending.class_exit(),
    })
}

/// Detaches or cancels. `None`: go on following.
async fn on_signal(
    context: &mut Context,
    flags: &FollowFlags,
    id: &str,
    asked: Asked,
) -> Result<Option<Exit>, Failure> {
    let name = short(id).to_owned();
    match flags.on_signal {
        OnSignal::Cancel => {
            cancel(context, id).await?;
            context.console.note(&format!("canceling {name}"));
            Ok(None)
        }
        OnSignal::Detach => {
            context.console.say(&format!(
                "Detached. The job runs on.\n  come back   muster wait {name}\n  cancel      muster cancel {name}"
            ));
            if asked == Asked::Terminate {
                return Ok(Some(Exit::INTERRUPTED));
            }
            context.console.say("  or          Ctrl-C again within 5 s");
            let second = tokio::time::timeout(SECOND_THOUGHTS, context.signals.next()).await;
            if second.is_ok() {
                cancel(context, id).await?;
                context.console.say(&format!("canceling {name}"));
            }
            Ok(Some(Exit::INTERRUPTED))
        }
    }
}

async fn cancel(context: &Context, id: &str) -> Result<(), Failure> {
    let request = v1::CancelRequest {
        team: context.client.team.clone(),
        job: id.to_owned(),
        reason: "interrupted".to_owned(),
        ..v1::CancelRequest::default()
    };
    context.client.jobs().cancel(request).await?;
    Ok(())
}

async fn follow_array(
    context: &mut Context,
    flags: &FollowFlags,
    job: v1::Job,
) -> Result<Exit, Failure> {
    let id = job.id.clone();
    let spec = job.spec.clone().unwrap_or_default();
    if !flags.wait {
        context.console.note(&format!(
            "job {} {}, {} tasks, {}",
            short(&id),
            spec.name,
            count_text(u64::from(job.array)),
            spec.image
        ));
    }
    let request = v1::WatchRequest {
        team: context.client.team.clone(),
        jobs: vec![id.clone()],
        position: 0,
        jobs_only: true,
    };
    let mut news = watch::jobs(&context.client, request);
    let mut progress = Progress::new(&context.console);
    let mut redraw = tokio::time::interval(REDRAW);
    redraw.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut ask_why = tokio::time::interval_at(Instant::now() + ASK_WHY, ASK_WHY);
    let mut latest = job;
    while latest.state() != v1::JobState::Ended {
        tokio::select! {
            asked = context.signals.next() => {
                progress.clear();
                if let Some(exit) = on_signal(context, flags, &id, asked).await? {
                    return Ok(exit);
                }
            }
            received = news.recv() => match received {
                Some(News::Item(Change::Job(job))) => {
                    progress.update(job.counts.unwrap_or_default(), Instant::now());
                    latest = job;
                }
                Some(News::Item(Change::Task(_))) => {}
                Some(News::Lost) => context.console.note("the coordinator does not answer; the job runs on, and muster tries again"),
                Some(News::Back) => context.console.note("the coordinator answers again"),
                Some(News::Failed(status)) => return Err(status.into()),
                Some(News::Ended) | None => break,
            },
            _ = redraw.tick(), if !flags.wait => progress.draw(&mut context.console, Instant::now()),
            _ = ask_why.tick(), if !flags.wait && context.console.err_is_terminal => {
                refresh_reason(context, &id, &mut progress).await;
            }
        }
    }
    progress.clear();
    report_array(context, flags, latest).await
}

async fn refresh_reason(context: &Context, id: &str, progress: &mut Progress) {
    if progress.counts().is_none_or(|counts| counts.pending == 0) {
        return;
    }
    let request = v1::ExplainRequest {
        team: context.client.team.clone(),
        job: id.to_owned(),
        index: None,
    };
    if let Ok(reply) = context.client.jobs().explain(request).await {
        let reasons = reply.into_inner().reasons;
        let reason = reasons.first().map(|reason| reason.message.as_str());
        progress.set_reason(reason.unwrap_or_default());
    }
}

async fn report_array(
    context: &mut Context,
    flags: &FollowFlags,
    job: v1::Job,
) -> Result<Exit, Failure> {
    context.console.note(&job_line(&job));
    for task in failed_tasks(&context.client, &job, FAILED_SHOWN).await? {
        context.console.note(&task);
    }
    let outcome = words::outcome(job.outcome());
    if flags.wait
        && matches!(
            context.console.format,
            crate::args::Format::Json | crate::args::Format::Jsonl
        )
    {
        context.console.data(&json::text(&JobJson::from(job)))?;
    }
    Ok(outcome.map_or(Exit::FLEET_FAILED, Exit::of_class))
}

#[cfg(test)]
mod tests;
