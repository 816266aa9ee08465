//! Tasks in real containers that are canceled at any moment: none starts afterwards, and nothing is left.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use muster_tests::engine::PrivateEngine;
use muster_tests::fleet::{Fleet, enabled};
use muster_tests::ledger::{Entry, Moment, SAY};
use muster_tests::processes::eventually;
use muster_tests::random::Rng;

const GRACE: Duration = Duration::from_secs(2);
/// After the grace.
const SLACK: Duration = Duration::from_secs(5);
/// Canceled at a time; more than the agent's four places.
const AT_ONCE: usize = 6;
/// Obey TERM, ignore it, make a success of it.
const SCRIPTS: [&str; 3] = [
    "say start; sleep 600",
    "trap '' TERM; say start; while :; do sleep 0.1; done",
    "trap 'exit 0' TERM; say start; while :; do sleep 0.1; done",
];

/// So many cancels.
fn count() -> usize {
    if crate::crash_points::long() {
        1_000
    } else {
        40
    }
}

/// What came of one.
struct Canceled {
    job: String,
    outcome: String,
    /// From the answer to the cancel until the job's end was seen.
    took: Duration,
    /// Seconds since the host's start when the end was seen.
    seen: f64,
}

fn uptime() -> f64 {
    let text = std::fs::read_to_string("/proc/uptime").expect("the kernel tells its uptime");
    let first = text.split(' ').next().and_then(|word| word.parse().ok());
    first.expect("it begins with a number")
}

fn cancel(fleet: &Fleet, script: &str, delay: Duration) -> Canceled {
    let grace = format!("{}s", GRACE.as_secs());
    let script = format!("{SAY}{script}");
    let job = fleet.submit(&["--kill-grace", &grace], &["sh", "-c", &script]);
    std::thread::park_timeout(delay);
    fleet.ok(&["cancel", &job, "-y"]);
    let began = Instant::now();
    let outcome = eventually("the job's end", || {
        let outcome = &fleet.json(&["job", "get", &job])["outcome"];
        outcome.as_str().map(str::to_owned)
    });
    Canceled {
        took: began.elapsed(),
        seen: uptime(),
        job,
        outcome,
    }
}

/// Cancels them all, some at a time.
fn cancel_all(fleet: &Fleet) -> Vec<Canceled> {
    let mut random = Rng::new(1, "cancel");
    let plan = (0..count()).map(|_| {
        let script = SCRIPTS[random.index(SCRIPTS.len())];
        (script, Duration::from_millis(random.below(2_000)))
    });
    let plan = Mutex::new(plan.collect::<Vec<_>>());
    let done = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let next = plan.lock().expect("no holder panics").pop();
                    let Some((script, delay)) = next else { return };
                    let canceled = cancel(fleet, script, delay);
                    done.lock().expect("no holder panics").push(canceled);
                }
            });
        }
    });
    done.into_inner().expect("no holder panics")
}

#[test]
fn canceled_tasks_start_no_more_and_leave_nothing() {
    if !enabled() {
        return;
    }
    let engine = PrivateEngine::start(false);
    let fleet = Fleet::start_in(1, &[], &[("DOCKER_HOST", &engine.host())]);
    let began = Instant::now();
    let canceled = cancel_all(&fleet);
    fleet.wait_for_no_containers();

    let mut ran = 0;
    let mut outcomes = BTreeMap::<&str, u32>::new();
    for one in &canceled {
        *outcomes.entry(&one.outcome).or_default() += 1;
        assert!(one.took <= GRACE + SLACK, "{}: {:?}", one.job, one.took);
        let entries = engine.ledger().of_job(&one.job);
        let starts = |entry: &&Entry| entry.moment == Moment::Start;
        let starts: Vec<&Entry> = entries.iter().filter(starts).collect();
        assert!(starts.len() <= 1, "{entries:?}");
        ran += starts.len();
        for entry in starts {
            assert!(entry.at <= one.seen, "after {}: {entry:?}", one.seen);
        }
    }
    let longest = canceled.iter().map(|one| one.took).max();
    println!(
        "{} cancels in {:.0} s: {ran} tasks had begun, {outcomes:?}, the longest took {longest:?}",
        canceled.len(),
        began.elapsed().as_secs_f64()
    );
    assert_eq!(outcomes.keys().collect::<Vec<_>>(), [&"canceled"]);
    assert!((1..canceled.len()).contains(&ran), "all were met alike");
}
