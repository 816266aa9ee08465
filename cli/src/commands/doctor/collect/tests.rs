use super::*;

fn map(all: &[(&str, &str)]) -> BTreeMap<String, String> {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    all.iter().map(owned).collect()
}

#[test]
fn of_variables_only_those_of_muster_are_shown() {
    let vars = map(&[
        ("MUSTER_AGENT_PLACES", "3"),
        ("MUSTER_AGENT_TOKEN", "c4n4ry"),
        ("MUSTER_AGENT_TOKEN_FILE", "/etc/muster/token"),
        ("DOCKER_HOST", "unix:///var/run/docker.sock"),
        ("AWS_SECRET_ACCESS_KEY", "c4n4ry"),
        ("SOMETHING", "c4n4ry"),
    ]);
    let expected = [
        ("DOCKER_HOST", "unix:///var/run/docker.sock"),
        ("MUSTER_AGENT_PLACES", "3"),
        ("MUSTER_AGENT_TOKEN", "***"),
        ("MUSTER_AGENT_TOKEN_FILE", "/etc/muster/token"),
    ];
    assert_eq!(shown(&vars), BTreeMap::from(expected));
}

#[test]
fn jobs_lose_their_values_and_arguments() {
    let argv = |args: &[&str]| args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>();
    let spec = v1::JobSpec {
        name: "load".to_owned(),
        entrypoint: Some(v1::Argv {
            args: argv(&["load", "--key=c4n4ry"]),
        }),
        command: argv(&["c4n4ry"]),
        env: map(&[("DAY", "c4n4ry")]).into_iter().collect(),
        ..v1::JobSpec::default()
    };
    let job = v1::Job {
        spec: Some(spec),
        ..v1::Job::default()
    };
    let spec = without_values(job).spec.unwrap();
    assert_eq!(spec.name, "load");
    assert_eq!(spec.entrypoint.unwrap().args, ["***", "***"]);
    assert_eq!(spec.command, ["***"]);
    assert_eq!(spec.env["DAY"], "***");
}

#[test]
fn data_directories_are_listed_by_name_only_and_not_without_end() {
    let directory = tempfile::tempdir().unwrap();
    let attempt = directory.path().join("attempts/j.0-1");
    fs::create_dir_all(&attempt).unwrap();
    fs::write(attempt.join("journal"), "c4n4ry").unwrap();
    std::os::unix::fs::symlink("/", directory.path().join("link")).unwrap();
    let text = listing(&[directory.path().to_owned()]);
    let paths: Vec<&str> = text
        .lines()
        .filter_map(|line| line.split(' ').next_back())
        .collect();
    let root = directory.path().display();
    let expected = [
        format!("{root}"),
        format!("{root}/attempts"),
        format!("{root}/attempts/j.0-1"),
        format!("{root}/attempts/j.0-1/journal"),
        format!("{root}/link"),
    ];
    assert_eq!(paths, expected);
    assert!(!text.contains("c4n4ry"));
    for number in 0..ENTRIES {
        fs::write(directory.path().join(number.to_string()), "").unwrap();
    }
    let text = listing(&[directory.path().to_owned()]);
    assert_eq!(text.lines().count(), ENTRIES + 1);
    assert!(text.ends_with("and more\n"));
}

#[test]
fn of_a_log_the_end_is_taken() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("a.log");
    let text = "line\n".repeat(1 << 20) + "last\n";
    fs::write(&file, &text).unwrap();
    let end = end_of(&file).unwrap();
    assert_eq!(end.len() as u64, LOG_MAX);
    assert!(end.ends_with("line\nlast\n"));
    assert!(end_of(&directory.path().join("absent")).is_err());
}
