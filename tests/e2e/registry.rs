//! A push to a real registry, and what follows from it.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use muster_tests::registry::Registry;

use crate::fleet::{Fleet, enabled, stderr, stdout};
use crate::processes::{docker, eventually, free_address};

#[test]
fn a_push_moves_the_channel_and_running_tasks_finish_on_their_image() {
    if !enabled() {
        return;
    }
    let mut fleet = Fleet::start(2);
    let registry = Registry::start(free_address(), Some(fleet.http), None);
    registry.push(None, "one");
    let repository = format!("{}/acme/analytics:latest", registry.address);
    fleet.ok(&["channel", "set", "analytics", &repository]);
    let old = fleet.json(&["channel", "get", "analytics"])["current"]["digest"].clone();

    let script = "sleep 3; cat /word";
    let running = fleet.ok(&[
        "run",
        "-d",
        "--network",
        "none",
        "analytics",
        "sh",
        "-c",
        script,
    ]);
    fleet.wait_for_running(&running, 1);
    let (coordinator, agent) = (fleet.coordinator().pid(), fleet.agent("a1").pid());

    registry.push(None, "two");
    let new = eventually("the push moving the channel", || {
        let digest = fleet.json(&["channel", "get", "analytics"])["current"]["digest"].clone();
        (digest != old).then_some(digest)
    });
    let next = fleet.muster(&["run", "--network", "none", "analytics"]);
    assert_eq!(stdout(&next), "two", "{}", stderr(&next));
    assert_eq!(fleet.muster(&["wait", &running]).status.code(), Some(0));
    assert_eq!(fleet.ok(&["logs", &running]), "one");
    let digest = |job: &str| fleet.json(&["ps", job])["tasks"][0]["digest"].clone();
    assert_eq!(digest(&running), old);
    let history = fleet.json(&["rollout", "history", "analytics"]);
    assert_eq!(history["releases"][0]["cause"], "webhook");
    assert_eq!(history["releases"][0]["digest"], new);

    let held = eventually("both agents fetching it ahead", || {
        let channel = fleet.json(&["channel", "get", "analytics"]);
        (channel["held_by"] == 2).then_some(channel)
    });
    assert_eq!(held["agents"], 2);

    fleet.ok(&["rollback", "analytics", "--reason", "wrong tax table"]);
    let back = fleet.muster(&["run", "--network", "none", "analytics"]);
    assert_eq!(stdout(&back), "one", "{}", stderr(&back));
    assert_eq!(fleet.coordinator().pid(), coordinator);
    assert_eq!(fleet.agent("a1").pid(), agent);
    assert!(
        fleet.coordinator().is_running() && fleet.agent("a1").is_running(),
        "nothing restarts"
    );
    fleet.wait_for_no_containers();
}

#[test]
fn a_lost_notification_costs_one_poll() {
    if !enabled() {
        return;
    }
    let fleet = Fleet::start_with(1, &["--registry-poll", "1s"]);
    let registry = Registry::start(free_address(), None, None);
    registry.push(None, "one");
    let repository = format!("{}/acme/analytics:latest", registry.address);
    fleet.ok(&["channel", "set", "analytics", &repository]);
    registry.push(None, "two");
    eventually("the poll finding the push", || {
        let history = fleet.json(&["rollout", "history", "analytics"]);
        (history["releases"][0]["cause"] == "poll").then_some(())
    });
    let output = fleet.muster(&["run", "--network", "none", "analytics"]);
    assert_eq!(stdout(&output), "two", "{}", stderr(&output));
}

#[test]
fn a_private_registry_is_asked_with_the_credentials_of_docker() {
    if !enabled() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().to_str().unwrap();
    let address = free_address();
    let registry = Registry::start(address, None, Some("s3cret?~pass"));
    let login = Command::new("docker")
        .args([
            "--config",
            config,
            "login",
            "--username",
            "etl",
            "--password",
            "s3cret?~pass",
        ])
        .arg(address.to_string())
        .output()
        .unwrap();
    assert!(login.status.success(), "{}", stderr(&login));
    let reference = registry.push(Some(directory.path()), "private");
    // The agent has to pull it itself.
    docker(&["rmi", "--force", &reference]);

    let stranger = Fleet::start_in(1, &[], &[("DOCKER_CONFIG", "/nonexistent")]);
    let refused = stranger.muster(&["run", "-d", &reference]);
    assert_eq!(refused.status.code(), Some(2), "{}", stderr(&refused));
    assert!(
        stderr(&refused).contains("credentials"),
        "{}",
        stderr(&refused)
    );
    drop(stranger);

    let fleet = Fleet::start_in(1, &[], &[("DOCKER_CONFIG", config)]);
    let output = fleet.muster(&["run", "--network", "none", &reference]);
    assert_eq!(stdout(&output), "private", "{}", stderr(&output));
    fleet.wait_for_no_containers();
}

