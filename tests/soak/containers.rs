//! Real containers on an engine of the soak's own: agents are killed, the engine restarts, the coordinator is
//! killed. Each task calls a ledger when it begins.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use muster_proto::v1 as pb;
use muster_tests::engine::PrivateEngine;
use muster_tests::fleet::{IMAGE, enabled};
use muster_tests::processes::output_of;

use crate::audit::{self, patiently};
use crate::calls::Calls;
use crate::daemons::Daemons;
use crate::figures::Figures;
use crate::settings::number;
use muster_tests::gauge::Process;

const LOOK: Duration = Duration::from_millis(200);
/// After the last end, for everything to be removed.
const SETTLE: Duration = Duration::from_secs(60);
/// Without any news for so long, tasks are lost.
const STUCK: Duration = Duration::from_secs(180);
/// Descriptors that the engine may hold at the end beyond those of its beginning.
const DESCRIPTORS: u64 = 10;
/// Docker itself leaves up to so many mounts and namespaces of a container whose start its own end cut off.
const LEAKS: u32 = 3;
const AGENTS: [&str; 4] = ["a1", "a2", "a3", "a4"];

/// What goes wrong after so many hundredths of the tasks.
#[derive(Debug, Clone, Copy)]
enum Fault {
    Agent(&'static str),
    /// TERM to dockerd, and a new one.
    EngineStops,
    /// KILL to dockerd, and a new one.
    EngineDies,
    Coordinator,
}

const LONG: [(u32, Fault); 6] = [
    (15, Fault::Agent("a1")),
    (30, Fault::EngineStops),
    (45, Fault::Agent("a2")),
    (55, Fault::Coordinator),
    (70, Fault::EngineDies),
    (85, Fault::Agent("a1")),
];
const SHORT: [(u32, Fault); 3] = [
    (20, Fault::Agent("a1")),
    (40, Fault::EngineStops),
    (60, Fault::Coordinator),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_containers() {
    if !enabled() {
        return;
    }
    let (count, faults, long) = match number("MUSTER_SOAK_CONTAINERS") {
        Some(count) => (count, &LONG[..], true),
        None => (16, &SHORT[..], false),
    };
    let mut soak = Soak::start(count).await;
    soak.run(faults).await;
    let figures = soak.judge().await;
    println!("{}", figures.table());
    if long {
        println!("report: {}", figures.write().display());
    }
    let missed = figures.missed();
    assert!(
        missed.is_empty(),
        "missed: {}\n{}",
        missed.join(", "),
        figures.table()
    );
}

struct Soak {
    count: u32,
    began: Instant,
    /// Before the engine, whose containers they remove at the end.
    daemons: Daemons,
    engine: PrivateEngine,
    calls: Calls,
    job: String,
    descriptors: u64,
    mounts: Vec<String>,
    /// Containers that were there when the engine was ended. Of those that end while it is away, Docker keeps the
    /// namespaces, and a descriptor each.
    unwatched: u32,
}

impl Soak {
    async fn start(count: u32) -> Self {
        let (engine, daemons) = tokio::task::block_in_place(|| {
            let engine = PrivateEngine::start(true);
            let daemons = Daemons::start(AGENTS.len(), Some(&engine.host()));
            (engine, daemons)
        });
        let mut soak = Self {
            count,
            began: Instant::now(),
            daemons,
            descriptors: Process(engine.pid()).descriptors(),
            mounts: engine.mounts(),
            unwatched: 0,
            engine,
            calls: Calls::listen(),
            job: String::new(),
        };
        soak.submit().await;
        soak
    }

    async fn submit(&mut self) {
        let spec = pb::JobSpec {
            name: "soak".into(),
            image: IMAGE.into(),
            pull: pb::PullPolicy::Never.into(),
            command: ["sh", "-c", &self.calls.script(1)]
                .map(str::to_owned)
                .into(),
            resources: Some(pb::Resources {
                cpu_millis: 10,
                memory_bytes: 16 << 20,
                ..Default::default()
            }),
            // Its backoff is short, so that a small soak does not wait.
            retry: muster_tests::cluster::spec(IMAGE, "").retry,
            ..Default::default()
        };
        let key = uuid::Uuid::now_v7().simple().to_string();
        let request = muster_tests::cluster::submission(spec, self.count, &key);
        // The image is known once an agent has told of it.
        let deadline = Instant::now() + SETTLE;
        let mut looks = tokio::time::interval(LOOK);
        loop {
            looks.tick().await;
            match self.daemons.jobs().submit(request.clone()).await {
                Ok(answer) => {
                    let job = answer.into_inner().jobs.pop().unwrap().job.unwrap();
                    self.job = job.id;
                    return;
                }
                Err(status) => assert!(Instant::now() < deadline, "{status:?}"),
            }
        }
    }

    async fn run(&mut self, faults: &[(u32, Fault)]) {
        self.began = Instant::now();
        let mut faults = faults.iter();
        let mut next = faults.next();
        let (mut known, mut moved, mut told) = (0, Instant::now(), Instant::now());
        let mut looks = tokio::time::interval(LOOK);
        loop {
            looks.tick().await;
            let job = self.get().await;
            let ended = audit::ends(&job.counts.unwrap_or_default());
            if job.state() == pb::JobState::Ended {
                return;
            }
            if let Some((share, fault)) = next
                && ended * 100 >= self.count * share
            {
                println!("soak: {ended} containers ended; {fault:?}");
                self.inject(*fault);
                next = faults.next();
            }
            if ended > known {
                (known, moved) = (ended, Instant::now());
            }
            if told.elapsed() > Duration::from_secs(10) {
                told = Instant::now();
                let seconds = self.began.elapsed().as_secs();
                println!(
                    "soak: {seconds} s: {ended} of {} containers ended",
                    self.count
                );
            }
            let stuck = moved.elapsed() > STUCK;
            assert!(
                !stuck,
                "no container ends: {:?}\n{:?}",
                job.counts,
                self.containers()
            );
        }
    }

    fn inject(&mut self, fault: Fault) {
        if matches!(fault, Fault::EngineStops | Fault::EngineDies) {
            self.unwatched += u32::try_from(self.containers().len()).unwrap();
        }
        match fault {
            Fault::Agent(name) => self.daemons.restart_agent(name),
            Fault::EngineStops => tokio::task::block_in_place(|| {
                self.engine.terminate();
                self.engine.start_again();
            }),
            Fault::EngineDies => tokio::task::block_in_place(|| {
                self.engine.kill();
                self.engine.start_again();
            }),
            Fault::Coordinator => {
                self.daemons.restart_coordinator();
            }
        }
    }

    async fn get(&self) -> pb::Job {
        patiently("job", || {
            let mut jobs = self.daemons.jobs();
            let request = pb::GetJobRequest {
                id: self.job.clone(),
                ..Default::default()
            };
            async move { jobs.get(request).await }
        })
        .await
    }

    /// What is left of containers: themselves, their directories, and what the engine mounted for them.
    fn leftovers(&self) -> (Vec<String>, Vec<String>, Vec<String>) {
        let directories = AGENTS.iter().flat_map(|name| {
            let entries = std::fs::read_dir(self.daemons.data_dir(name).join("attempts"));
            entries
                .unwrap()
                .flatten()
                .map(|entry| entry.path().display().to_string())
        });
        let mut mounts = self.engine.mounts();
        mounts.retain(|mount| !self.mounts.contains(mount));
        (self.containers(), directories.collect(), mounts)
    }

    /// Whatever there is on the engine.
    fn containers(&self) -> Vec<String> {
        let mut docker = self.engine.docker();
        docker.args(["ps", "--all", "--format", "{{.Names}} {{.Status}}"]);
        output_of(&mut docker).lines().map(str::to_owned).collect()
    }

    async fn judge(&mut self) -> Figures {
        let took = self.began.elapsed().as_secs_f64();
        let deadline = Instant::now() + SETTLE;
        let mut looks = tokio::time::interval(LOOK);
        let mut left = self.leftovers();
        while !(left.0.is_empty() && left.1.is_empty()) && Instant::now() < deadline {
            looks.tick().await;
            left = self.leftovers();
        }
        let (containers, directories, mounts) = left;
        let job = self.get().await;
        let counts = job.counts.unwrap_or_default();
        let mut figures = Figures::new("containers");
        figures.count("containers", u64::from(self.count));
        figures.inform("seconds", took);
        figures.inform("containers a second", f64::from(self.count) / took);
        let ended = audit::ends(&counts);
        figures.none("lost tasks", u64::from(self.count.abs_diff(ended)));
        figures.none(
            "tasks without success",
            u64::from(ended.abs_diff(counts.succeeded)),
        );
        figures.count("retries", u64::from(counts.retries));
        let cut_off = self.judge_starts(&mut figures).await;
        figures.none(
            "orphaned containers",
            u64::try_from(containers.len()).unwrap(),
        );
        figures.none(
            "left directories of attempts",
            u64::try_from(directories.len()).unwrap(),
        );
        let leaked = u32::try_from(mounts.len()).unwrap();
        let most = cut_off * LEAKS + self.unwatched;
        figures.at_most(
            "leaked mounts and network namespaces",
            leaked.into(),
            most.into(),
        );
        let left = containers.into_iter().chain(directories).chain(mounts);
        figures.examples(left.take(10).collect());
        // Agents leave the teams' networks for an hour.
        output_of(self.engine.docker().args(["network", "prune", "--force"]));
        let now = Process(self.engine.pid()).descriptors();
        figures.count("descriptors of the engine at the start", self.descriptors);
        let most = u32::try_from(self.descriptors + DESCRIPTORS).unwrap() + self.unwatched;
        let now = u32::try_from(now).unwrap();
        figures.at_most(
            "descriptors of the engine at the end",
            now.into(),
            most.into(),
        );
        self.daemons.stop();
        figures
    }

    /// Every attempt that the coordinator says ran called once, and nobody else did. Returns how many starts
    /// the engine cut off.
    async fn judge_starts(&self, figures: &mut Figures) -> u32 {
        let mut seen = self.calls.seen();
        figures.count(
            "starts by the tasks' ledger",
            u64::try_from(seen.len()).unwrap(),
        );
        let twice = seen.values().filter(|calls| **calls > 1).count();
        figures.none("attempts that started twice", u64::try_from(twice).unwrap());
        let (mut attempts, mut ran, mut missing, mut cut_off) = (0, 0, 0, 0);
        let mut retried: BTreeMap<String, u64> = BTreeMap::new();
        for task in audit::list(&self.daemons.jobs(), &self.job).await {
            for attempt in audit::attempts(&self.daemons.jobs(), &task.job, task.index).await {
                attempts += 1;
                let name = format!("{}.{}-{}", attempt.job, attempt.index, attempt.number);
                let called = seen.remove(&name).is_some();
                ran += u64::from(attempt.started.is_some());
                missing += u64::from(attempt.started.is_some() && !called);
                let end = attempt.end.unwrap_or_default();
                cut_off += u32::from(attempt.started.is_none());
                if attempt.number < task.attempt {
                    let how = if called {
                        "after it began"
                    } else {
                        "before it began"
                    };
                    let how = format!("retried {how}: {:?} {}", end.outcome(), end.reason);
                    *retried.entry(how).or_default() += 1;
                }
            }
        }
        figures.count("attempts", attempts);
        figures.count("attempts that ran, by the coordinator", ran);
        retried
            .iter()
            .for_each(|(how, count)| figures.count(how, *count));
        figures.none("recorded starts that did not happen", missing);
        figures.none(
            "starts that belong to no attempt",
            u64::try_from(seen.len()).unwrap(),
        );
        cut_off
    }
}
