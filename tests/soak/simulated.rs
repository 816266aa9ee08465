//! Simulated tasks: a real coordinator process with its store, real gRPC, and real agents over engines in
//! memory. One fault for every hundred starts, and the coordinator is killed a few times.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use muster_proto::v1 as pb;
use muster_tests::fleet::enabled;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::audit::{self, Audited, patiently};
use crate::daemons::Daemons;
use crate::faults::Faults;
use crate::fleet::Fleet;
use crate::ledger::Ledger;
use crate::load::{ARRAY, Kind};
use crate::proxy::Proxy;
use crate::settings::number;
use muster_tests::gauge::{Process, Series};

mod verdict;

/// How much is run.
#[derive(Debug, Clone, Copy)]
struct Size {
    tasks: u32,
    agents: usize,
    places: u32,
    /// Tasks submitted each second, if they are done as fast.
    rate: u32,
    /// Share of the jobs after which the coordinator is killed, in percent.
    kills: &'static [u32],
    /// Long enough for slopes to mean something; the report is written.
    long: bool,
}

impl Size {
    /// `MUSTER_SOAK_TASKS`, `MUSTER_SOAK_AGENTS` and `MUSTER_SOAK_RATE`; a small one without them.
    fn chosen() -> Self {
        let rate = number("MUSTER_SOAK_RATE");
        match number("MUSTER_SOAK_TASKS") {
            None => Self {
                tasks: 2_000,
                agents: 20,
                places: 16,
                rate: rate.unwrap_or(400),
                kills: &[50],
                long: false,
            },
            Some(tasks) => Self {
                tasks,
                agents: usize::try_from(number("MUSTER_SOAK_AGENTS").unwrap_or(1_000)).unwrap(),
                places: 4,
                rate: rate.unwrap_or(250),
                kills: &[5, 10, 15],
                long: true,
            },
        }
    }

    const fn jobs(self) -> u32 {
        self.tasks.div_ceil(ARRAY)
    }

    fn array(self, job: u32) -> u32 {
        ARRAY.min(self.tasks - job * ARRAY)
    }

    /// The job after which the coordinator is not killed any more.
    fn undisturbed(self) -> u32 {
        let killed = self.kills.last();
        killed.map_or(0, |share| self.jobs() * share / 100)
    }

    /// The job after which growth is measured: the caches and buffers of the last coordinator are full, if the run is
    /// long enough for that.
    fn warm(self) -> u32 {
        let buffered = BUFFERED * u32::try_from(self.agents).unwrap();
        let full = (CACHED + buffered).div_ceil(ARRAY);
        (self.undisturbed() + full).min(self.jobs() * 4 / 5)
    }
}

