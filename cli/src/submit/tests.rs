use std::collections::BTreeMap;

use clap::Parser;

use super::*;
use crate::args::{Args, Command};

fn flags(args: &[&str]) -> RunArgs {
    let args = Args::try_parse_from(["muster", "run"].iter().chain(args)).unwrap();
    match args.command {
        Command::Run(flags) => *flags,
        other => panic!("not run: {other:?}"),
    }
}

fn submit(args: &[&str]) -> Result<Submission, BadSpec> {
    let variable = |name: &str| (name == "HOME").then(|| "/home/ann".to_owned());
    submission(&flags(args), &variable)
}

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let pairs = pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    pairs.collect()
}

fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

#[test]
fn without_flags_only_the_image_and_the_command_are_said() {
    let submission = submit(&["analytics", "python3", "load.py"]).unwrap();
    let spec = v1::JobSpec {
        image: "analytics".to_owned(),
        command: vec!["python3".to_owned(), "load.py".to_owned()],
        pull: v1::PullPolicy::Missing.into(),
        resources: Some(v1::Resources::default()),
        retry: Some(v1::RetryPolicy::default()),
        ..v1::JobSpec::default()
    };
    let job = v1::NewJob {
        spec: Some(spec),
        array: 0,
        idempotency_key: String::new(),
    };
    assert_eq!(
        submission,
        Submission {
            job,
            notes: Vec::new()
        }
    );
}

fn fail_after(outcomes: &[v1::Outcome], exit_codes: &[(u32, u32)]) -> v1::RetryRule {
    let codes = |&(first, last): &(u32, u32)| v1::ExitCodes {
        first,
        last: Some(last),
    };
    v1::RetryRule {
        outcomes: outcomes.iter().map(|outcome| (*outcome).into()).collect(),
        exit_codes: exit_codes.iter().map(codes).collect(),
        action: v1::retry_rule::Action::Fail.into(),
        grow: None,
    }
}

fn stop_after(span: i64) -> Option<v1::OnDisconnect> {
    Some(v1::OnDisconnect {
        stop_after: seconds(span),
    })
}

#[test]
fn what_a_cut_off_host_does_is_one_of_two_things() {
    let given = |text: &str| submit(&["--on-disconnect", text, "img:1"]);
    let spec = given("finish").unwrap().job.spec.unwrap();
    assert_eq!(spec.on_disconnect, None);
    let spec = given("stop-after=90s").unwrap().job.spec.unwrap();
    assert_eq!(spec.on_disconnect, stop_after(90));
}

#[test]
fn every_flag_has_its_field() {
    let line = "-e A=1 -e HOME -e NOT_SET_HERE -w /work -u 1000:1000 --entrypoint /bin/sh -m 1g --cpus 0.5 --gpus 1 \
                --pids-limit 64 -l team=etl --name load --pull never --network none \
                --array 17 --key k1 --pool etl --require zone=a --on etl-1 --priority -5 \
                --retries user=3,infra=5 --retry-delay 7s --retry-delay-max 1m --backoff fixed --no-jitter --retry-rule oom,2,64-78:fail \
                --delivery at_most_once --timeout 2h --queue-timeout 1d --kill-grace 30s --pin run --on-disconnect stop-after=5m \
                --concurrency db=4 --success-code 3 --writable-root img:1 -c true";
    let submission = submit(&line.split_whitespace().collect::<Vec<_>>()).unwrap();
    let spec = v1::JobSpec {
        name: "load".to_owned(),
        image: "img:1".to_owned(),
        pin: v1::Pin::Run.into(),
        pull: v1::PullPolicy::Never.into(),
        entrypoint: Some(v1::Argv {
            args: vec!["/bin/sh".to_owned()],
        }),
        command: vec!["-c".to_owned(), "true".to_owned()],
        env: map(&[("A", "1"), ("HOME", "/home/ann")]),
        labels: map(&[("team", "etl")]),
        workdir: "/work".to_owned(),
        user: "1000:1000".to_owned(),
        resources: Some(v1::Resources {
            cpu_millis: 500,
            memory_bytes: 1 << 30,
            pids: 64,
            gpus: 1,
            custom: BTreeMap::new(),
        }),
        pool: "etl".to_owned(),
        require: map(&[("zone", "a")]),
        agent: "etl-1".to_owned(),
        priority: -5,
        queue_timeout: seconds(86_400),
        run_timeout: seconds(7_200),
        kill_grace: seconds(30),
        retry: Some(v1::RetryPolicy {
            user: Some(3),
            infra: Some(5),
            backoff: Some(v1::Backoff {
                kind: v1::backoff::Kind::Fixed.into(),
                initial: seconds(7),
                cap: seconds(60),
                no_jitter: true,
            }),
            rules: vec![
                fail_after(&[v1::Outcome::Oom], &[]),
                fail_after(&[], &[(2, 2), (64, 78)]),
            ],
        }),
        success_codes: vec![3],
        delivery: v1::Delivery::AtMostOnce.into(),
        concurrency: vec![v1::ConcurrencyKey {
            key: "db".to_owned(),
            limit: 4,
        }],
        network: v1::Network::None.into(),
        writable_root: true,
        on_disconnect: stop_after(300),
    };
    let job = v1::NewJob {
        spec: Some(spec),
        array: 17,
        idempotency_key: "k1".to_owned(),
    };
    assert_eq!(
        submission,
        Submission {
            job,
            notes: Vec::new()
        }
    );
}

