use super::*;

#[test]
fn flags_win_over_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("coordinator.yaml");
    std::fs::write(
        &file,
        "data_dir: /from/file\nheartbeat: 7s\nlost_after: 90s\n",
    )
    .unwrap();
    let flags = vec![("MUSTER_COORDINATOR_DATA_DIR", "/from/flag".to_owned())];
    let vars = settings(COORDINATOR, file.to_str().unwrap(), flags).unwrap();
    let config = parse_coordinator(&vars).unwrap();
    assert_eq!(config.data_dir.to_str(), Some("/from/flag"));
    assert_eq!(config.heartbeat.as_secs(), 7);
    assert_eq!(config.lost_after.as_secs(), 90);
}

#[test]
fn a_wrong_setting_is_exit_2_and_says_which() {
    let vars = [(
        "MUSTER_COORDINATOR_HEARTBEAT".to_owned(),
        "often".to_owned(),
    )]
    .into();
    let failure = Failure::from(parse_coordinator(&vars).unwrap_err());
    assert_eq!(failure.exit(), Exit::USAGE);
    assert_eq!(
        failure.report(false),
        "error: the coordinator has a wrong setting: MUSTER_COORDINATOR_HEARTBEAT: \"often\" is not a duration such as 90s or 5m"
    );
}

#[test]
fn an_agent_without_a_coordinator_says_what_is_missing() {
    let failure = Failure::from(parse_agent(&BTreeMap::new()).unwrap_err());
    assert_eq!(failure.exit(), Exit::USAGE);
    let report = failure.report(false);
    assert!(
        report.contains("MUSTER_AGENT_COORDINATOR is not set"),
        "{report}"
    );
}

#[test]
fn what_the_file_misspells_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("agent.yaml");
    std::fs::write(&file, "coordinator: http://c:7380\nplacess: 3\n").unwrap();
    let vars = settings(AGENT, file.to_str().unwrap(), Vec::new()).unwrap();
    let report = Failure::from(parse_agent(&vars).unwrap_err()).report(false);
    assert!(report.contains("MUSTER_AGENT_PLACESS"), "{report}");
}