/// Tasks whose rows, of 300 bytes, fill the pages that the store's connections keep in memory: 16 MiB.
const CACHED: u32 = 60_000;
/// Tasks of each agent until the other caches and buffers are full, as measured: the database of small logs fills its
/// cache more slowly than the store, and a connection's buffers become resident with the largest messages.
const BUFFERED: u32 = 400;
/// Jobs that may be open at a time: enough to fill every place, few enough to stay responsive.
const OPEN: usize = 60;
const TURN: Duration = Duration::from_millis(50);
const LOOK: Duration = Duration::from_millis(250);
const MEASURE: Duration = Duration::from_secs(2);
const TELL: Duration = Duration::from_secs(10);
/// After the last end, for everything to be cleaned up; the promise is a minute.
const SETTLE: Duration = Duration::from_secs(60);
/// Without any end for so long, tasks are lost.
const STUCK: Duration = Duration::from_secs(180);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn simulated_tasks() {
    if !enabled() {
        return;
    }
    let size = Size::chosen();
    let mut soak = Soak::start(size).await;
    soak.run().await;
    let figures = soak.judge().await;
    println!("{}", figures.table());
    if size.long {
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
    size: Size,
    /// Of the jobs' keys.
    run: String,
    began: Instant,
    daemons: Daemons,
    proxy: Proxy,
    stop: CancellationToken,
    fleet: Fleet,
    faults: Faults,
    ledger: Ledger,
    submitted: u32,
    open: BTreeMap<u32, String>,
    audits: JoinSet<Audited>,
    ended: Vec<Audited>,
    kills: usize,
    recovery: Duration,
    measures: Measures,
}

/// What must not grow.
struct Measures {
    at: Instant,
    coordinator_memory: Series,
    coordinator_descriptors: Series,
    agents_memory: Series,
    agents_descriptors: Series,
    /// The store's bytes and the tasks ended when measuring began.
    store: Option<(u64, u32)>,
}

impl Measures {
    fn all(&mut self) -> [(&'static str, &mut Series); 4] {
        [
            ("coordinator memory", &mut self.coordinator_memory),
            ("coordinator descriptors", &mut self.coordinator_descriptors),
            ("agents' memory", &mut self.agents_memory),
            ("agents' descriptors", &mut self.agents_descriptors),
        ]
    }
}

impl Soak {
    async fn start(size: Size) -> Self {
        let daemons = tokio::task::block_in_place(|| Daemons::start(0, None));
        let stop = CancellationToken::new();
        let proxy = Proxy::start(daemons.address().to_owned(), stop.clone()).await;
        let fleet = Fleet::start(size.agents, size.places, daemons.address(), &proxy);
        println!("soak: {size:?}");
        let soak = Self {
            size,
            run: uuid::Uuid::now_v7().simple().to_string(),
            began: Instant::now(),
            proxy,
            stop,
            fleet,
            faults: Faults::new(1),
            ledger: Ledger::new(usize::try_from(size.tasks).unwrap()),
            submitted: 0,
            open: BTreeMap::new(),
            audits: JoinSet::new(),
            ended: Vec::new(),
            kills: 0,
            recovery: Duration::ZERO,
            measures: Measures {
                at: Instant::now(),
                coordinator_memory: Series::begin(),
                coordinator_descriptors: Series::begin(),
                agents_memory: Series::begin(),
                agents_descriptors: Series::begin(),
                store: None,
            },
            daemons,
        };
        soak.all_online().await;
        println!(
            "soak: {} agents online after {:.1?}",
            size.agents,
            soak.began.elapsed()
        );
        soak
    }

    async fn all_online(&self) {
        let deadline = Instant::now() + SETTLE;
        let mut looks = tokio::time::interval(LOOK);
        loop {
            looks.tick().await;
            let answer = patiently("agents", || {
                let mut agents = self.daemons.agents();
                async move { agents.list(pb::ListAgentsRequest::default()).await }
            })
            .await;
            let online = |agent: &&pb::Agent| agent.state() == pb::AgentState::Online;
            let online = answer.agents.iter().filter(online).count();
            if online == self.size.agents {
                return;
            }
            assert!(Instant::now() < deadline, "only {online} agents are online");
        }
    }

    async fn run(&mut self) {
        self.began = Instant::now();
        let mut turns = tokio::time::interval(TURN);
        turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut looked, mut told, mut moved) = (self.began, self.began, self.began);
        while self.ended.len() < usize::try_from(self.size.jobs()).unwrap() {
            turns.tick().await;
            self.submit().await;
            let starts = self.collect_starts();
            self.faults
                .after(starts, &mut self.fleet, &self.proxy)
                .await;
            if looked.elapsed() >= LOOK {
                looked = Instant::now();
                self.look().await;
            }
            while let Some(audited) = self.audits.try_join_next() {
                self.ended.push(audited.unwrap());
                moved = Instant::now();
            }
            self.kill_if_due();
            self.measure();
            if told.elapsed() >= TELL {
                told = Instant::now();
                self.tell();
            }
            let open = self.open.clone();
            assert!(
                moved.elapsed() < STUCK,
                "no job ends: {open:?}\n{}",
                self.progress()
            );
        }
        self.tell();
        self.faults.heal_all(&self.fleet);
    }

    /// Submits what is due by now.
    async fn submit(&mut self) {
        let due = self.began.elapsed().as_secs_f64() * f64::from(self.size.rate);
        while self.submitted < self.size.jobs()
            && self.open.len() < OPEN
            && f64::from(self.submitted * ARRAY) <= due
        {
            let (number, array) = (self.submitted, self.size.array(self.submitted));
            let kind = Kind::of(number);
            let answer = patiently("submission", || {
                let mut jobs = self.daemons.jobs();
                let request = kind.submission(number, array, &self.run);
                async move { jobs.submit(request).await }
            })
            .await;
            let job = answer.jobs.into_iter().next().unwrap().job.unwrap();
            self.ledger
                .add_job(&job.id, usize::try_from(array).unwrap());
            self.open.insert(number, job.id);
            self.submitted += 1;
        }
    }

    /// Has what ended audited.
    async fn look(&mut self) {
        let ids: Vec<(u32, String)> = self.open.clone().into_iter().collect();
        for (number, id) in ids {
            let job = self.daemons.job(&id).await;
            if job.state() == pb::JobState::Ended {
                self.open.remove(&number);
                let (jobs, kind) = (self.daemons.jobs(), Kind::of(number));
                let array = self.size.array(number);
                self.audits
                    .spawn(audit::read(jobs, job, number, kind, array));
            }
        }
    }

    fn collect_starts(&mut self) -> u64 {
        let before = self.ledger.total;
        for host in &self.fleet.hosts {
            for (name, count) in host.engine.take_starts() {
                self.ledger.note_start(name, count);
            }
        }
        self.ledger.total - before
    }

    fn kill_if_due(&mut self) {
        let Some(share) = self.size.kills.get(self.kills) else {
            return;
        };
        if self.submitted * 100 >= self.size.jobs() * share {
            self.kills += 1;
            let took = self.daemons.restart_coordinator();
            self.recovery = self.recovery.max(took);
            println!("soak: coordinator killed; it served again after {took:.2?}");
        }
    }

    fn ended_tasks(&self) -> u32 {
        u32::try_from(self.ended.len()).unwrap_or(u32::MAX) * ARRAY
    }

    fn measure(&mut self) {
        let warm = usize::try_from(self.size.warm()).unwrap();
        if self.ended.len() < warm || self.measures.at.elapsed() < MEASURE {
            return;
        }
        self.measures.at = Instant::now();
        if self.measures.store.is_none() {
            self.measures.store = Some((self.daemons.store_bytes(), self.ended_tasks()));
        }
        let (coordinator, own) = (self.daemons.coordinator(), Process::own());
        let agents_memory = own.resident().saturating_sub(self.books());
        let measures = &mut self.measures;
        measures.coordinator_memory.add(coordinator.resident());
        measures
            .coordinator_descriptors
            .add(coordinator.descriptors());
        measures.agents_memory.add(agents_memory);
        measures.agents_descriptors.add(own.descriptors());
    }

    /// Bytes of this process that are the judge's, and not the agents'.
    fn books(&self) -> u64 {
        let audits: usize = self.ended.iter().map(Audited::bytes).sum();
        u64::try_from(self.ledger.bytes() + audits).unwrap()
    }

    fn progress(&mut self) -> String {
        let seconds = self.began.elapsed().as_secs_f64();
        let ended = self.ended_tasks();
        format!(
            "{seconds:.0} s: {} tasks submitted, {ended} ended and audited ({:.0} a second), {} starts, \
             {} faults, coordinator {} MiB, agents {} MiB",
            (self.submitted * ARRAY).min(self.size.tasks),
            f64::from(ended) / seconds,
            self.ledger.total,
            self.faults.total(),
            self.daemons.coordinator().resident() >> 20,
            Process::own().resident() >> 20,
        )
    }

    fn tell(&mut self) {
        println!("soak: {}", self.progress());
    }
}
