//! Debian's docker-registry, which tells of pushes as registries do.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::fleet::{stderr, stdout};
use crate::processes::Daemon;

/// Debian's docker-registry with a directory of its own.
pub struct Registry {
    pub address: SocketAddr,
    directory: TempDir,
    daemon: Option<Daemon>,
}

impl Registry {
    /// `notify`: where pushes are told; `password`: who may read and write.
    pub fn start(address: SocketAddr, notify: Option<SocketAddr>, password: Option<&str>) -> Self {
        let directory = tempfile::tempdir().expect("the test machine has room and its tools");
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
            std::fs::write(&file, htpasswd("etl", password))
                .expect("the test machine has room and its tools");
            let path = file.display();
            config.push_str(&format!(
                "auth: {{htpasswd: {{realm: test, path: {path}}}}}\n"
            ));
        }
        let path = directory.path().join("config.yml");
        std::fs::write(&path, config).expect("the test machine has room and its tools");
        let mut registry = Self {
            address,
            directory,
            daemon: None,
        };
        registry.start_again();
        registry
    }

    /// On the same port, with everything that was pushed before.
    pub fn start_again(&mut self) {
        let mut command = Command::new("docker-registry");
        command
            .arg("serve")
            .arg(self.directory.path().join("config.yml"));
        let mut daemon = Daemon::start("docker-registry", self.directory.path(), &mut command);
        daemon.wait_for_port(self.address);
        self.daemon = Some(daemon);
    }

    pub fn stop(&mut self) {
        self.daemon = None;
    }

    /// Removes what this engine holds of the repository: whoever needs it has to pull it.
    pub fn forget_images(&self) {
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

    /// Builds an image that prints `word` and pushes it.
    pub fn push(&self, docker_config: Option<&Path>, word: &str) -> String {
        self.build_and_push(
            docker_config,
            &std::env::var("PATH").expect("the test machine has room and its tools"),
            word,
        )
    }

    /// The same with credential helpers that are found in `path`.
    pub fn push_with(&self, docker_config: &Path, path: &str, word: &str) -> String {
        self.build_and_push(Some(docker_config), path, word)
    }

    /// Builds an image whose command is a shell script, and pushes it. The script sees `word` in `/word`.
    pub fn push_script(&self, word: &str, script: &str) -> String {
        let task = format!("#!/bin/sh\n{script}\n");
        let steps = "COPY word /word\nCOPY task /task\nCMD [\"/task\"]\n\
            LABEL muster.validate=\"/task validate\" org.opencontainers.image.revision=";
        let files = [("word", word), ("task", &task)];
        self.build(word, &files, &format!("{steps}{word}\n"));
        self.push_built(None, &std::env::var("PATH").expect("PATH is set"))
    }

    /// The same; the image carries `manifest`, below what holds the word.
    pub fn push_carrying(&self, word: &str, script: &str, manifest: &str) -> String {
        let task = format!("#!/bin/sh\n{script}\n");
        let steps = "COPY muster.yaml /app/\nLABEL muster.manifests=/app/muster.yaml\n\
            COPY word /word\nCOPY task /task\nCMD [\"/task\"]\n\
            LABEL muster.validate=\"/task validate\"\n";
        let files = [("word", word), ("task", &task), ("muster.yaml", manifest)];
        self.build(word, &files, steps);
        self.push_built(None, &std::env::var("PATH").expect("PATH is set"))
    }

    fn build_and_push(&self, docker_config: Option<&Path>, path: &str, word: &str) -> String {
        let steps = "COPY word /word\nCMD [\"cat\", \"/word\"]\n";
        self.build(word, &[("word", word)], steps);
        self.push_built(docker_config, path)
    }

    fn reference(&self) -> String {
        format!("{}/acme/analytics:latest", self.address)
    }

    fn build(&self, name: &str, files: &[(&str, &str)], steps: &str) {
        let reference = self.reference();
        // The first step is this registry's own, so that no other test removes what this one builds on.
        let dockerfile = format!(
            "FROM muster/testbox:1\nLABEL muster.test={}\n{steps}",
            self.address
        );
        let context = self.directory.path().join(name);
        std::fs::create_dir_all(&context).expect("the test machine has room and its tools");
        let all = files
            .iter()
            .copied()
            .chain([("Dockerfile", dockerfile.as_str())]);
        for (file, text) in all {
            let path = context.join(file);
            std::fs::write(&path, text).expect("the test machine has room and its tools");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))
                .expect("the test machine has room and its tools");
        }
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
    }

    fn push_built(&self, docker_config: Option<&Path>, path: &str) -> String {
        let reference = self.reference();
        let mut push = Command::new("docker");
        push.env("PATH", path);
        if let Some(config) = docker_config {
            push.arg("--config").arg(config);
        }
        let pushed = push
            .args(["push", "--quiet", &reference])
            .output()
            .expect("the test machine has room and its tools");
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
        self.forget_images();
    }
}

/// A line of an htpasswd file. The registry takes bcrypt only, which Python's venv-free standard library
/// can do through crypt(3) where the C library can. The fewest rounds: each request is checked.
fn htpasswd(user: &str, password: &str) -> String {
    let script = "import crypt,sys; print(crypt.crypt(sys.argv[1], crypt.mksalt(crypt.METHOD_BLOWFISH, rounds=16)))";
    let hashed = Command::new("python3")
        .args(["-W", "ignore", "-c", script, password])
        .output()
        .expect("the test machine has room and its tools");
    let hash = stdout(&hashed);
    assert!(
        hash.starts_with("$2"),
        "crypt(3) has no bcrypt here: {hash:?} {}",
        stderr(&hashed)
    );
    format!("{user}:{}\n", hash.trim().replacen("$2b$", "$2y$", 1))
}
