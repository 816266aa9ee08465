use muster_core::time::Millis;
use muster_proto::v1 as pb;

use super::*;

fn minimal() -> pb::JobSpec {
    pb::JobSpec {
        image: "registry.example/acme/etl:main".into(),
        ..Default::default()
    }
}

fn problems(wire: &pb::JobSpec) -> Vec<String> {
    let found = spec_from_wire(wire).unwrap_err();
    found
        .into_iter()
        .map(|Violation { field, problem }| format!("{field}: {problem}"))
        .collect()
}

#[test]
fn what_is_left_out_gets_its_default_and_is_shown() {
    let spec = spec_from_wire(&minimal()).unwrap();
    let shown = spec_to_wire(&spec);
    assert_eq!(shown.name, "etl");
    assert_eq!(shown.pool, "default");
    assert_eq!(shown.retry.as_ref().unwrap().infra, Some(3));
    assert_eq!(shown.resources.as_ref().unwrap().memory_bytes, 512 << 20);
    assert_eq!(shown.run_timeout.unwrap().seconds, 86_400);
}

#[test]
fn a_shown_spec_reads_back_as_the_same_spec() {
    let wire = pb::JobSpec {
        image: "analytics".into(),
        pin: pb::Pin::Run.into(),
        entrypoint: Some(pb::Argv {
            args: vec!["python3".into()],
        }),
        command: vec!["x.py".into(), "--day=1".into(), String::new()],
        env: [("A".to_owned(), "1".to_owned())].into(),
        require: [("disk".to_owned(), "ssd".to_owned())].into(),
        agent: "etl-1".into(),
        user: "1000:1000".into(),
        workdir: "/app".into(),
        queue_timeout: Some(prost_types::Duration {
            seconds: 5,
            nanos: 500_000_000,
        }),
        kill_grace: Some(prost_types::Duration::default()),
        success_codes: vec![3, 1, 3],
        concurrency: vec![pb::ConcurrencyKey {
            key: "db".into(),
            limit: 2,
        }],
        delivery: pb::Delivery::AtMostOnce.into(),
        network: pb::Network::None.into(),
        ..Default::default()
    };
    let spec = spec_from_wire(&wire).unwrap();
    assert_eq!(spec_from_wire(&spec_to_wire(&spec)).unwrap(), spec);
    assert_eq!(spec.success_codes, [1, 3]);
    assert_eq!(spec.queue_timeout, Some(Millis(5_500)));
}

#[test]
fn everything_that_is_wrong_is_named_at_once() {
    let wire = pb::JobSpec {
        name: "Load Users".into(),
        image: "Etl:1".into(),
        env: [("MUSTER_FENCE".to_owned(), "9".to_owned())].into(),
        entrypoint: Some(pb::Argv::default()),
        resources: Some(pb::Resources {
            memory_bytes: 5,
            ..Default::default()
        }),
        priority: 5_000,
        success_codes: vec![256],
        ..Default::default()
    };
    let said = problems(&wire);
    for part in [
        r#"name: "Load Users" has 'L'"#,
        "image: repository",
        "MUSTER_",
        "entrypoint.args: is empty",
        "resources.memory_bytes: 5 is not between",
        "priority: 5000",
        "success_codes: 256",
    ] {
        assert!(
            said.iter().any(|line| line.contains(part)),
            "{part} not in {said:#?}"
        );
    }
}

