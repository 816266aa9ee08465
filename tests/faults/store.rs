//! A coordinator whose disk fails: it says nothing that is not stored, ends, and starts from what is.
#![expect(clippy::unwrap_used, reason = "what can't be done is a failed test")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use muster_tests::fleet::{binary, enabled, stderr, stdout};
use muster_tests::processes::{Daemon, eventually, free_address, output_of};
use serde_json::Value;
use tempfile::TempDir;

use crate::fsync::break_fsync;

/// Named by its digest, so that nobody has to be asked what it means.
const IMAGE: &str =
    "registry.invalid/etl@sha256:1111111111111111111111111111111111111111111111111111111111111111";

/// A coordinator without agents.
struct Coordinator {
    place: TempDir,
    daemon: Daemon,
}

impl Coordinator {
    fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap())
    }

    fn start_in(place: TempDir) -> Self {
        let daemon = launch(place.path());
        let mut started = Self { place, daemon };
        eventually("the coordinator serving", || {
            let running = started.daemon.is_running();
            assert!(running, "it ended:\n{}", started.daemon.tail());
            started.muster(&["health"]).status.success().then_some(())
        });
        started
    }

    fn start_again(self) -> Self {
        let Self { place, daemon } = self;
        drop(daemon);
        Self::start_in(place)
    }

    fn muster(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(binary());
        command
            .env(
                "MUSTER_ADDR",
                format!("unix://{}", socket(self.place.path())),
            )
            .args(arguments);
        command.output().unwrap()
    }

    /// The job's id, if the submission was acknowledged.
    fn submit(&self, key: &str, size: usize) -> Result<String, String> {
        let load = format!("LOAD={}", "x".repeat(size));
        let output = self.muster(&["run", "-d", "--key", key, "--env", &load, IMAGE, "work"]);
        if output.status.success() {
            return Ok(stdout(&output).trim().to_owned());
        }
        Err(stderr(&output))
    }

    fn jobs(&self) -> Vec<String> {
        let output = self.muster(&["ps", "-a", "-o", "json"]);
        let listed: Value = serde_json::from_str(&stdout(&output)).unwrap();
        let jobs = listed["jobs"].as_array().unwrap();
        jobs.iter()
            .map(|job| job["id"].as_str().unwrap().to_owned())
            .collect()
    }

    /// Waits for its own end, and gives what it said last.
    fn ended(&mut self) -> String {
        eventually("the coordinator ending by itself", || {
            (!self.daemon.is_running()).then_some(())
        });
        self.daemon.tail()
    }
}

fn data_dir(place: &Path) -> PathBuf {
    place.join("data")
}

fn socket(place: &Path) -> String {
    place.join("socket").display().to_string()
}

fn launch(place: &Path) -> Daemon {
    let mut command = Command::new(binary());
    command
        .arg("coordinator")
        .arg("--data-dir")
        .arg(data_dir(place));
    let listen = format!("unix:{}", socket(place));
    let http = free_address().to_string();
    command.args(["--listen", &listen, "--http-listen", &http]);
    Daemon::start("coordinator", place, &mut command)
}

#[test]
fn a_failed_fsync_ends_the_coordinator_and_nothing_acknowledged_is_lost() {
    if !enabled() {
        return;
    }
    let mut coordinator = Coordinator::start();
    let before = coordinator.submit("before", 10).unwrap();
    let strace = break_fsync(&coordinator.daemon, coordinator.place.path(), &[]);
    let refused = coordinator.submit("during", 10).unwrap_err();
    assert!(!refused.is_empty());
    let last = coordinator.ended();
    assert!(last.contains("could not be stored"), "{last}");
    drop(strace);

    let coordinator = coordinator.start_again();
    assert!(coordinator.jobs().contains(&before));
    // Whether the second one is stored, nobody was told; its key finds out.
    let during = coordinator.submit("during", 10).unwrap();
    let mut jobs = coordinator.jobs();
    jobs.sort();
    assert_eq!(jobs, [before, during]);
}

/// A small disk, unmounted at the end.
struct Disk(PathBuf);

impl Disk {
    fn mount(at: PathBuf, size: &str) -> Self {
        std::fs::create_dir(&at).unwrap();
        let options = format!("size={size},mode=0700");
        output_of(
            Command::new("mount")
                .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
                .arg(&at),
        );
        Self(at)
    }

    fn grow(&self, size: &str) {
        let options = format!("remount,size={size}");
        output_of(Command::new("mount").args(["-o", &options]).arg(&self.0));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_ends_the_coordinator_and_it_goes_on_when_there_is_room() {
    if !enabled() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let disk = Disk::mount(data_dir(place.path()), "3m");
    let mut coordinator = Coordinator::start_in(place);
    let mut acknowledged = Vec::new();
    let refused = (0..500).find_map(|number| {
        let submitted = coordinator.submit(&format!("k{number}"), 30_000);
        match submitted {
            Ok(id) => {
                acknowledged.push(id);
                None
            }
            Err(error) => Some(error),
        }
    });
    let refused = refused.expect("3 MiB are full after fewer jobs than that");
    assert!(!refused.is_empty());
    assert!(acknowledged.len() > 10, "{}", acknowledged.len());
    let last = coordinator.ended();
    assert!(last.contains("full"), "{last}");

    disk.grow("64m");
    let coordinator = coordinator.start_again();
    let kept = coordinator.jobs();
    let lost: Vec<_> = acknowledged
        .iter()
        .filter(|id| !kept.contains(id))
        .collect();
    assert_eq!(lost, [] as [&String; 0]);
    coordinator.submit("after", 30_000).unwrap();
    drop(coordinator);
    drop(disk);
}

#[test]
fn a_backup_is_restored_and_adopted_from_the_command_line() {
    if !enabled() {
        return;
    }
    let coordinator = Coordinator::start();
    let before = coordinator.submit("before", 10).unwrap();
    let file = coordinator
        .place
        .path()
        .join("backup.db")
        .display()
        .to_string();
    let data = data_dir(coordinator.place.path()).display().to_string();
    let done = coordinator.muster(&["coordinator", "backup", &file]);
    assert!(stderr(&done).contains("checked"), "{}", stderr(&done));
    let after = coordinator.submit("after", 10).unwrap();
    let restore = ["coordinator", "restore", &file, "--data-dir", &data];
    let refused = coordinator.muster(&restore);
    assert!(
        stderr(&refused).contains("in use by process"),
        "{}",
        stderr(&refused)
    );

    let Coordinator { place, mut daemon } = coordinator;
    daemon.kill();
    let mut command = Command::new(binary());
    let restored = output_of(command.args(restore).args(["-o", "json"]));
    let restored: Value = serde_json::from_str(&restored).unwrap();
    assert_eq!(restored["live_jobs"], 1);
    assert!(
        restored["moved"][0]
            .as_str()
            .unwrap()
            .contains("before-restore")
    );
    let coordinator = Coordinator::start_in(place);
    let health = coordinator.muster(&["health"]);
    assert!(
        stderr(&health).contains("safe mode: the store was restored"),
        "{}",
        stderr(&health)
    );
    let plan = coordinator.muster(&["coordinator", "adopt", "--dry-run"]);
    assert!(stdout(&plan).contains("would run"), "{}", stdout(&plan));
    assert!(
        coordinator
            .muster(&["coordinator", "adopt"])
            .status
            .success()
    );
    assert_eq!(stderr(&coordinator.muster(&["health"])), "");
    assert_eq!(coordinator.jobs(), [before]);
    // Its key is free again.
    assert_ne!(coordinator.submit("after", 10).unwrap(), after);
}
