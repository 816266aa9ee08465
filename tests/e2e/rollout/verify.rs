//! What may be rolled out at all: a list of repositories, and a program of the operator.

use std::os::unix::fs::PermissionsExt as _;

use muster_tests::registry::Registry;

use super::GOOD;
use crate::fleet::{Fleet, enabled, stderr};
use crate::processes::{eventually, free_address};

#[test]
fn only_allowed_repositories_are_followed_and_only_images_that_the_operators_program_takes() {
    if !enabled() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (program, refuse) = (
        directory.path().join("verify"),
        directory.path().join("refuse"),
    );
    let script = format!(
        "#!/bin/sh\n[ ! -e {} ] || {{ echo no signature; exit 1; }}\necho signed by ann\n",
        refuse.display()
    );
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let address = free_address();
    let allowed = format!("{address}/acme");
    let flags = [
        "--allowed-repositories",
        &allowed,
        "--verify-command",
        program.to_str().unwrap(),
    ];
    let fleet = Fleet::start_with(1, &flags);
    let registry = Registry::start(address, Some(fleet.http), None);
    let repository = registry.push_script("one", GOOD);

    let other = format!("{address}/other/analytics");
    let refused = fleet.muster(&["channel", "set", "analytics", &other]);
    assert_eq!(refused.status.code(), Some(2));
    let said = stderr(&refused);
    let expected = format!("{other} is not among the repositories that the coordinator allows");
    assert!(said.contains(&expected), "{said}");
    std::fs::write(&refuse, "").unwrap();
    let refused = fleet.muster(&["channel", "set", "analytics", &repository]);
    let said = stderr(&refused);
    assert!(
        said.contains("can't move to that image: no signature"),
        "{said}"
    );

    std::fs::remove_file(&refuse).unwrap();
    fleet.ok(&["channel", "set", "analytics", &repository]);
    let shown = |release: &str| {
        let status = ["rollout", "status", "analytics", "--release", release];
        eventually("the rollout ending", || {
            let shown = fleet.muster(&status);
            let text = crate::fleet::stdout(&shown);
            text.contains("ended").then_some(text)
        })
    };
    registry.push_script("two", GOOD);
    let accepted = shown("2");
    assert!(
        accepted.contains("verify    accepted: signed by ann"),
        "{accepted}"
    );
    std::fs::write(&refuse, "").unwrap();
    registry.push_script("three", GOOD);
    let refused = shown("3");
    assert!(
        refused.contains("verify    refused: no signature"),
        "{refused}"
    );
    assert!(refused.contains("rolled back: no signature"), "{refused}");
    assert_eq!(
        fleet.json(&["channel", "get", "analytics"])["current"]["number"],
        2
    );
}