#[test]
fn a_key_that_stands_twice_is_refused() {
    let key = pb::ConcurrencyKey {
        key: "db".into(),
        limit: 2,
    };
    let wire = pb::JobSpec {
        concurrency: vec![key.clone(), key],
        ..minimal()
    };
    assert_eq!(
        problems(&wire),
        [r#"concurrency[1].key: "db" stands there twice"#]
    );
}

#[test]
fn a_pin_on_a_digest_wants_an_image_by_digest() {
    let digest = "1".repeat(64);
    let pinned = |image: &str| pb::JobSpec {
        image: image.to_owned(),
        pin: pb::Pin::Digest.into(),
        ..minimal()
    };
    for (image, good) in [
        (format!("registry.example/etl@sha256:{digest}"), true),
        ("registry.example/etl:1".to_owned(), false),
        ("analytics".to_owned(), false),
        ("registry.example/etl@sha256:12".to_owned(), false),
    ] {
        assert_eq!(spec_from_wire(&pinned(&image)).is_ok(), good, "{image}");
    }
    let expected = r#"image: "etl:1" names no digest, and the pin is PIN_DIGEST; give repository@sha256:..., or another pin"#;
    assert_eq!(problems(&pinned("etl:1")), [expected]);
}

#[test]
fn an_unknown_enum_value_is_refused_and_not_taken_for_the_default() {
    for wire in [
        pb::JobSpec {
            pin: 77,
            ..minimal()
        },
        pb::JobSpec {
            pull: 77,
            ..minimal()
        },
        pb::JobSpec {
            delivery: 77,
            ..minimal()
        },
        pb::JobSpec {
            network: 77,
            ..minimal()
        },
    ] {
        assert!(problems(&wire)[0].contains("77"), "{wire:?}");
    }
}

#[test]
fn a_retry_rule_that_can_t_be_used_is_named() {
    let fail = pb::retry_rule::Action::Fail.into();
    let rule = |outcomes: &[pb::Outcome], codes: &[(u32, Option<u32>)], action| pb::RetryRule {
        outcomes: outcomes.iter().map(|outcome| (*outcome).into()).collect(),
        exit_codes: codes
            .iter()
            .map(|&(first, last)| pb::ExitCodes { first, last })
            .collect(),
        action,
        grow: None,
    };
    let retry = pb::retry_rule::Action::Retry.into();
    let grow = |action, percent, max_bytes| pb::RetryRule {
        grow: Some(pb::MemoryGrowth { percent, max_bytes }),
        ..rule(&[pb::Outcome::Oom], &[], action)
    };
    let wire = pb::JobSpec {
        retry: Some(pb::RetryPolicy {
            rules: vec![
                rule(&[pb::Outcome::Oom], &[], fail),
                rule(
                    &[],
                    &[(7, None), (9, Some(8)), (0, None), (1, Some(256))],
                    fail,
                ),
                rule(&[pb::Outcome::Canceled], &[], fail),
                rule(&[], &[], fail),
                rule(&[pb::Outcome::Lost], &[], 0),
                grow(fail, 150, 64 << 30),
                grow(retry, 100, 64 << 30),
                grow(retry, 150, 1),
                grow(retry, 150, u64::MAX),
            ],
            ..Default::default()
        }),
        ..minimal()
    };
    assert_eq!(
        problems(&wire),
        [
            "retry.rules[1].exit_codes: 9-8 is no range within 1-255",
            "retry.rules[1].exit_codes: 0-0 is no range within 1-255",
            "retry.rules[1].exit_codes: 1-256 is no range within 1-255",
            "retry.rules[2].outcomes: 5 is no outcome after which there could be another attempt",
            "retry.rules[3]: it names neither outcomes nor exit codes",
            "retry.rules[4].action: 0 is neither fail nor retry",
            "retry.rules[5].grow: an end that fails the task has no next attempt",
            "retry.rules[6].grow.percent: 100 is not within 101-1000",
            "retry.rules[7].grow.max_bytes: 1 is not within 536870913-70368744177664",
            "retry.rules[8].grow.max_bytes: 18446744073709551615 is not within 536870913-70368744177664",
        ]
    );
}

#[test]
fn bounds_of_time_are_kept() {
    let span = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
    for wire in [
        pb::JobSpec {
            run_timeout: span(0),
            ..minimal()
        },
        pb::JobSpec {
            run_timeout: span(-5),
            ..minimal()
        },
        pb::JobSpec {
            run_timeout: span(90 * 86_400),
            ..minimal()
        },
        pb::JobSpec {
            kill_grace: span(7_200),
            ..minimal()
        },
    ] {
        assert!(problems(&wire)[0].contains("is not between"), "{wire:?}");
    }
}
