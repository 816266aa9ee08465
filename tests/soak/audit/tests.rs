//! The audit finds what it is for.

use super::*;

const JOB: &str = "JOB";

fn task(attempt: u32, outcome: pb::Outcome) -> pb::Task {
    let mut task = pb::Task {
        job: JOB.to_owned(),
        attempt,
        started: Some(prost_types::Timestamp::default()),
        end: Some(pb::End::default()),
        ..Default::default()
    };
    task.set_state(pb::TaskState::Ended);
    task.end.as_mut().unwrap().set_outcome(outcome);
    task
}

/// What is found about one task of a kind, whose containers were started so.
fn found(kind: Kind, task: &pb::Task, starts: &[(u32, u32)]) -> Findings {
    let mut ledger = Ledger::new(1);
    ledger.add_job(JOB, 1);
    for (attempt, count) in starts {
        ledger.note_start(format!("mu-01234567-{JOB}.0-{attempt}"), *count);
    }
    let counts = pb::TaskCounts {
        succeeded: 1,
        ..Default::default()
    };
    let mut audited = Audited {
        id: JOB.to_owned(),
        number: 0,
        kind,
        array: 1,
        counts,
        tasks: Vec::new(),
        dispatch: Vec::new(),
        findings: Findings::default(),
    };
    audited.take(task, &[], 0);
    audited.check_counts();
    let now = pb::Job {
        counts: Some(counts),
        ..Default::default()
    };
    audited.against(&ledger, &now)
}

/// Everything but the attempts, in the order of the fields.
fn bad(findings: &Findings) -> [u64; 7] {
    [
        findings.lost,
        findings.duplicates,
        findings.platform,
        findings.false_success,
        findings.wrong,
        findings.starts_beyond,
        findings.starts_missing,
    ]
}

#[test]
fn a_good_end_is_no_finding_and_each_bad_one_is_its_own() {
    use pb::Outcome::{Failed, InfraError, Succeeded};
    let good = task(1, Succeeded);
    let cases = [
        (
            Kind::Short,
            good.clone(),
            &[(1, 1)][..],
            [0, 0, 0, 0, 0, 0, 0],
        ),
        // The first attempt's start failed; the second ran.
        (
            Kind::Short,
            task(2, Succeeded),
            &[(2, 1)],
            [0, 0, 0, 0, 0, 0, 0],
        ),
        (Kind::Short, good.clone(), &[(1, 2)], [0, 0, 0, 0, 0, 1, 0]),
        (
            Kind::Short,
            good.clone(),
            &[(1, 1), (2, 1)],
            [0, 0, 0, 0, 0, 1, 0],
        ),
        (Kind::Short, good.clone(), &[], [0, 0, 0, 1, 0, 0, 1]),
        (Kind::Fails, good, &[(1, 1)], [0, 0, 0, 1, 0, 0, 0]),
        (
            Kind::Short,
            task(1, Failed),
            &[(1, 1)],
            [0, 0, 0, 0, 1, 0, 0],
        ),
        (
            Kind::Short,
            task(1, InfraError),
            &[(1, 1)],
            [0, 0, 1, 0, 0, 0, 0],
        ),
        // It has failed as it must, and without the retry that it has.
        (
            Kind::Fails,
            task(1, Failed),
            &[(1, 1)],
            [0, 0, 0, 0, 1, 0, 0],
        ),
    ];
    for (kind, task, starts, wanted) in cases {
        let findings = found(kind, &task, starts);
        assert_eq!(bad(&findings), wanted, "{kind:?} {task:?} {starts:?}");
        assert_eq!(findings.examples.is_empty(), wanted == [0; 7]);
    }
}

#[test]
fn a_task_without_an_end_is_lost() {
    let mut open = task(1, pb::Outcome::Unspecified);
    open.set_state(pb::TaskState::Running);
    assert_eq!(
        bad(&found(Kind::Short, &open, &[(1, 1)])),
        [1, 0, 0, 0, 0, 0, 0]
    );
}
