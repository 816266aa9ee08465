//! `muster ps`, `job list` and `task list`.

use muster_proto::v1;

use super::Context;
use crate::args::job::{Filter, ListArgs, StateWord};
use crate::exit::{Exit, Failure};
use crate::quantity::count_text;
use crate::render::json::{JobJson, TaskJson};
use crate::render::table::Table;
use crate::render::{self, View, span, words};
use crate::target::{Target, short};

const JOBS: View<v1::Job> = View {
    name: "jobs",
    id: |job| job.id.clone(),
    table: jobs_table,
};

const TASKS: View<v1::Task> = View {
    name: "tasks",
    id: |task| format!("{}.{}", task.job, task.index),
    table: tasks_table,
};

/// Jobs, or with JOB its tasks.
pub(crate) async fn ps(context: &mut Context, args: ListArgs) -> Result<Exit, Failure> {
    if let Some(job) = &args.job {
        return tasks(context, job, &args.filter).await;
    }
    let (states, outcomes) = job_states(&args.filter.state, args.all);
    let hides_ended = args.filter.state.is_empty() && !args.all;
    let is_first_page = args.filter.page_token.is_empty();
    let labels = args.label.into_iter().map(|pair| (pair.key, pair.value));
    let request = v1::ListJobsRequest {
        team: context.client.team.clone(),
        states,
        outcomes,
        labels: labels.collect(),
        name: args.name.unwrap_or_default(),
        digest: args.digest,
        page_size: args.filter.limit,
        page_token: args.filter.page_token,
    };
    let page = context.client.jobs().list(request).await?.into_inner();
    let console = &mut context.console;
    let hint = hides_ended && is_first_page && page.jobs.is_empty() && console.is_for_people();
    render::list::<_, JobJson>(console, &JOBS, page.jobs, &page.next_page_token)?;
    if hint {
        console.note("nothing live to list; what has ended, too: muster ps --all");
    }
    Ok(Exit::DONE)
}

pub(crate) async fn tasks(
    context: &mut Context,
    job: &Target,
    filter: &Filter,
) -> Result<Exit, Failure> {
    let job = context.client.job_id(job.whole_job()?).await?;
    let (states, outcomes) = task_states(&filter.state);
    let request = v1::ListTasksRequest {
        team: context.client.team.clone(),
        job,
        states,
        outcomes,
        page_size: filter.limit,
        page_token: filter.page_token.clone(),
    };
    let page = context
        .client
        .jobs()
        .list_tasks(request)
        .await?
        .into_inner();
    render::list::<_, TaskJson>(
        &mut context.console,
        &TASKS,
        page.tasks,
        &page.next_page_token,
    )?;
    Ok(Exit::DONE)
}

/// A job's states and outcomes of the wire. Without words: what has not ended, or everything.
fn job_states(words: &[StateWord], all: bool) -> (Vec<i32>, Vec<i32>) {
    use v1::JobState::{Ended, Pending, Running};
    if words.is_empty() {
        let live = vec![Pending.into(), Running.into()];
        return (if all { Vec::new() } else { live }, Vec::new());
    }
    let mut states: Vec<i32> = Vec::new();
    let mut outcomes = Vec::new();
    for word in words {
        let state = match word {
            StateWord::Pending => Pending,
            StateWord::Assigned | StateWord::Preparing | StateWord::Running => Running,
            _ => {
                outcomes.extend(outcome(*word).map(i32::from));
                Ended
            }
        };
        if !states.contains(&state.into()) {
            states.push(state.into());
        }
    }
    // An outcome is only of what has ended, so naming one beside a live state would hide the live.
    if outcomes.is_empty() || states.len() == 1 {
        (states, outcomes)
    } else {
        (states, Vec::new())
    }
}

