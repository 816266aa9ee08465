use super::*;

mod schema;

fn read_one(text: &str) -> Result<Vec<Document>, Vec<String>> {
    let file = Source {
        name: "m.yaml",
        text,
    };
    let team = TeamName::parse("default").unwrap();
    let wrong = |problems: Vec<Problem>| {
        let lines = problems.iter();
        let lines = lines.map(|problem| format!("{}: {}", problem.location(), problem.what));
        lines.collect()
    };
    read(&[file], &team).map_err(wrong)
}

const CHANNEL: &str = "kind: Channel
name: analytics
repository: registry.example/acme/analytics
";

fn with_policy(policy: &str) -> String {
    format!("{CHANNEL}policy:\n{policy}")
}

fn policy(text: &str) -> Policy {
    match read_one(&with_policy(text)).unwrap().remove(0).body {
        Body::Channel(channel) => channel.policy,
        Body::Rollout(_) => panic!("it is a channel"),
    }
}

#[test]
fn a_channel_has_defaults() {
    let documents = read_one(CHANNEL).unwrap();
    let Body::Channel(channel) = &documents[0].body else {
        panic!("it is a channel");
    };
    assert_eq!(channel.tag.as_str(), "latest");
    assert_eq!(channel.policy, Policy::default());
    assert_eq!(documents[0].channel.team.to_string(), "default");
}

/// YAML would take these for a number, a number of seconds, and a boolean.
#[test]
fn scalars_are_taken_as_they_are_written() {
    for tag in ["1.10", "0755", "1e3", "true", "off", "2026-11-21", "\"7\""] {
        let documents = read_one(&format!("{CHANNEL}tag: {tag}\n")).unwrap();
        let Body::Channel(channel) = &documents[0].body else {
            panic!("it is a channel");
        };
        assert_eq!(channel.tag.as_str(), tag.trim_matches('"'));
    }
}

