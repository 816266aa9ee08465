//! The store's rows, by themselves and against what the fleet has in memory.

use std::collections::{BTreeMap, BTreeSet};

use muster_core::ids::{JobId, TaskId};
use muster_core::job::JobProgress;
use muster_core::task::TaskRow;

use super::{Finding, Verdict, or_ok};
use crate::api::Shared;
use crate::store::{JobQuery, JobState, ReadError, Revision, Store, StoreProblem};

/// Jobs and tasks that are compared one by one.
const JOBS: usize = 500;
const TASKS: usize = 2_000;
/// Rows of live jobs that are looked for in memory.
const LIVE_ROWS: u32 = 1_000;

const STORE_ADVICE: &str = "stop the coordinator, keep a copy of its data directory, look at the disk, and \
                            restore a backup";
const DIFFER_ADVICE: &str = "this is a bug: keep the coordinator's log, then restart the coordinator, which \
                             takes what the store has";

pub(super) async fn store<S: Store>(shared: &Shared<S>) -> Vec<Finding> {
    const CHECK: &str = "store";
    match shared.store.check().await {
        Err(error) => {
            let what = muster_core::error_chain::error_chain(&error);
            vec![Finding::of(CHECK, Verdict::Problem, "", what, STORE_ADVICE)]
        }
        Ok(problems) => {
            let told = problems.into_iter().map(|problem| {
                let StoreProblem { word, what } = problem;
                let verdict = if word == "unfinished" {
                    Verdict::Unknown
                } else {
                    Verdict::Problem
                };
                Finding::of(CHECK, verdict, word, what, STORE_ADVICE)
            });
            or_ok(
                CHECK,
                told.collect(),
                "it is whole, and its rows agree with each other",
            )
        }
    }
}

/// What the fleet had when the store had this revision.
struct Memory {
    rev: Revision,
    jobs: Vec<(JobId, JobProgress)>,
    tasks: Vec<(TaskId, TaskRow)>,
    all: BTreeSet<JobId>,
}

pub(super) async fn memory_and_rows<S: Store>(shared: &Shared<S>) -> Vec<Finding> {
    const CHECK: &str = "memory_and_rows";
    let revisions = shared.store.revisions();
    let memory = shared.driver.look(move |fleet, _| {
        let jobs = fleet.jobs().take(JOBS);
        let tasks = fleet.tasks().take(TASKS);
        let tasks = tasks.filter_map(|(id, _)| Some((id, fleet.task_row(id)?)));
        Memory {
            rev: *revisions.borrow(),
            jobs: jobs
                .map(|live| (live.job.id, live.progress.clone()))
                .collect(),
            tasks: tasks.collect(),
            all: fleet.job_ids().collect(),
        }
    });
    let Ok(memory) = memory.await else {
        return vec![Finding::unknown(CHECK, "the coordinator is stopping")];
    };
    match differences(&*shared.store, memory).await {
        Err(error) => vec![Finding::unknown(
            CHECK,
            muster_core::error_chain::error_chain(&error),
        )],
        Ok(found) => {
            let told = found.into_iter().map(|(subject, what)| {
                Finding::of(CHECK, Verdict::Problem, subject, what, DIFFER_ADVICE)
            });
            or_ok(CHECK, told.collect(), "what is in memory is what is stored")
        }
    }
}

/// Who differs, and how. What changed after the look at the memory is left out.
async fn differences<S: Store>(
    store: &S,
    memory: Memory,
) -> Result<BTreeMap<String, String>, ReadError> {
    let Memory {
        rev,
        jobs,
        tasks,
        all,
    } = memory;
    let mut found = BTreeMap::new();
    for (id, progress) in jobs {
        match store.job(id).await? {
            None => {
                found.insert(id.to_string(), "in memory and not stored".to_owned());
            }
            Some(row) if row.rev <= rev && row.progress != progress => {
                let what = format!(
                    "stored {:?}, in memory {:?}",
                    row.progress.counts, progress.counts
                );
                found.insert(id.to_string(), what);
            }
            Some(_) => {}
        }
    }
    for (id, task) in tasks {
        match store.task(id).await? {
            None => {
                found.insert(id.to_string(), "in memory and not stored".to_owned());
            }
            Some(entry) if entry.rev <= rev && entry.row != task => {
                let what = format!("stored {:?}, in memory {:?}", entry.row.state, task.state);
                found.insert(id.to_string(), what);
            }
            Some(_) => {}
        }
    }
    let query = JobQuery {
        states: vec![JobState::Pending, JobState::Running],
        limit: LIVE_ROWS,
        ..JobQuery::default()
    };
    for row in store.list_jobs(query).await?.rows {
        if row.rev <= rev && !all.contains(&row.job.id) {
            found.insert(
                row.job.id.to_string(),
                "stored as live and not in memory".to_owned(),
            );
        }
    }
    Ok(found)
}
