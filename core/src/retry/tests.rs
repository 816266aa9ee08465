use std::ops::RangeInclusive;

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::ids::JobId;

const NO_JITTER: Backoff = Backoff {
    kind: BackoffKind::Exponential,
    initial: Millis(10_000),
    cap: Millis(360_000),
    jitter: false,
};

fn task() -> TaskId {
    TaskId {
        job: JobId(Uuid::from_u128(7)),
        index: 3,
    }
}

fn decided(end: &End, delivery: Delivery, spent: Spent) -> Decision {
    let policy = RetryPolicy {
        user: 2,
        infra: 1,
        backoff: NO_JITTER,
        rules: Vec::new(),
    };
    decide(task(), end, &policy, delivery, spent)
}

#[test]
fn the_first_rule_that_matches_decides() {
    use Outcome::{Canceled, Failed, ImageError, InfraError, Lost, Oom, Succeeded};
    let rule = |outcomes: &[Outcome], exit_codes: &[RangeInclusive<u8>], action| RetryRule {
        outcomes: outcomes.iter().copied().collect(),
        exit_codes: exit_codes.to_vec(),
        action,
    };
    let policy = RetryPolicy {
        user: 2,
        infra: 2,
        backoff: NO_JITTER,
        rules: vec![
            rule(&[], &[70..=70], RetryAction::Retry),
            rule(&[Failed], &[2..=2, 64..=78], RetryAction::Fail),
            rule(&[Oom, InfraError], &[], RetryAction::Fail),
            rule(&[ImageError, Lost], &[], RetryAction::Retry),
        ],
    };
    let failed = |code| End {
        exit_code: Some(code),
        ..End::of(Failed, EndReason::Exited)
    };
    for (end, budget) in [
        (failed(1), Some(Budget::User)),
        (failed(2), None),
        (failed(64), None),
        (failed(70), Some(Budget::User)),
        (failed(78), None),
        (failed(79), Some(Budget::User)),
        (End::of(Oom, EndReason::MemoryLimit), None),
        (End::of(InfraError, EndReason::Interrupted), None),
        (End::of(InfraError, EndReason::Refused), Some(Budget::Free)),
        (
            End::of(ImageError, EndReason::NoSuchImage),
            Some(Budget::Infra),
        ),
        (End::of(Lost, EndReason::AgentLost), Some(Budget::Infra)),
        (End::of(Succeeded, EndReason::Exited), None),
        (End::of(Canceled, EndReason::CanceledByUser), None),
    ] {
        let spent = Spent::default();
        let paid = match decide(task(), &end, &policy, Delivery::AtLeastOnce, spent) {
            Decision::Retry { budget, .. } => Some(budget),
            Decision::Final | Decision::Quarantine => None,
        };
        assert_eq!(paid, budget, "{end}");
    }
    let lost = End::of(Lost, EndReason::AgentLost);
    let once = decide(
        task(),
        &lost,
        &policy,
        Delivery::AtMostOnce,
        Spent::default(),
    );
    assert_eq!(once, Decision::Final, "no rule makes an unknown end safe");
}

#[test]
fn each_end_is_paid_from_its_own_budget() {
    use Outcome::{
        Canceled, Failed, ImageError, InfraError, Lost, Oom, Preempted, Succeeded, Timeout,
    };
    for (outcome, reason, budget) in [
        (Succeeded, EndReason::Exited, None),
        (Failed, EndReason::Exited, Some(Budget::User)),
        (Oom, EndReason::MemoryLimit, Some(Budget::User)),
        (Timeout, EndReason::RunTimeout, Some(Budget::User)),
        (Timeout, EndReason::QueueTimeout, None),
        (Canceled, EndReason::CanceledByUser, None),
        (Lost, EndReason::AgentLost, Some(Budget::Infra)),
        (Preempted, EndReason::Drained, Some(Budget::Free)),
        (ImageError, EndReason::NoSuchEntrypoint, None),
        (ImageError, EndReason::PullFailed, Some(Budget::Infra)),
        (InfraError, EndReason::Interrupted, Some(Budget::Infra)),
        (InfraError, EndReason::Refused, Some(Budget::Free)),
    ] {
        let end = End::of(outcome, reason);
        match decided(&end, Delivery::AtLeastOnce, Spent::default()) {
            Decision::Quarantine => panic!("{end}: nothing died before"),
            Decision::Final => assert_eq!(budget, None, "{end}"),
            Decision::Retry { budget: paid, .. } => assert_eq!(budget, Some(paid), "{end}"),
        }
    }
}