fn task_states(words: &[StateWord]) -> (Vec<i32>, Vec<i32>) {
    use v1::TaskState::{Assigned, Ended, Pending, Preparing, Running};
    let mut states: Vec<i32> = Vec::new();
    let mut outcomes = Vec::new();
    for word in words {
        let state = match word {
            StateWord::Pending => Pending,
            StateWord::Assigned => Assigned,
            StateWord::Preparing => Preparing,
            StateWord::Running => Running,
            _ => {
                outcomes.extend(outcome(*word).map(i32::from));
                Ended
            }
        };
        if !states.contains(&state.into()) {
            states.push(state.into());
        }
    }
    (states, outcomes)
}

const fn outcome(word: StateWord) -> Option<v1::Outcome> {
    match word {
        StateWord::Pending | StateWord::Assigned | StateWord::Preparing | StateWord::Running => {
            None
        }
        StateWord::Succeeded => Some(v1::Outcome::Succeeded),
        StateWord::Failed => Some(v1::Outcome::Failed),
        StateWord::Oom => Some(v1::Outcome::Oom),
        StateWord::Timeout => Some(v1::Outcome::Timeout),
        StateWord::Canceled => Some(v1::Outcome::Canceled),
        StateWord::Lost => Some(v1::Outcome::Lost),
        StateWord::Preempted => Some(v1::Outcome::Preempted),
        StateWord::ImageError => Some(v1::Outcome::ImageError),
        StateWord::InfraError => Some(v1::Outcome::InfraError),
    }
}

fn jobs_table(jobs: &[v1::Job], wide: bool) -> Table {
    let now = jiff::Timestamp::now();
    let narrow = ["JOB", "NAME", "STATE", "TASKS", "IMAGE", "CREATED", "TOOK"];
    let more = [
        "JOB", "NAME", "STATE", "TASKS", "IMAGE", "CREATED", "TOOK", "POOL", "PRIORITY", "RETRIES",
        "KEY",
    ];
    let mut table = Table::new(if wide { &more } else { &narrow });
    for job in jobs {
        let spec = job.spec.clone().unwrap_or_default();
        let counts = job.counts.unwrap_or_default();
        let took = span::between(job.started, job.ended.or_else(|| Some(span::wire(now))));
        let mut cells = vec![
            if wide {
                job.id.clone()
            } else {
                short(&job.id).to_owned()
            },
            spec.name,
            state_cell(job),
            tasks_cell(job.array, &counts),
            spec.image,
            span::ago(job.created, now),
            took.map(|span| span.to_string()).unwrap_or_default(),
        ];
        if wide {
            cells.push(spec.pool);
            cells.push(spec.priority.to_string());
            cells.push(counts.retries.to_string());
            cells.push(job.idempotency_key.clone());
        }
        table.row(cells);
    }
    table
}

fn state_cell(job: &v1::Job) -> String {
    let word = words::job_state(job);
    if job.cancel_requested && job.state() != v1::JobState::Ended {
        return format!("{word} (canceling)");
    }
    word.to_owned()
}

/// `6,212/17,400`, and how many of those ended badly.
fn tasks_cell(array: u32, counts: &v1::TaskCounts) -> String {
    let number = |count: u32| count_text(u64::from(count));
    let done = crate::progress::done(counts);
    match crate::progress::bad(counts) {
        0 => format!("{}/{}", number(done), number(array)),
        bad => format!(
            "{}/{} ({} failed)",
            number(done),
            number(array),
            number(bad)
        ),
    }
}

