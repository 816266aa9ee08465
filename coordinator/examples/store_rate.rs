//! How many task lifecycles a second the SQLite store makes durable: each is an attempt that is made,
//! starts and ends, in three commits that it shares with the other tasks of its batch.
//!
//! `cargo run --release -p muster-coordinator --example store_rate -- [DIRECTORY]`

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use muster_coordinator::store::{SqliteStore, Store};
use muster_core::effect::{Because, Record};
use muster_core::ids::{AgentId, AttemptId, AttemptNo, JobId, JobName, PoolName, TaskId, TeamName};
use muster_core::image::{Digest, Image};
use muster_core::job::{Job, JobProgress, LiveJob};
use muster_core::outcome::{End, EndReason, Outcome, Usage};
use muster_core::retry::Spent;
use muster_core::spec::{
    Backoff, Delivery, ImageSource, Network, OnDisconnect, Pull, Requirements, Resources,
    RetryPolicy, Spec,
};
use muster_core::task::{RowState, TaskRow};
use muster_core::time::{Millis, Timestamp};
use uuid::Uuid;

const TASKS: u32 = 100_000;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let directory = std::env::args()
        .nth(1)
        .map_or_else(std::env::temp_dir, PathBuf::from);
    println!("batch  lifecycles/s  records/s  commit p50 ms  p99 ms");
    for batch in [100, 1_000] {
        let path = directory.join(format!("store-rate-{}-{batch}", std::process::id()));
        let store = SqliteStore::open(&path)?;
        measure(&store, batch).await?;
        drop(store);
        std::fs::remove_dir_all(&path)?;
    }
    Ok(())
}

async fn measure(store: &SqliteStore, batch: u32) -> anyhow::Result<()> {
    let job = Arc::new(job());
    let progress = LiveJob::new(job.clone(), 0).progress;
    store
        .commit(vec![Record::JobSubmitted(job.clone())])
        .await?;
    let mut commits = Vec::new();
    let mut records = 0;
    let begun = Instant::now();
    for first in (0..TASKS).step_by(usize::try_from(batch)?) {
        for step in [made, started, ended] {
            let tasks = first..first + batch;
            let mut all: Vec<Record> = tasks
                .flat_map(|index| step(TaskId { job: job.id, index }))
                .collect();
            all.push(progress_record(&job, &progress));
            records += all.len();
            let asked = Instant::now();
            store.commit(all).await?;
            commits.push(asked.elapsed());
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    commits.sort_unstable();
    let at = |percent: usize| commits[commits.len() * percent / 100].as_secs_f64() * 1e3;
    let rate = |count: f64| count / seconds;
    println!(
        "{batch:5}  {:12.0}  {:9.0}  {:13.2}  {:6.2}",
        rate(f64::from(TASKS)),
        rate(f64::from(u32::try_from(records)?)),
        at(50),
        at(99),
    );
    Ok(())
}

fn made(task: TaskId) -> Vec<Record> {
    let attempt = AttemptId {
        task,
        number: AttemptNo(1),
    };
    let because = Because::First;
    vec![
        Record::AttemptMade {
            attempt,
            agent: agent(),
            image: image(),
            at: Timestamp(1),
            because,
        },
        Record::Task {
            task,
            row: row(RowState::Assigned, None),
        },
    ]
}

fn started(task: TaskId) -> Vec<Record> {
    let attempt = AttemptId {
        task,
        number: AttemptNo(1),
    };
    vec![
        Record::AttemptStarted {
            attempt,
            at: Timestamp(2),
        },
        Record::Task {
            task,
            row: row(RowState::Running, Some(Timestamp(2))),
        },
    ]
}

fn ended(task: TaskId) -> Vec<Record> {
    let attempt = AttemptId {
        task,
        number: AttemptNo(1),
    };
    let end = End {
        exit_code: Some(0),
        ..End::of(Outcome::Succeeded, EndReason::Exited)
    };
    let usage = Usage {
        peak_memory_bytes: Some(20 << 20),
        cpu_micros: Some(31_000),
        pull: Some(Millis(0)),
        start: Some(Millis(212)),
        run: Some(Millis(340)),
    };
    let started = Some(Timestamp(2));
    let at = Timestamp(3);
    let state = RowState::Ended {
        end: end.clone(),
        at,
    };
    vec![
        Record::AttemptEnded {
            attempt,
            started,
            at,
            end,
            usage,
        },
        Record::Task {
            task,
            row: row(state, started),
        },
    ]
}

fn progress_record(job: &Job, progress: &JobProgress) -> Record {
    Record::JobProgress {
        job: job.id,
        progress: progress.clone(),
    }
}

fn row(state: RowState, started: Option<Timestamp>) -> TaskRow {
    TaskRow {
        state,
        last: AttemptNo(1),
        spent: Spent::default(),
        agent: agent(),
        image: image(),
        release: Some(41),
        assigned: Timestamp(1),
        started,
    }
}

fn agent() -> AgentId {
    AgentId::parse("worker-17").expect("a name")
}

fn image() -> Image {
    let repository = "registry.example:5000/etl/analytics"
        .parse()
        .expect("a repository");
    Image::Remote {
        repository,
        digest: Digest::from_bytes([7; 32]),
    }
}

fn job() -> Job {
    let name = || JobName::parse("load").expect("a name");
    let requirements = Requirements {
        pool: PoolName::parse("default").expect("a name"),
        labels: BTreeMap::new(),
        agent: None,
        resources: Resources {
            cpu_millis: 1000,
            memory_bytes: 1 << 29,
            pids: 256,
            ..Resources::default()
        },
        held: None,
        concurrency: BTreeMap::new(),
        lease: false,
    };
    let spec = Spec {
        name: name(),
        image: ImageSource::Reference {
            text: "registry.example:5000/etl/analytics:1".to_owned(),
        },
        pull: Pull::Missing,
        entrypoint: None,
        command: vec!["python3".to_owned(), "load.py".to_owned()],
        env: BTreeMap::new(),
        labels: BTreeMap::new(),
        workdir: None,
        user: None,
        requirements: Arc::new(requirements),
        priority: 0,
        queue_timeout: None,
        run_timeout: Millis::from_secs(86_400),
        kill_grace: Millis::from_secs(10),
        retry: RetryPolicy {
            user: 0,
            infra: 3,
            backoff: Backoff::default(),
            rules: Vec::new(),
        },
        success_codes: Vec::new(),
        delivery: Delivery::AtLeastOnce,
        on_disconnect: OnDisconnect::Finish,
        network: Network::Bridge,
        writable_root: false,
    };
    Job {
        id: JobId(Uuid::now_v7()),
        team: TeamName::parse("default").expect("a name"),
        spec: Arc::new(spec),
        array: TASKS,
        key: None,
        pinned: Some(image()),
        release: None,
        created: Timestamp(0),
        traceparent: None,
    }
}