#[test]
fn a_credential_helper_is_asked_for_the_password() {
    if !enabled() {
        return;
    }
    let address = free_address();
    let registry = Registry::start(address, None, Some("of-the-hour"));
    let directory = tempfile::tempdir().unwrap();
    let helper = directory.path().join("docker-credential-e2e");
    let secret = r#"{"ServerURL":"x","Username":"etl","Secret":"of-the-hour"}"#;
    std::fs::write(
        &helper,
        format!("#!/bin/sh\ncat >/dev/null\necho '{secret}'\n"),
    )
    .unwrap();
    std::fs::set_permissions(&helper, std::fs::Permissions::from_mode(0o755)).unwrap();
    let config = format!(r#"{{"credHelpers":{{"{address}":"e2e"}}}}"#);
    std::fs::write(directory.path().join("config.json"), config).unwrap();
    let path = format!(
        "{}:{}",
        directory.path().display(),
        std::env::var("PATH").unwrap()
    );
    let reference = registry.push_with(directory.path(), &path, "helped");
    docker(&["rmi", "--force", &reference]);

    let config = directory.path().to_str().unwrap();
    let fleet = Fleet::start_in(1, &[], &[("DOCKER_CONFIG", config), ("PATH", &path)]);
    let output = fleet.muster(&["run", "--network", "none", &reference]);
    assert_eq!(stdout(&output), "helped", "{}", stderr(&output));
    fleet.wait_for_no_containers();
}

#[test]
fn an_outage_of_the_registry_costs_few_tasks_an_attempt() {
    if !enabled() {
        return;
    }
    let fleet = Fleet::start(2);
    let mut registry = Registry::start(free_address(), None, None);
    registry.push(None, "late");
    let image = format!("{}/acme/analytics:latest", registry.address);
    let agents = ["a1", "a2"];
    for agent in agents {
        fleet.ok(&["agent", "cordon", agent, "--reason", "a test"]);
    }
    let flags = [
        "run",
        "-d",
        "--network",
        "none",
        "--array",
        "60",
        "--retry-delay",
        "1s",
    ];
    let job = fleet.ok(&[&flags[..], &[&image]].concat());
    registry.stop();
    registry.forget_images();
    for agent in agents {
        fleet.ok(&["agent", "uncordon", agent]);
    }
    let why = |code: &str| {
        let why = fleet.json(&["why", &job]);
        why["reasons"].to_string().contains(code).then_some(why)
    };
    let why = eventually("the wait for a pull", || why("pull_fails"));
    assert!(why.to_string().contains("connection refused"), "{why}");
    let attempts = || {
        let list = fleet.json(&["ps", &job, "--limit", "100"]);
        let tasks = list["tasks"].as_array().unwrap().clone();
        let numbers = tasks.iter().filter_map(|task| task["attempt"].as_u64());
        numbers.sum::<u64>()
    };
    let before = attempts();
    eventually("two more tries", || {
        (attempts() >= before + 2).then_some(())
    });
    registry.start_again();
    fleet.ok(&["wait", &job]);
    let counts = fleet.json(&["job", "get", &job])["counts"].clone();
    assert_eq!(counts["succeeded"], 60, "{counts}");
    // As many as there are places were under way, and then one tried at a time.
    let attempts = attempts();
    assert!((62..=60 + 8 + 10).contains(&attempts), "{attempts}");
    registry.forget_images();
}

#[test]
fn a_channel_names_the_credentials_that_the_coordinator_shows() {
    if !enabled() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let docker_config = directory.path().to_str().unwrap();
    let address = free_address();
    let registry = Registry::start(address, None, Some("s3cret"));
    let login = Command::new("docker")
        .args(["--config", docker_config, "login"])
        .args(["--username", "etl", "--password", "s3cret"])
        .arg(address.to_string())
        .output()
        .unwrap();
    assert!(login.status.success(), "{}", stderr(&login));
    let reference = registry.push(Some(directory.path()), "named");
    docker(&["rmi", "--force", &reference]);
    let named = directory.path().join("named");
    std::fs::create_dir(&named).unwrap();
    let file = directory.path().join("config.json");
    std::fs::copy(file, named.join("acme.json")).unwrap();

    let flags = ["--credentials-dir", named.to_str().unwrap()];
    let fleet = Fleet::start_in(1, &flags, &[("DOCKER_CONFIG", "/nonexistent")]);
    let set = |more: &[&str]| {
        let all = [&["channel", "set", "analytics", reference.as_str()], more].concat();
        fleet.muster(&all)
    };
    let refused = set(&[]);
    assert_eq!(refused.status.code(), Some(2), "{}", stderr(&refused));
    let said = stderr(&refused);
    let none = format!("the coordinator's docker configuration has none for {address}");
    assert!(said.contains(&none), "{said}");
    let refused = set(&["--credentials", "acne"]);
    assert_eq!(refused.status.code(), Some(2), "{}", stderr(&refused));
    let said = stderr(&refused);
    assert!(said.contains("acne.json does not exist"), "{said}");

    let elsewhere = r#"{"auths":{"other.example":{"auth":"ZXRsOng="}}}"#;
    std::fs::write(named.join("other.json"), elsewhere).unwrap();
    let refused = set(&["--credentials", "other"]);
    let said = stderr(&refused);
    let none = format!("the file of credentials other has none for {address}");
    assert!(said.contains(&none), "{said}");

    let taken = set(&["--credentials", "acme", "--poll-interval", "30s"]);
    assert!(taken.status.success(), "{}", stderr(&taken));
    let shown = fleet.json(&["channel", "get", "analytics"]);
    assert_eq!(shown["credentials"], "acme");
    assert_eq!(shown["poll_interval_seconds"], 30.0);
    assert_eq!(shown["current"]["number"], 1);
    fleet.ok(&["channel", "refresh", "analytics"]);
}
