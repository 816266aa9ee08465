//! `muster coordinator backup`, `restore` and `adopt`.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use muster_coordinator::store;
use muster_proto::v1;
use serde::Serialize;

use super::Context;
use crate::args::Format;
use crate::args::coordinator::AdoptArgs;
use crate::console::Console;
use crate::exit::{Exit, Failure};
use crate::quantity::size_text;
use crate::render::json::AdoptionJson;
use crate::render::{json, span, words};
use crate::target::short;

#[derive(Debug, Serialize)]
struct RestoredJson {
    backup: Option<String>,
    live_jobs: u64,
    /// Files of the store that was there before.
    moved: Vec<String>,
}

/// Of a running coordinator, over its API.
pub(crate) async fn backup(context: &mut Context, file: &Path) -> Result<Exit, Failure> {
    let reply = context.client.admin().backup(v1::BackupRequest {}).await?;
    let mut chunks = reply.into_inner();
    let unfinished = store::unfinished(file);
    let receiving = async {
        let written = |source| Failure::Write { source };
        let mut copy = File::create(&unfinished).map_err(written)?;
        let bar = bar(&context.console);
        let (mut received, mut size) = (0, 0);
        while let Some(chunk) = chunks.message().await? {
            copy.write_all(&chunk.data).map_err(written)?;
            size = chunk.size;
            received += u64::try_from(chunk.data.len()).unwrap_or(u64::MAX);
            bar.set_length(size);
            bar.set_position(received);
        }
        bar.finish_and_clear();
        if received != size || size == 0 {
            let what = "end of the backup";
            return Err(Failure::Incomplete { what });
        }
        Ok(size)
    };
    let received = tokio::select! {
        received = receiving => received,
        _ = context.signals.received.recv() => Err(Failure::Interrupted),
    };
    let size = received.inspect_err(|_| {
        let _ = fs::remove_file(&unfinished); // what went wrong first counts
    })?;
    store::finish_backup(&unfinished, file)?;
    note_backup(&mut context.console, file, size);
    Ok(Exit::DONE)
}

/// Of a coordinator that does not run.
pub(crate) fn backup_offline(
    directory: &Path,
    file: &Path,
    console: &mut Console,
) -> Result<Exit, Failure> {
    store::backup_offline(directory, file)?;
    let size = fs::metadata(file).map_or(0, |copy| copy.len());
    note_backup(console, file, size);
    Ok(Exit::DONE)
}

fn note_backup(console: &mut Console, file: &Path, size: u64) {
    let (file, size) = (file.display(), size_text(size));
    console.note(&format!("{file}: {size}, checked"));
}

