//! Every named place of both daemons, with KILL and STOP: nothing lost, nothing started twice, no false
//! success, and everything done soon after the restart.

use std::time::{Duration, Instant};

use muster_failpoint::{Daemon as Side, Point};
use muster_tests::engine::PrivateEngine;
use muster_tests::fleet::{Fleet, IMAGE, enabled};
use muster_tests::history::{Expected, History};
use muster_tests::ledger::SAY;
use muster_tests::processes::eventually;

use muster_tests::tag::Tag;

/// From the restart to the end of the last task, without what the tasks take themselves.
const RECOVERY: Duration = Duration::from_secs(30);
/// What one takes, at four at a time.
const TASK: Duration = Duration::from_millis(250);
const SIGKILL: i32 = 9;

#[derive(Debug, Clone, Copy)]
enum Fault {
    Kill,
    /// For so long.
    Stop(Duration),
}

impl Fault {
    const fn word(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Stop(_) => "stop",
        }
    }
}

/// Whether there are hours.
pub(crate) fn long() -> bool {
    std::env::var("MUSTER_FAULTS").is_ok_and(|value| value == "long")
}

/// How much of it.
struct Extent {
    /// Of each job.
    tasks: usize,
    freeze: Duration,
    /// Where to freeze.
    freezes: fn(Point) -> bool,
}

/// `MUSTER_FAULTS=long`, as `make faults-long` sets it, or the short form. `MUSTER_FAULTS_TASKS` makes the long
/// one shorter, at the same places.
fn extent() -> Extent {
    if long() {
        let tasks = std::env::var("MUSTER_FAULTS_TASKS").ok();
        return Extent {
            tasks: tasks.map_or(200, |tasks| tasks.parse().expect("a number of tasks")),
            freeze: Duration::from_secs(30),
            freezes: |_| true,
        };
    }
    Extent {
        tasks: 3,
        freeze: Duration::from_secs(2),
        freezes: |point| {
            matches!(
                point,
                Point::AssignAfterCommit
                    | Point::ReportAfterCommit
                    | Point::AgentAfterIntent
                    | Point::AgentAfterReport
            )
        },
    }
}

/// A fleet on an engine of its own, and what was found so far.
struct Stand {
    // In this order they end.
    fleet: Fleet,
    engine: PrivateEngine,
    tag: Tag,
    tasks: usize,
    history: History,
    slowest: Duration,
    jobs: usize,
}

impl Stand {
    fn new(tasks: usize) -> Self {
        let engine = PrivateEngine::start(true);
        let tag = Tag::serve();
        let flags = ["--heartbeat", "1s", "--registry-poll", "1s"];
        let environment = [
            ("DOCKER_HOST", engine.host()),
            ("MUSTER_FAILPOINT_HURRY", "1".to_owned()),
        ];
        let environment = environment
            .each_ref()
            .map(|(name, value)| (*name, value.as_str()));
        let fleet = Fleet::start_in(1, &flags, &environment);
        let channel = tag.reference();
        fleet.ok(&["channel", "set", "followed", &channel]);
        Self {
            fleet,
            engine,
            tag,
            tasks,
            history: History::default(),
            slowest: Duration::ZERO,
            jobs: 0,
        }
    }

    /// Starts the daemon anew so that the fault happens there.
    fn arm(&mut self, point: Point, fault: Fault) {
        let value = format!("{}={}", point.name(), fault.word());
        let environment = [("MUSTER_FAILPOINT", value.as_str())];
        match point.daemon() {
            Side::Agent => {
                self.fleet.agent("a1").kill();
                if point == Point::AgentTermStored {
                    // It knows the present one.
                    self.fleet.coordinator().kill();
                    self.fleet.start_coordinator();
                }
                self.fleet.start_agent_in("a1", &environment);
            }
            Side::Coordinator => {
                self.fleet.agent("a1").kill();
                self.fleet.coordinator().kill();
                self.fleet.launch_coordinator(&environment);
                // These it doesn't survive to serve.
                if !matches!(point, Point::TermRaised | Point::FleetRestored) {
                    self.fleet.wait_for_coordinator();
                }
                // Anew, because the old one would wait longer after each of the coordinator's ends.
                self.fleet.start_agent("a1");
            }
        }
    }

