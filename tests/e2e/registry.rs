//! A push to a real registry, and what follows from it.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::fleet::{Fleet, enabled, stderr, stdout};
use crate::processes::{Daemon, docker, eventually, free_address};

/// Debian's docker-registry with a directory of its own.
struct Registry {
    address: SocketAddr,
    directory: TempDir,
    _daemon: Daemon,
}

impl Registry {
    /// `notify`: where pushes are told; `password`: who may read and write.
    fn start(address: SocketAddr, notify: Option<SocketAddr>, password: Option<&str>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data");
        let mut config = format!(
            "version: 0.1\nlog: {{level: warn}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n\
             http: {{addr: \"{address}\"}}\n",
            data.display()
        );
        if let Some(notify) = notify {
            config.push_str(&format!(
                "notifications:\n  endpoints:\n    - name: muster\n      \
                 url: http://{notify}/webhook/distribution\n      timeout: 2s\n      threshold: 3\n      backoff: 1s\n"
            ));
        }
        if let Some(password) = password {
            let file = directory.path().join("htpasswd");
            std::fs::write(&file, htpasswd("etl", password)).unwrap();
            let path = file.display();
            config.push_str(&format!(
                "auth: {{htpasswd: {{realm: test, path: {path}}}}}\n"
            ));
        }
        let path = directory.path().join("config.yml");
        std::fs::write(&path, config).unwrap();
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&path);
        let mut daemon = Daemon::start("docker-registry", directory.path(), &mut command);
        daemon.wait_for_port(address);
        Self {
            address,
            directory,
            _daemon: daemon,
        }
    }

    /// Builds an image that prints `word` and pushes it.
    fn push(&self, docker_config: Option<&Path>, word: &str) -> String {
        self.build_and_push(docker_config, &std::env::var("PATH").unwrap(), word)
    }

    /// The same with credential helpers that are found in `path`.
    fn push_with(&self, docker_config: &Path, path: &str, word: &str) -> String {
        self.build_and_push(Some(docker_config), path, word)
    }

    fn build_and_push(&self, docker_config: Option<&Path>, path: &str, word: &str) -> String {
        let reference = format!("{}/acme/analytics:latest", self.address);
        let context = self.directory.path().join(word);
        std::fs::create_dir_all(&context).unwrap();
        std::fs::write(context.join("word"), word).unwrap();
        let dockerfile = "FROM muster/testbox:1\nCOPY word /word\nCMD [\"cat\", \"/word\"]\n";
        std::fs::write(context.join("Dockerfile"), dockerfile).unwrap();
        let build = Command::new("docker")
            .env("DOCKER_BUILDKIT", "0")
            .args(["build", "--quiet", "--tag", &reference])
            .arg(&context)
            .stdout(Stdio::null())
            .status();
        assert!(
            build.is_ok_and(|status| status.success()),
            "the image could not be built"
        );
        let mut push = Command::new("docker");
        push.env("PATH", path);
        if let Some(config) = docker_config {
            push.arg("--config").arg(config);
        }
        let pushed = push.args(["push", "--quiet", &reference]).output().unwrap();
        assert!(
            pushed.status.success(),
            "{}",
            String::from_utf8_lossy(&pushed.stderr)
        );
        reference
    }
}

impl Drop for Registry {
    /// Also what agents pulled by digest goes: it has no tag.
    fn drop(&mut self) {
        let repository = format!("{}/acme/analytics", self.address);
        let list = ["images", "--quiet", "--no-trunc", repository.as_str()];
        let listed = Command::new("docker").args(list).output();
        let ids = listed.map(|output| stdout(&output)).unwrap_or_default();
        for id in ids.lines() {
            let _ = Command::new("docker")
                .args(["rmi", "--force", id])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
        }
    }
}

/// A line of an htpasswd file. The registry takes bcrypt only, which Python's venv-free standard library
/// can do through crypt(3) where the C library can.
fn htpasswd(user: &str, password: &str) -> String {
    let script =
        "import crypt,sys; print(crypt.crypt(sys.argv[1], crypt.mksalt(crypt.METHOD_BLOWFISH)))";
    let hashed = Command::new("python3")
        .args(["-W", "ignore", "-c", script, password])
        .output()
        .unwrap();
    let hash = stdout(&hashed);
    assert!(
        hash.starts_with("$2"),
        "crypt(3) has no bcrypt here: {hash:?} {}",
        stderr(&hashed)
    );
    format!("{user}:{}\n", hash.trim().replacen("$2b$", "$2y$", 1))
}

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