fn bar(console: &Console) -> ProgressBar {
    if !console.err_is_terminal || console.quiet {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{percent:>3} %  {bytes} of {total_bytes}");
    bar.set_style(style.expect("the template has known keys"));
    bar
}

pub(crate) fn restore(
    file: &Path,
    directory: &Path,
    console: &mut Console,
) -> Result<Exit, Failure> {
    let store::RestoreDone {
        backup,
        aside,
        live_jobs,
    } = store::restore(file, directory)?;
    let backup =
        backup.and_then(|at| jiff::Timestamp::from_millisecond(i64::try_from(at.0).ok()?).ok());
    let restored = RestoredJson {
        backup: backup.map(|at| at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()),
        live_jobs,
        moved: aside
            .iter()
            .map(|path| path.display().to_string())
            .collect(),
    };
    match console.format {
        Format::Json | Format::Jsonl => console.data(&json::text(&restored))?,
        Format::Table | Format::Wide | Format::Yaml | Format::Name => {
            let RestoredJson {
                backup,
                live_jobs,
                moved,
            } = restored;
            let from = backup.map_or_else(String::new, |at| format!(" of {at}"));
            console.note(&format!(
                "{} has the backup{from} with {live_jobs} jobs that have not ended",
                directory.display()
            ));
            if let [database, ..] = moved.as_slice() {
                console.note(&format!("the store that was there is now {database}"));
            }
            console.note(
                "the coordinator starts in safe mode: start it, wait for the agents, then muster coordinator adopt",
            );
        }
    }
    Ok(Exit::DONE)
}

pub(crate) async fn adopt(context: &mut Context, args: &AdoptArgs) -> Result<Exit, Failure> {
    let mut admin = context.client.admin();
    let request = |dry_run| v1::AdoptRequest {
        dry_run,
        without_agents: args.without_agents,
    };
    if args.dry_run || !args.yes && context.console.in_is_terminal {
        let plan = admin.adopt(request(true)).await?.into_inner();
        show(&mut context.console, plan, "would")?;
        if args.dry_run {
            return Ok(Exit::DONE);
        }
        if !context.console.confirm("Adopt the store?") {
            return Err(Failure::NotConfirmed);
        }
        admin.adopt(request(false)).await?;
        return Ok(Exit::DONE);
    }
    let adopted = admin.adopt(request(false)).await?.into_inner();
    show(&mut context.console, adopted, "will")?;
    Ok(Exit::DONE)
}

fn show(console: &mut Console, adoption: v1::AdoptResponse, verb: &str) -> Result<(), Failure> {
    match console.format {
        Format::Json | Format::Jsonl => console.data(&json::text(&AdoptionJson::from(adoption))),
        Format::Table | Format::Wide | Format::Yaml | Format::Name => {
            console.data(&console.fit(&text(&adoption, verb)))
        }
    }
}

fn text(adoption: &v1::AdoptResponse, verb: &str) -> String {
    let v1::AdoptResponse {
        why,
        backup,
        called,
        missing,
        taken_over,
        again,
        lost,
        strays,
    } = adoption;
    let mut text = format!("{why}\n");
    let mut line = |args: std::fmt::Arguments<'_>| {
        writeln!(text, "{args}").expect("strings take everything");
    };
    if let Some(at) = span::rfc3339(*backup) {
        line(format_args!("backup: {at}"));
    }
    let all = called.len() + missing.len();
    line(format_args!("{} of {all} agents have called", called.len()));
    if !missing.is_empty() {
        line(format_args!("missing: {}", missing.join(", ")));
    }
    line(format_args!(
        "{taken_over} attempts that the store did not know go on"
    ));
    for (tasks, what) in [
        (again, "run, although it may have run since the backup"),
        (
            lost,
            "end lost, because it may have run and is at_most_once",
        ),
    ] {
        for v1::AdoptedTasks { job, name, tasks } in tasks {
            let ranges: Vec<String> = tasks.iter().map(range).collect();
            line(format_args!(
                "{}.{} ({name}) {verb} {what}",
                short(job),
                ranges.join(",")
            ));
        }
    }
    for v1::StrayAttempt {
        attempt,
        agent,
        end,
    } in strays
    {
        let v1::AttemptId { job, index, number } = attempt.clone().unwrap_or_default();
        let id = format!("{}.{index}#{number}", short(&job));
        match end {
            Some(end) => line(format_args!(
                "{id} on {agent} ended {} and has no task: its end {verb} be dropped",
                words::end(end)
            )),
            None => line(format_args!(
                "{id} on {agent} has no task: it {verb} be stopped"
            )),
        }
    }
    text
}

fn range(range: &v1::IndexRange) -> String {
    let v1::IndexRange { first, last } = range;
    if first == last {
        return first.to_string();
    }
    format!("{first}-{last}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_adopting_means_is_said_task_by_task() {
        let tasks = |first, last| v1::AdoptedTasks {
            job: "01jz8f5g3kq9w2m4n6p8r0t2v4".to_owned(),
            name: "load".to_owned(),
            tasks: vec![v1::IndexRange { first, last }],
        };
        let stray = |end| v1::StrayAttempt {
            attempt: Some(v1::AttemptId {
                job: "01jz8f5g3kq9w2m4n6p8r0t2v5".to_owned(),
                index: 3,
                number: 2,
            }),
            agent: "etl-1".to_owned(),
            end,
        };
        let ended = v1::End {
            outcome: v1::Outcome::Succeeded.into(),
            ..v1::End::default()
        };
        let adoption = v1::AdoptResponse {
            why: "the store was restored".to_owned(),
            backup: None,
            called: vec!["etl-1".to_owned()],
            missing: vec!["etl-2".to_owned()],
            taken_over: 4,
            again: vec![tasks(0, 0)],
            lost: vec![tasks(3, 9)],
            strays: vec![stray(None), stray(Some(ended))],
        };
        assert_eq!(
            text(&adoption, "will"),
            "the store was restored\n\
             1 of 2 agents have called\n\
             missing: etl-2\n\
             4 attempts that the store did not know go on\n\
             p8r0t2v4.0 (load) will run, although it may have run since the backup\n\
             p8r0t2v4.3-9 (load) will end lost, because it may have run and is at_most_once\n\
             p8r0t2v5.3#2 on etl-1 has no task: it will be stopped\n\
             p8r0t2v5.3#2 on etl-1 ended succeeded and has no task: its end will be dropped\n"
        );
    }
}