    /// Waits for the fault, and makes up for it.
    fn recover(&mut self, point: Point, fault: Fault) {
        let daemon = match point.daemon() {
            Side::Agent => self.fleet.agent("a1"),
            Side::Coordinator => self.fleet.coordinator(),
        };
        match fault {
            Fault::Kill => {
                let signal = daemon.wait_for_signal();
                assert_eq!(
                    signal,
                    Some(SIGKILL),
                    "{}: it ended by itself",
                    point.name()
                );
                match point.daemon() {
                    Side::Agent => self.fleet.start_agent("a1"),
                    Side::Coordinator => self.fleet.start_coordinator(),
                }
            }
            Fault::Stop(pause) => {
                let what = format!("{} being reached", point.name());
                eventually(&what, || daemon.is_frozen().then_some(()));
                std::thread::park_timeout(pause);
                daemon.thaw();
            }
        }
    }

    /// Submits until it is taken: with the same key that may be done again and again.
    fn submit(&mut self, script: &str) -> Submission {
        self.jobs += 1;
        let key = format!("job-{}", self.jobs);
        let array = self.tasks.to_string();
        let flags = ["run", "-d", "--pull", "never", "--network", "none"];
        let more = ["--key", &key, "--array", &array, IMAGE, "sh", "-c"];
        let script = format!("{SAY}{script}");
        let arguments = [&flags[..], &more, &[&script]].concat();
        let arguments = arguments.into_iter().map(str::to_owned).collect();
        Submission { arguments }
    }

    /// One place, one fault, one job.
    fn visit(&mut self, point: Point, fault: Fault) {
        let reached = Instant::now();
        self.arm(point, fault);
        let restarted = match point {
            Point::CancelBeforeCommit | Point::CancelAfterCommit => self.cancel(point, fault),
            Point::ReleaseResolved | Point::ReleaseBeforeCommit | Point::ReleaseStored => {
                self.release(point, fault)
            }
            Point::GcRemoved => self.sweep(point, fault),
            _ => self.run(point, fault),
        };
        let took = restarted.elapsed();
        println!(
            "{} {}: {:.1} s, recovered in {:.1} s",
            point.name(),
            fault.word(),
            reached.elapsed().as_secs_f64(),
            took.as_secs_f64()
        );
        let work = TASK * u32::try_from(self.tasks).expect("a small number");
        if took > RECOVERY + work {
            let text = format!("{} {}: recovery took {took:?}", point.name(), fault.word());
            self.history.violations.push(text);
        }
        self.slowest = self.slowest.max(took);
    }

    fn run(&mut self, point: Point, fault: Fault) -> Instant {
        let script = "say start; echo one line; sleep 0.$MUSTER_TASK_INDEX; say end";
        let submission = self.submit(script);
        let first = submission.spawn(&self.fleet);
        self.recover(point, fault);
        let restarted = Instant::now();
        first.forget();
        let job = submission.insist(&self.fleet);
        self.fleet.ok(&["wait", &job]);
        self.check(&job);
        restarted
    }

    fn check(&mut self, job: &str) {
        let ledger = self.engine.ledger();
        self.history
            .add(&self.fleet, ledger, job, Expected::NoRerun);
        let succeeded = &self.fleet.json(&["job", "get", job])["counts"]["succeeded"];
        assert_eq!(*succeeded, self.tasks, "every task was harmless");
        for index in 0..self.tasks.min(3) {
            let log = self.fleet.ok(&["logs", &format!("{job}.{index}")]);
            if log != "one line" {
                let text = format!("{job}.{index} said {log:?}");
                self.history.violations.push(text);
            }
        }
    }

