//! `muster logs`: the output of one task, now or until it has ended.

use muster_proto::v1;

use super::Context;
use crate::args::job::LogsArgs;
use crate::exit::{Exit, Failure};
use crate::follow::{Attempts, Follower, Plan, Stop};
use crate::printer::Printer;
use crate::render::span;
use crate::target::short;
use crate::watch::{self, LogPiece, News};

pub(crate) async fn run(context: &mut Context, args: LogsArgs) -> Result<Exit, Failure> {
    let (index, named) = args.task.one_task()?;
    let job = context.client.job(&args.task.job).await?;
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
    let mut attempt = args.attempt.or(named);
    if args.previous {
        attempt = Some(previous(context, &job.id, index).await?);
    }
    let request = v1::LogsRequest {
        team: context.client.team.clone(),
        job: job.id.clone(),
        index,
        attempt: attempt.unwrap_or(0),
        follow: args.follow,
        tail: args.tail.unwrap_or(0),
        since: args
            .since
            .map(|moment| span::wire(moment.resolve(jiff::Timestamp::now()))),
        streams: streams(&args),
    };
    let printer = Printer::new(args.timestamps, args.raw);
    if !args.follow {
        return print_now(context, request, printer).await;
    }
    let plan = Plan {
        job: job.id.clone(),
        index,
        array: job.array,
        created: job.created,
        image: job.spec.map(|spec| spec.image).unwrap_or_default(),
        attempts: attempt.map_or(Attempts::FromNewest, Attempts::Only),
        logs: request,
        printer,
        announce: true,
    };
    follow(context, plan, args.exit_code).await
}

fn streams(args: &LogsArgs) -> Vec<i32> {
    match (args.stdout, args.stderr) {
        (true, _) => vec![v1::LogStream::Stdout.into()],
        (_, true) => vec![v1::LogStream::Stderr.into()],
        (false, false) => Vec::new(),
    }
}

/// The number of the attempt before the newest.
async fn previous(context: &Context, job: &str, index: u32) -> Result<u32, Failure> {
    let request = v1::ListAttemptsRequest {
        team: context.client.team.clone(),
        job: job.to_owned(),
        index,
    };
    let reply = context.client.jobs().list_attempts(request).await?;
    let attempts = reply.into_inner().attempts;
    let before = attempts.iter().rev().nth(1).map(|attempt| attempt.number);
    before.ok_or_else(|| Failure::NoAttempt {
        job: short(job).to_owned(),
        index,
    })
}

async fn print_now(
    context: &mut Context,
    request: v1::LogsRequest,
    mut printer: Printer,
) -> Result<Exit, Failure> {
    let mut pieces = watch::logs(&context.client, request);
    loop {
        let received = tokio::select! {
            received = pieces.recv() => received,
            _ = context.signals.next() => return Ok(Exit::INTERRUPTED),
        };
        match received {
            Some(News::Item(LogPiece::Entry(entry))) => {
                printer.print(&mut context.console, &entry)?;
            }
            Some(News::Item(LogPiece::Complete) | News::Ended) | None => return Ok(Exit::DONE),
            Some(News::Lost) => context
                .console
                .note("the coordinator does not answer; muster tries again"),
            Some(News::Back) => {}
            Some(News::Failed(status)) => return Err(status.into()),
        }
        if context.console.out_closed {
            return Ok(Exit::DONE);
        }
    }
}

async fn follow(context: &mut Context, plan: Plan, exit_code: bool) -> Result<Exit, Failure> {
    let id = short(&plan.job).to_owned();
    let id = if plan.array > 1 {
        format!("{id}.{}", plan.index)
    } else {
        id
    };
    let mut follower = Follower::new(&context.client, plan);
    match follower
        .run(&mut context.console, &mut context.signals)
        .await?
    {
        Stop::Ended(ending) => {
            if ending.end.is_some() {
                context.console.note(&ending.text(&id, None));
            }
            Ok(if exit_code {
                ending.docker_exit()
            } else {
                Exit::DONE
            })
        }
        Stop::Asked(_) => Ok(Exit::INTERRUPTED),
        Stop::Closed => Ok(Exit::DONE),
    }
}

#[cfg(test)]
mod tests;
