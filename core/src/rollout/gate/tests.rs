use super::*;

fn name(text: &str) -> JobName {
    JobName::parse(text).unwrap()
}

fn ran(good: bool, seconds: u64, mebibytes: u64) -> Ran {
    Ran {
        good,
        run: Millis::from_secs(seconds),
        peak_memory: Some(mebibytes << 20),
    }
}

fn past(attempts: u32, failed: u32) -> Past {
    Past {
        attempts,
        failed,
        run: Some(Millis::from_secs(40)),
        peak_memory: Some(800 << 20),
    }
}

fn tally(past: Past, runs: impl IntoIterator<Item = Ran>) -> Tally {
    let mut tally = Tally::default();
    tally.expect(&name("load"), || past);
    for ran in runs {
        tally.add(&name("load"), ran);
    }
    tally
}

fn broken(tally: &Tally) -> Vec<Gate> {
    let readings = read(tally, &Gates::default(), &BTreeMap::new());
    let broken = readings.into_iter().filter(|reading| reading.broken);
    broken.map(|reading| reading.gate).collect()
}

fn runs(good: usize, bad: usize) -> Vec<Ran> {
    let good = std::iter::repeat_n(ran(true, 40, 800), good);
    good.chain(std::iter::repeat_n(ran(false, 1, 10), bad))
        .collect()
}

#[test]
fn failures_are_held_against_those_of_before() {
    for (before, good, bad, is_broken) in [
        (past(50, 0), 0, 2, false),   // fewer than three prove nothing
        (past(50, 0), 0, 3, true),    // all fail
        (past(50, 0), 97, 3, false),  // 3 %, and 5 points are allowed
        (past(50, 0), 30, 3, true),   // 9 %
        (past(50, 10), 30, 8, false), // 21 % where 20 % were before
        (past(50, 10), 20, 10, true), // 33 %
        (past(50, 50), 0, 30, false), // it always failed: nothing can be learned of it
        (past(0, 0), 0, 3, true),     // nothing is known: failures are failures
    ] {
        let tally = tally(before, runs(good, bad));
        let found = broken(&tally).contains(&Gate::Failures);
        assert_eq!(found, is_broken, "{before:?} {good} {bad}");
    }
}

#[test]
fn each_name_counts_with_its_own_past() {
    let mut tally = tally(past(50, 0), runs(10, 0));
    tally.expect(&name("flaky"), || past(50, 25));
    for ran in runs(5, 5) {
        tally.add(&name("flaky"), ran);
    }
    assert_eq!(broken(&tally), [], "5 of 20 failed, as they used to");
}

#[test]
fn slower_and_larger_attempts_break_their_gates() {
    let slow = tally(past(50, 0), std::iter::repeat_n(ran(true, 90, 800), 5));
    assert_eq!(broken(&slow), [Gate::Duration]);
    let large = tally(past(50, 0), std::iter::repeat_n(ran(true, 40, 1300), 5));
    assert_eq!(broken(&large), [Gate::Memory]);
    let few = tally(past(50, 0), std::iter::repeat_n(ran(true, 90, 1300), 4));
    assert_eq!(broken(&few), [], "four runs have no 95th percentile");
}

#[test]
fn small_differences_of_small_tasks_are_noise() {
    let tiny = Past {
        run: Some(Millis(200)),
        peak_memory: Some(4 << 20),
        ..past(50, 0)
    };
    let tally = tally(tiny, std::iter::repeat_n(ran(true, 4, 18), 5));
    assert_eq!(broken(&tally), []);
}

#[test]
fn attempts_that_hang_count_as_failed() {
    let tally = tally(past(50, 0), runs(2, 0));
    let late = BTreeMap::from([(name("load"), 3)]);
    let readings = read(&tally, &Gates::default(), &late);
    assert!(readings[0].broken, "{readings:?}");
    let limit = tally.run_limit(&name("load"), &Gates::default());
    assert_eq!(limit, Some(Millis::from_secs(80)));
}

#[test]
fn the_past_is_the_last_fifty_attempts() {
    let mut memory = Memory::default();
    for ran in runs(0, 10).into_iter().chain(runs(50, 0)) {
        memory.add(ran);
    }
    let past = memory.past();
    assert_eq!((past.attempts, past.failed), (50, 0));
    assert_eq!(past.run, Some(Millis::from_secs(40)));
}

#[test]
fn only_what_the_image_did_is_judged() {
    use Judgement::{Bad, Good, Nothing};
    for (outcome, reason, expected) in [
        (Outcome::Succeeded, EndReason::Exited, Good),
        (Outcome::Failed, EndReason::Exited, Bad),
        (Outcome::Oom, EndReason::MemoryLimit, Bad),
        (Outcome::Timeout, EndReason::RunTimeout, Bad),
        (Outcome::Timeout, EndReason::QueueTimeout, Nothing),
        (Outcome::ImageError, EndReason::NoSuchEntrypoint, Bad),
        (Outcome::ImageError, EndReason::PullFailed, Nothing),
        (Outcome::Lost, EndReason::AgentLost, Nothing),
        (Outcome::InfraError, EndReason::Interrupted, Nothing),
        (Outcome::Preempted, EndReason::Drained, Nothing),
        (Outcome::Canceled, EndReason::CanceledByUser, Nothing),
    ] {
        assert_eq!(
            judge(&End::of(outcome, reason)),
            expected,
            "{outcome} {reason:?}"
        );
    }
}