#[test]
fn an_empty_budget_is_final_and_does_not_touch_the_other() {
    let failed = End::of(Outcome::Failed, EndReason::Exited);
    let lost = End::of(Outcome::Lost, EndReason::AgentLost);
    let spent = Spent {
        memory: 0,
        user: 2,
        infra: 0,
        free: 9,
        deaths: 0,
    };
    assert_eq!(
        decided(&failed, Delivery::AtLeastOnce, spent),
        Decision::Final
    );
    assert_ne!(
        decided(&lost, Delivery::AtLeastOnce, spent),
        Decision::Final
    );
}

#[test]
fn at_most_once_is_not_run_again_after_an_unknown_end() {
    let spent = Spent::default();
    for reason in [
        EndReason::AgentLost,
        EndReason::EngineLost,
        EndReason::HostRebooted,
    ] {
        let lost = End::of(Outcome::Lost, reason);
        assert_eq!(decided(&lost, Delivery::AtMostOnce, spent), Decision::Final);
    }
    let interrupted = End::of(Outcome::InfraError, EndReason::Interrupted);
    assert_eq!(
        decided(&interrupted, Delivery::AtMostOnce, spent),
        Decision::Final
    );
    let never = End::of(Outcome::InfraError, EndReason::NeverStarted);
    assert_ne!(
        decided(&never, Delivery::AtMostOnce, spent),
        Decision::Final
    );
}

#[test]
fn the_third_death_quarantines_whatever_is_left_of_the_budget() {
    let died = |deaths, infra| Spent {
        infra,
        deaths,
        ..Spent::default()
    };
    for reason in [
        EndReason::EngineLost,
        EndReason::HostRebooted,
        EndReason::AgentLost,
        EndReason::ContainerGone,
    ] {
        let lost = End::of(Outcome::Lost, reason);
        for infra in [0, 1, 2] {
            let decision = decided(&lost, Delivery::AtLeastOnce, died(3, infra));
            assert_eq!(decision, Decision::Quarantine, "{lost}");
        }
        assert_eq!(
            decided(&lost, Delivery::AtLeastOnce, died(2, 1)),
            Decision::Final
        );
        assert_eq!(
            decided(&lost, Delivery::AtMostOnce, died(3, 0)),
            Decision::Final
        );
    }
    let never = End::of(Outcome::InfraError, EndReason::NeverStarted);
    assert!(!is_death(&never));
    assert_eq!(
        decided(&never, Delivery::AtLeastOnce, died(3, 1)),
        Decision::Final
    );
}

#[test]
fn exponential_delays_double_up_to_the_cap() {
    let delays: Vec<u64> = (0..8)
        .map(|used| delay(&NO_JITTER, used, 0).0 / 1000)
        .collect();
    assert_eq!(delays, [10, 20, 40, 80, 160, 320, 360, 360]);
    let fixed = Backoff {
        kind: BackoffKind::Fixed,
        ..NO_JITTER
    };
    assert_eq!(delay(&fixed, 5, 0), Millis(10_000));
    assert_eq!(delay(&NO_JITTER, 200, 0), Millis(360_000));
}

proptest! {
    #[test]
    fn jitter_is_between_zero_and_the_full_delay(used in 0u32..80, chance: u16) {
        let jittered = Backoff { jitter: true, ..NO_JITTER };
        prop_assert!(delay(&jittered, used, chance) <= delay(&NO_JITTER, used, 0));
    }

    #[test]
    fn tasks_of_one_job_do_not_retry_in_step(index in 0u32..1000) {
        let other = TaskId { index: index + 1, ..task() };
        let this = TaskId { index, ..task() };
        prop_assert_ne!(chance(this, Spent::default()), chance(other, Spent::default()));
    }
}
