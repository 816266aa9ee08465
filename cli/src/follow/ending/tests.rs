use super::*;

fn at(seconds: i64) -> Option<prost_types::Timestamp> {
    Some(prost_types::Timestamp { seconds, nanos: 0 })
}

fn ending(outcome: v1::Outcome, exit_code: Option<i32>, reason: &str) -> Ending {
    let task = v1::Task {
        end: Some(v1::End {
            outcome: outcome.into(),
            exit_code,
            reason: reason.to_owned(),
            message: String::new(),
        }),
        ended: at(103),
        ..v1::Task::default()
    };
    Ending::of_task(&task, at(100))
}

#[test]
fn the_last_line_says_what_the_exit_code_means() {
    let usage = v1::Usage {
        pull: Some(prost_types::Duration {
            seconds: 1,
            nanos: 400_000_000,
        }),
        start: Some(prost_types::Duration {
            seconds: 0,
            nanos: 200_000_000,
        }),
        ..v1::Usage::default()
    };
    let line = |ending: &Ending| ending.text("7f3kq2mp", None);
    let good = ending(v1::Outcome::Succeeded, Some(0), "exited");
    assert_eq!(
        good.text("7f3kq2mp", Some(&usage)),
        "7f3kq2mp succeeded in 3.0 s (pull 1.4 s, start 200 ms)"
    );
    let failed = ending(v1::Outcome::Failed, Some(2), "exited");
    assert_eq!(
        line(&failed),
        "7f3kq2mp failed(2) in 3.0 s    see: muster why 7f3kq2mp"
    );
    let oom = ending(v1::Outcome::Oom, Some(137), "memory_limit");
    assert_eq!(
        line(&oom),
        "7f3kq2mp oom (memory_limit) in 3.0 s    see: muster why 7f3kq2mp"
    );
}

#[test]
fn codes_are_those_of_docker_or_of_the_class() {
    use v1::Outcome as O;
    let cases = [
        (O::Succeeded, Some(0), "exited", 0, 0),
        (O::Succeeded, Some(3), "exited", 3, 0),
        (O::Failed, Some(2), "exited", 2, 10),
        (O::Failed, Some(143), "signaled", 143, 10),
        (O::Failed, None, "other", 1, 10),
        (O::Oom, Some(137), "memory_limit", 137, 10),
        (O::Timeout, Some(137), "run_timeout", 124, 10),
        (O::Canceled, Some(143), "canceled_by_user", 143, 12),
        (O::Lost, None, "agent_lost", 125, 11),
        (O::Preempted, None, "drained", 125, 11),
        (O::ImageError, None, "no_such_entrypoint", 127, 11),
        (O::ImageError, Some(126), "rejected", 126, 11),
        (O::ImageError, None, "pull_failed", 125, 11),
        (O::InfraError, Some(137), "killed_externally", 125, 11),
        (O::Unspecified, None, "", 125, 11),
    ];
    for (outcome, code, reason, docker, class) in cases {
        let ending = ending(outcome, code, reason);
        assert_eq!(ending.docker_exit(), Exit(docker), "{outcome:?} {code:?}");
        assert_eq!(ending.class_exit(), Exit(class), "{outcome:?} {code:?}");
    }
}
