use super::*;

#[test]
fn files_and_variables_are_read_as_the_daemons_read_them() {
    let system = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(system.path().join(name), text).unwrap();
    let data = system.path().join("agent data");
    std::fs::create_dir(&data).unwrap();
    write("agent.yaml", "places: 3\ncpus: 2\n");
    let env = format!(
        "# a comment=1\n\n; another=1\nMUSTER_AGENT_CPUS=1\nMUSTER_AGENT_DATA_DIR=\"{}\"\nnonsense\n",
        data.display()
    );
    write("agent.env", &env);
    write("coordinator.yaml", "listen: [1, 2]\n");
    let own = [("MUSTER_AGENT_POOL".to_owned(), "etl".to_owned())];
    let named = [system.path().to_owned(), system.path().join("absent")];
    let Host {
        vars,
        data_dirs,
        unreadable,
    } = Host::read(system.path(), own.into_iter(), &named);
    let expected = [
        ("MUSTER_AGENT_CPUS", "1"),
        ("MUSTER_AGENT_DATA_DIR", data.to_str().unwrap()),
        ("MUSTER_AGENT_PLACES", "3"),
        ("MUSTER_AGENT_POOL", "etl"),
    ];
    let vars: Vec<(&str, &str)> = vars
        .iter()
        .map(|(name, value)| (&**name, &**value))
        .collect();
    assert_eq!(vars, expected);
    assert!(data_dirs.contains(&data) && data_dirs.contains(&system.path().to_owned()));
    assert!(!data_dirs.contains(&system.path().join("absent")));
    let files: Vec<&Path> = unreadable.iter().map(|(file, _)| file.as_path()).collect();
    assert_eq!(files, [system.path().join("coordinator.yaml")]);
}
