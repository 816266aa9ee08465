//! `muster cancel`: jobs, or some of their tasks.

use muster_proto::v1;
use serde::Serialize;

use super::Context;
use crate::args::Format;
use crate::args::job::CancelArgs;
use crate::exit::{Exit, Failure};
use crate::quantity::count_text;
use crate::render::json;
use crate::target::{Part, Target, short};

#[derive(Debug, Serialize)]
struct CanceledJson {
    canceled: Vec<EntryJson>,
}

#[derive(Debug, Serialize)]
struct EntryJson {
    /// As it was named.
    id: String,
    /// Tasks that had not ended yet.
    tasks: u32,
}

pub(crate) async fn run(context: &mut Context, args: &CancelArgs) -> Result<Exit, Failure> {
    if !args.yes && context.console.in_is_terminal {
        ask(context, args).await?;
    }
    let mut canceled = Vec::new();
    for target in &args.ids {
        let job = context.client.job_id(&target.job).await?;
        let request = v1::CancelRequest {
            team: context.client.team.clone(),
            job,
            tasks: ranges(target),
            reason: args.reason.clone(),
            now: args.now,
        };
        let reply = context.client.jobs().cancel(request).await?.into_inner();
        canceled.push(EntryJson {
            id: target.to_string(),
            tasks: reply.tasks,
        });
    }
    let text = match context.console.format {
        Format::Json => json::text(&CanceledJson { canceled }),
        Format::Jsonl => canceled
            .iter()
            .map(|entry| json::text(entry) + "\n")
            .collect(),
        _ if context.console.quiet => canceled.into_iter().map(|entry| entry.id + "\n").collect(),
        _ => canceled.iter().map(line).collect(),
    };
    context.console.data(&text)?;
    Ok(Exit::DONE)
}

fn line(entry: &EntryJson) -> String {
    let EntryJson { id, tasks } = entry;
    match tasks {
        0 => format!("{id} had ended already\n"),
        1 => format!("{id}: 1 task is being canceled\n"),
        count => format!(
            "{id}: {} tasks are being canceled\n",
            count_text(u64::from(*count))
        ),
    }
}

/// What destroys in bulk prints the count and asks. One task needs no question.
async fn ask(context: &mut Context, args: &CancelArgs) -> Result<(), Failure> {
    let mut tasks: u64 = 0;
    for target in &args.ids {
        tasks += match &target.part {
            Part::Tasks(ranges) => u64::from(ranges.count()),
            Part::Attempt { .. } => 1,
            Part::Whole => {
                let job = context.client.job(&target.job).await?;
                let counts = job.counts.unwrap_or_default();
                u64::from(counts.pending) + u64::from(counts.preparing) + u64::from(counts.running)
            }
        };
    }
    if tasks <= 1 {
        return Ok(());
    }
    let ids: Vec<&str> = args.ids.iter().map(|target| short(&target.job)).collect();
    let question = format!("Cancel {} tasks of {}?", count_text(tasks), ids.join(", "));
    if context.console.confirm(&question) {
        Ok(())
    } else {
        Err(Failure::NotConfirmed)
    }
}

/// No ranges: the whole job. An attempt means its task: attempts are not canceled on their own.
fn ranges(target: &Target) -> Vec<v1::IndexRange> {
    match &target.part {
        Part::Whole => Vec::new(),
        Part::Attempt { index, .. } => vec![v1::IndexRange {
            first: *index,
            last: *index,
        }],
        Part::Tasks(ranges) => {
            let ranges = ranges.iter().map(|range| v1::IndexRange {
                first: *range.start(),
                last: *range.end(),
            });
            ranges.collect()
        }
    }
}