#[test]
fn a_policy_is_shown_as_it_was_written() {
    let all = policy(
        "
  prefetch: {enough_percent: 75%, at_a_time: 8, patience: 20m}
  validate: {command: [python3, -m, selftest], timeout: 1h30m, exit_code: 3, pool: cpu}
  canary: {percent: 10, jobs: [load, export], sample: 40, patience: 2h, roll_back_after_patience: true}
  restart: {jobs: [serve], healthy_after: 45s, patience: 10m}
  bake: {lasts: 1d}
  gates: {failures: 4, failure_points: 10, duration_percent: 150%, memory_percent: 0}
  newer: queue
",
    );
    let lines: Vec<String> = policy_fields(&all)
        .into_iter()
        .map(|(field, value)| format!("{field} {value}"))
        .collect();
    let expected = [
        "policy.prefetch.enough_percent 75%",
        "policy.prefetch.at_a_time 8",
        "policy.prefetch.patience 20m",
        "policy.validate.command [\"python3\", \"-m\", \"selftest\"]",
        "policy.validate.timeout 1h30m",
        "policy.validate.exit_code 3",
        "policy.validate.pool cpu",
        "policy.canary.percent 10%",
        "policy.canary.jobs [export, load]",
        "policy.canary.sample 40",
        "policy.canary.patience 2h",
        "policy.canary.roll_back_after_patience true",
        "policy.restart.jobs [serve]",
        "policy.restart.healthy_after 45s",
        "policy.restart.patience 10m",
        "policy.bake.lasts 1d",
        "policy.gates.failures 4",
        "policy.gates.failure_points 10",
        "policy.gates.duration_percent 150%",
        "policy.gates.memory_percent 0",
        "policy.newer queue",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn phases_have_defaults() {
    let defaults = policy("  prefetch: {}\n  bake: {}\n");
    let prefetch = defaults.prefetch.unwrap();
    assert_eq!((prefetch.enough_percent, prefetch.at_a_time), (80, 4));
    assert_eq!(defaults.bake.unwrap().lasts.to_string(), "1 h");
    assert_eq!(defaults.canary, None);
}

#[test]
fn warm_containers_have_bounds() {
    let warm = |text: &str| {
        let documents = read_one(&format!("{CHANNEL}warm: {text}\n"))?;
        let Body::Channel(channel) = &documents[0].body else {
            panic!("{documents:?}");
        };
        Ok::<_, Vec<String>>((channel.warm.min(), channel.warm.max()))
    };
    assert_eq!(warm("{min: 1, max: 4}"), Ok((1, 4)));
    assert_eq!(warm("{max: 2}"), Ok((0, 2)));
    for (text, wanted) in [
        (
            "{min: 3, max: 2}",
            "warm: min is 3, which is more than max, 2",
        ),
        (
            "{max: 1001}",
            "warm.max \"1001\" is not a number from 0 to 1000",
        ),
        ("{min: 1}", "warm.max is missing"),
    ] {
        let problems = warm(text).unwrap_err();
        assert!(problems[0].ends_with(wanted), "{problems:?}");
    }
}

#[test]
fn a_channel_can_say_how_its_tag_is_looked_at() {
    let following = |text: &str| {
        let documents = read_one(&format!("{CHANNEL}{text}\n"))?;
        let Body::Channel(channel) = &documents[0].body else {
            panic!("{documents:?}");
        };
        Ok::<_, Vec<String>>(channel.following.clone())
    };
    assert_eq!(following(""), Ok(Following::default()));
    let said = following("poll_interval: 90s\ncredentials: acme").unwrap();
    assert_eq!(
        said.poll.unwrap().span(),
        muster_core::time::Millis::from_secs(90)
    );
    assert_eq!(said.credentials.unwrap().as_str(), "acme");
    for (text, wanted) in [
        (
            "poll_interval: 9s",
            "m.yaml:4:16: poll_interval: 9.0 s is out of bounds: a tag is looked at every 10 s at least and every 7 days at most",
        ),
        (
            "poll_interval: 5",
            "m.yaml:4:16: poll_interval \"5\" is not a duration such as 90s, 15m, 2h or 7d",
        ),
        (
            "credentials: ../../etc/shadow",
            "m.yaml:4:14: credentials: \"../../etc/shadow\" has '/'; allowed are a-z, 0-9, '.', '_' and '-'",
        ),
        (
            "credentials: {password: x}",
            "m.yaml:4:14: credentials is no single value",
        ),
    ] {
        assert_eq!(following(text).unwrap_err(), [wanted]);
    }
}

#[test]
fn everything_that_is_wrong_is_said_with_its_place() {
    let cases: [(String, &[&str]); 9] = [
        (
            "kind: Channel\nname: Analytics\nrepositroy: a/b\ntag: 'a b'\n".into(),
            &[
                "m.yaml:1:1: repository is missing",
                "m.yaml:2:7: name: \"Analytics\" has 'A'; allowed are a-z, 0-9, '.', '_' and '-'",
                "m.yaml:3:1: \"repositroy\" is no field; there are kind, name, team, repository, tag, poll_interval, credentials, policy, warm",
                "m.yaml:4:6: tag: \"a b\" is not a tag: up to 128 letters, digits, '_', '.' and '-'",
            ],
        ),
        (
            with_policy(
                "  canary: {percent: ten, jobs: load, patience: 90}\n  bake: {lasts: 8d}\n  newer: last\n  gates:\n",
            ),
            &[
                "m.yaml:5:21: policy.canary.percent \"ten\" is not a percentage from 1% to 100%",
                "m.yaml:5:32: policy.canary.jobs is no list of texts such as [a, b]",
                "m.yaml:5:48: policy.canary.patience \"90\" is not a duration such as 90s, 15m, 2h or 7d",
                "m.yaml:6:17: policy.bake.lasts \"8d\" is more than 7 days",
                "m.yaml:7:10: policy.newer \"last\" is not supersede or queue",
                "m.yaml:8:8: policy.gates is empty; write {} for the defaults, or leave it out",
            ],
        ),
        (
            with_policy("  canary: {}\n"),
            &["m.yaml:5:11: policy.canary needs first, e.g. 20, or percent, e.g. 10%"],
        ),
        (
            with_policy("  canary: {first: 3, percent: 3%}\n"),
            &["m.yaml:5:11: policy.canary has first and percent; it takes one of them"],
        ),
        (
            with_policy(
                "  gates: {memory_percent: 50%, failures: 0}\n  restart: {jobs: ['a b']}\n",
            ),
            &[
                "m.yaml:5:27: policy.gates.memory_percent \"50%\" is not a percentage from 100% to 10000%, or 0",
                "m.yaml:5:42: policy.gates.failures \"0\" is not a number from 1 to 100000",
                "m.yaml:6:19: policy.restart.jobs: \"a b\" has ' '; allowed are a-z, 0-9, '.', '_' and '-'",
            ],
        ),
        (
            "kind: Job\n".into(),
            &["m.yaml:1:7: kind has to be Channel or Rollout, not \"Job\""],
        ),
        (
            "name: x\n---\n[1]\n".into(),
            &[
                "m.yaml:1:1: kind is missing; kind has to be Channel or Rollout",
                "m.yaml:3:1: is no document with fields",
            ],
        ),
        (
            "kind: Rollout\nchannel: a\nfrom: main\nto: main\n".into(),
            &["m.yaml:3:7: from: \"main\" is no digest and no release's number"],
        ),
        (
            format!("{CHANNEL}---\n{CHANNEL}"),
            &["m.yaml:5:1: there is another Channel of analytics of team default before it"],
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(read_one(&text).unwrap_err(), expected, "{text}");
    }
}

#[test]
fn what_is_no_yaml_is_said_with_its_place() {
    for (text, place) in [
        (
            "kind: Channel\nname: [a\n",
            "m.yaml:2:7: is not valid YAML: ",
        ),
        (
            "kind: Channel\n\tname: a\n",
            "m.yaml:1:7: is not valid YAML: ",
        ),
        (
            "kind: Channel\nname: a\nname: b\n",
            "m.yaml:3:1: is not valid YAML: ",
        ),
    ] {
        let problems = read_one(text).unwrap_err();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].starts_with(place), "{}", problems[0]);
    }
}

#[test]
fn a_file_that_grows_when_it_is_read_is_refused() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..9 {
        let below = format!("*a{}, ", level - 1).repeat(10);
        text.push_str(&format!("a{level}: &a{level} [{below}]\n"));
    }
    assert!(read_one(&text).unwrap_err()[0].contains("is not valid YAML"));
}

#[test]
fn channels_come_before_rollouts() {
    let text = format!("kind: Rollout\nchannel: analytics\nto: main\n---\n{CHANNEL}---\n");
    let documents = read_one(&text).unwrap();
    let kinds: Vec<&str> = documents.iter().map(|found| found.body.kind()).collect();
    assert_eq!(kinds, ["Channel", "Rollout"]);
    assert_eq!(documents[1].place.line, 1);
}
