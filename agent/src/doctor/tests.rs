use super::*;

fn vars(all: &[(&str, &str)]) -> BTreeMap<String, String> {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    all.iter().map(owned).collect()
}

/// The checks that are not ok.
async fn bad(
    vars: &BTreeMap<String, String>,
    dirs: &[PathBuf],
) -> Vec<(&'static str, HostVerdict)> {
    let report = look_without_clock(vars, dirs).await;
    assert_eq!(report.engine, None);
    let bad = report.findings.into_iter();
    let bad = bad.filter(|one| one.verdict != HostVerdict::Ok);
    bad.inspect(|one| assert!(!one.advice.is_empty(), "{one:?}"))
        .map(|one| (one.check, one.verdict))
        .collect()
}

#[tokio::test]
async fn an_engine_that_is_not_there_is_a_problem_only_for_an_agent() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("docker.sock");
    let address = format!("unix://{}", socket.display());
    let client = vars(&[("DOCKER_HOST", &address)]);
    let worker = vars(&[
        ("DOCKER_HOST", &address),
        (COORDINATOR, "http://127.0.0.1:1"),
    ]);
    assert_eq!(bad(&client, &[]).await, [("engine", HostVerdict::Unknown)]);
    assert_eq!(bad(&worker, &[]).await, [("engine", HostVerdict::Problem)]);
    // A socket that nobody listens on any more.
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    assert_eq!(bad(&client, &[]).await, [("engine", HostVerdict::Problem)]);
    let nonsense = vars(&[("DOCKER_HOST", "ssh+what")]);
    assert_eq!(
        bad(&nonsense, &[]).await,
        [("engine", HostVerdict::Problem)]
    );
}

#[tokio::test]
async fn the_agents_own_settings_and_directories_are_judged() {
    let directory = tempfile::tempdir().unwrap();
    let open = std::fs::Permissions::from_mode(0o777);
    std::fs::set_permissions(directory.path(), open).unwrap();
    let dirs = [directory.path().to_owned(), directory.path().join("absent")];
    let none = ("DOCKER_HOST", "unix:///nonexistent");
    let found = bad(
        &vars(&[none, ("MUSTER_AGENT_DISK_FREE_PERCENT", "0")]),
        &dirs,
    )
    .await;
    let expected = [
        ("engine", HostVerdict::Unknown),
        ("data_dir", HostVerdict::Problem),
    ];
    assert_eq!(found, expected);
    // More than any disk has.
    let found = bad(
        &vars(&[none, ("MUSTER_AGENT_DISK_FREE", "900000TiB")]),
        &dirs,
    )
    .await;
    assert!(found.contains(&("disk", HostVerdict::Problem)), "{found:?}");
    let found = bad(&vars(&[none, ("MUSTER_AGENT_PLACES", "many")]), &[]).await;
    let settings = ("agent_settings", HostVerdict::Problem);
    assert_eq!(found, [settings, ("engine", HostVerdict::Unknown)]);
}