    /// A wish to stop, given until it is taken.
    fn cancel(&mut self, point: Point, fault: Fault) -> Instant {
        let submission = self.submit("say start; sleep 600; say end");
        let job = submission.insist(&self.fleet);
        let running = u64::try_from(self.tasks.min(4)).expect("a small number");
        self.fleet.wait_for_running(&job, running);
        let arguments = ["cancel", &job, "--now"].map(str::to_owned).to_vec();
        let wish = Submission { arguments };
        let first = wish.spawn(&self.fleet);
        self.recover(point, fault);
        let restarted = Instant::now();
        first.forget();
        eventually("the job being canceled", || {
            // It is too late for a second wish if the first was heard.
            self.fleet.muster(&wish.words());
            (self.fleet.json(&["job", "get", &job])["outcome"] == "canceled").then_some(())
        });
        let ledger = self.engine.ledger();
        if self.tasks <= 4 {
            self.history
                .add(&self.fleet, ledger, &job, Expected::NoRerun);
        }
        restarted
    }

    /// The tag moves, and it becomes one release.
    fn release(&mut self, point: Point, fault: Fault) -> Instant {
        let digest = self.tag.moves();
        self.recover(point, fault);
        let restarted = Instant::now();
        let releases = eventually("the release", || {
            let releases = self.fleet.json(&["rollout", "history", "followed"]);
            let all = releases["releases"].as_array()?.clone();
            all.iter()
                .any(|one| one["digest"] == *digest)
                .then_some(all)
        });
        let same = releases.iter().filter(|one| one["digest"] == *digest);
        if same.count() != 1 {
            let text = format!("{digest} is not one release: {releases:?}");
            self.history.violations.push(text);
        }
        restarted
    }

    /// A container of ours that no journal knows.
    fn sweep(&mut self, point: Point, fault: Fault) -> Instant {
        let cluster = self.fleet.cluster();
        let task = "01j00000000000000000000000.0";
        let name = format!("mu-{}-{task}-1", &cluster[..8]);
        let labels = [
            format!("muster.cluster={cluster}"),
            "muster.agent=a1".to_owned(),
            format!("muster.task={task}"),
            "muster.attempt=1".to_owned(),
        ];
        let mut create = vec!["create", "--network", "none", "--name", &name];
        for label in &labels {
            create.extend(["--label", label]);
        }
        create.push(IMAGE);
        self.fleet.docker(&create);
        self.recover(point, fault);
        Instant::now()
    }
}

/// A client command that the fault may hit, and that may be given again.
struct Submission {
    arguments: Vec<String>,
}

/// One try whose end nobody relies on.
struct Try(std::process::Child);

impl Try {
    /// It has either got its answer or never will.
    fn forget(mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Submission {
    fn words(&self) -> Vec<&str> {
        self.arguments.iter().map(String::as_str).collect()
    }

    fn spawn(&self, fleet: &Fleet) -> Try {
        let mut command = fleet.command(&self.words());
        let null = std::process::Stdio::null;
        command.stdout(null()).stderr(null());
        Try(command.spawn().expect("muster can be run"))
    }

    /// What it prints once it succeeds.
    fn insist(&self, fleet: &Fleet) -> String {
        let output = eventually("the request being taken", || {
            let output = fleet.muster(&self.words());
            output.status.success().then_some(output)
        });
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }
}

fn visit_all(side: Side, what: &str) {
    if !enabled() {
        return;
    }
    let extent = extent();
    let mut stand = Stand::new(extent.tasks);
    let points: Vec<Point> = Point::ALL
        .iter()
        .copied()
        .filter(|point| point.daemon() == side)
        .collect();
    for point in points {
        stand.visit(point, Fault::Kill);
        if (extent.freezes)(point) {
            stand.visit(point, Fault::Stop(extent.freeze));
        }
    }
    stand.fleet.wait_for_no_containers();
    stand.fleet.wait_for_no_attempts("a1");
    stand.history.judge(what);
    println!(
        "{what}: slowest recovery {:.1} s",
        stand.slowest.as_secs_f64()
    );
}

#[test]
fn the_coordinator_may_die_or_freeze_anywhere() {
    visit_all(Side::Coordinator, "places of the coordinator");
}

#[test]
fn the_agent_may_die_or_freeze_anywhere() {
    visit_all(Side::Agent, "places of the agent");
}