fn tasks_table(tasks: &[v1::Task], wide: bool) -> Table {
    let now = jiff::Timestamp::now();
    let narrow = [
        "TASK", "STATE", "ATTEMPT", "AGENT", "DIGEST", "STARTED", "TOOK",
    ];
    let more = [
        "TASK", "STATE", "ATTEMPT", "AGENT", "DIGEST", "STARTED", "TOOK", "RETRIES", "MESSAGE",
    ];
    let mut table = Table::new(if wide { &more } else { &narrow });
    for task in tasks {
        let end = task.end.clone().unwrap_or_default();
        let state = match (words::task_state(task), end.exit_code) {
            ("failed", Some(code)) => format!("failed({code})"),
            (word, _) => word.to_owned(),
        };
        let took = span::between(task.started, task.ended.or_else(|| Some(span::wire(now))));
        let digest = if wide {
            task.digest.as_str()
        } else {
            task.digest.get(..15).unwrap_or_default()
        };
        let mut cells = vec![
            format!("{}.{}", short(&task.job), task.index),
            state,
            task.attempt.to_string(),
            task.agent.clone(),
            digest.to_owned(),
            span::ago(task.started, now),
            took.map(|span| span.to_string()).unwrap_or_default(),
        ];
        if wide {
            cells.push(format!(
                "user {}, infra {}",
                task.user_retries_used, task.infra_retries_used
            ));
            cells.push(end.message);
        }
        table.row(cells);
    }
    table
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Args, Command, Format};
    use crate::mock::{Script, World, ended_job, job};

    /// What `line` says of the only job there is: on stdout, and on stderr.
    async fn ps_of(job: v1::Job, line: &str, format: Format) -> (String, String) {
        let script = Script {
            job,
            ..Script::default()
        };
        let mut world = World::new(script, format).await;
        let Command::Ps(args) = Args::parse_from(line.split(' ')).command else {
            panic!("{line} is no list");
        };
        ps(&mut world.context, args).await.unwrap();
        (world.out.text(), world.err.text())
    }

    #[tokio::test]
    async fn a_list_without_anything_live_says_how_to_see_what_has_ended() {
        let ended = || {
            let counts = v1::TaskCounts::default();
            ended_job(1, v1::Outcome::Succeeded, counts)
        };
        let (out, err) = ps_of(ended(), "muster ps", Format::Table).await;
        let header = "JOB  NAME  STATE  TASKS  IMAGE  CREATED  TOOK\n";
        assert_eq!(out, header);
        assert_eq!(
            err,
            "nothing live to list; what has ended, too: muster ps --all\n"
        );
        for (job, line, format) in [
            (job(1), "muster ps", Format::Table),
            (ended(), "muster ps --all", Format::Table),
            (ended(), "muster ps --state running", Format::Table),
            (ended(), "muster ps", Format::Json),
            (ended(), "muster ps", Format::Name),
        ] {
            let (_, err) = ps_of(job, line, format).await;
            assert_eq!(err, "", "{line} {format:?}");
        }
    }

    #[test]
    fn state_words_become_states_and_outcomes() {
        let pending: i32 = v1::JobState::Pending.into();
        let running: i32 = v1::JobState::Running.into();
        let ended: i32 = v1::JobState::Ended.into();
        let failed: i32 = v1::Outcome::Failed.into();
        let lost: i32 = v1::Outcome::Lost.into();
        assert_eq!(job_states(&[], false), (vec![pending, running], vec![]));
        assert_eq!(job_states(&[], true), (vec![], vec![]));
        assert_eq!(
            job_states(&[StateWord::Failed, StateWord::Lost], false),
            (vec![ended], vec![failed, lost])
        );
        assert_eq!(
            job_states(&[StateWord::Running, StateWord::Failed], false),
            (vec![running, ended], vec![])
        );
        let (states, outcomes) = task_states(&[StateWord::Preparing, StateWord::Oom]);
        let both = [v1::TaskState::Preparing, v1::TaskState::Ended].map(i32::from);
        assert_eq!(states, both);
        assert_eq!(outcomes, [i32::from(v1::Outcome::Oom)]);
    }

    #[test]
    fn a_row_says_where_a_job_stands() {
        let job = v1::Job {
            id: "01jz8f5g3kq9w2m4n6p8r0t2v4".to_owned(),
            array: 17_400,
            state: v1::JobState::Running.into(),
            cancel_requested: true,
            counts: Some(v1::TaskCounts {
                succeeded: 6_210,
                failed: 2,
                ..v1::TaskCounts::default()
            }),
            ..v1::Job::default()
        };
        let text = jobs_table(&[job], false).text(false, false, false);
        assert_eq!(
            text,
            "p8r0t2v4    running (canceling)  6,212/17,400 (2 failed)\n"
        );
    }
}