#[test]
fn what_docker_allows_and_muster_does_not_is_refused_with_the_way() {
    let cases: [(&[&str], &str); 8] = [
        (&["--privileged"], "--privileged"),
        (&["--restart", "always"], "--restart"),
        (&["-p", "80:80"], "-p/--publish"),
        (&["--network", "host"], "--network host"),
        (&["--volumes-from", "x"], "--volumes-from"),
        (&["-v", "/a:/b"], "-v/--volume"),
        (&["--mount", "type=bind"], "--mount"),
        (&["--device", "/dev/x"], "--device"),
    ];
    for (args, flag) in cases {
        let error = submit(&[args, &["img:1"][..]].concat()).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with(&format!("{flag} is not supported: ")),
            "{error}"
        );
        assert!(error.hint().is_some(), "{flag}");
    }
    let error = submit(&["--network", "mesh", "img:1"]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "--network \"mesh\" is not one of: bridge, none"
    );
}

#[test]
fn habits_are_accepted_with_a_note() {
    let notes = submit(&["--rm", "-it", "-e", "DB_PASSWORD=x", "img:1"])
        .unwrap()
        .notes;
    assert_eq!(notes.len(), 4);
    assert!(notes[0].starts_with("--rm is not needed"));
    assert!(notes[3].starts_with("DB_PASSWORD looks like a secret"));
    let unpaid = submit(&["--retry-rule", "75:retry", "img:1"])
        .unwrap()
        .notes;
    assert!(
        unpaid[0].starts_with("--retry-rule …:retry and …:grow do nothing"),
        "{unpaid:?}"
    );
    let paid = ["--retry-rule", "75:retry", "--retries", "2", "img:1"];
    assert_eq!(submit(&paid).unwrap().notes, Vec::<String>::new());
}

#[test]
fn files_of_variables_are_read_as_docker_reads_them() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("env");
    std::fs::write(&file, "# comment\n\nA=1\n  B=two words \nHOME\nC=#x\n").unwrap();
    let path = file.to_str().unwrap();
    let env = submit(&["--env-file", path, "-e", "A=2", "img:1"])
        .unwrap()
        .job
        .spec
        .unwrap()
        .env;
    assert_eq!(
        env,
        map(&[
            ("A", "2"),
            ("B", "two words "),
            ("C", "#x"),
            ("HOME", "/home/ann")
        ])
    );

    std::fs::write(&file, "A=1\nB C=2\n").unwrap();
    let error = submit(&["--env-file", path, "img:1"])
        .unwrap_err()
        .to_string();
    assert!(
        error.ends_with("env line 2: \"B C=2\" is not a variable"),
        "{error}"
    );
    let error = submit(&["--env-file", "/no/such/file", "img:1"])
        .unwrap_err()
        .to_string();
    assert_eq!(error, "/no/such/file cannot be read");
}

#[test]
fn an_empty_entrypoint_clears_the_images() {
    let spec = submit(&["--entrypoint", "", "img:1", "true"])
        .unwrap()
        .job
        .spec
        .unwrap();
    assert_eq!(spec.entrypoint, Some(v1::Argv { args: Vec::new() }));
}

#[test]
fn a_bare_word_is_a_channel() {
    assert!(is_channel("analytics"));
    for image in [
        "python:3.12-slim",
        "acme/analytics",
        "x@sha256:00",
        "localhost:5000/x",
    ] {
        assert!(!is_channel(image), "{image}");
    }
}
