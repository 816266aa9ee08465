//! Plain docker, with the options that muster gives its containers.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

/// `scripts/setup testbox` builds it.
pub(crate) const IMAGE: &str = "muster/testbox:1";
/// What a container does: nothing.
pub(crate) const COMMAND: &str = "true";

/// The same hardening and limits as muster's defaults, so that both do the same work.
pub(crate) fn run_arguments(network: &str) -> Vec<String> {
    let fixed = "run --rm --init --cap-drop ALL --security-opt no-new-privileges --read-only \
         --tmpfs /tmp:rw,noexec,nosuid,nodev,size=64m --user 65532:65532 --pids-limit 256 \
         --memory 512m --memory-swap 512m --cpus 1 --ulimit nofile=1024 --log-driver local --network";
    let mut arguments: Vec<String> = fixed.split_whitespace().map(str::to_owned).collect();
    arguments.extend([network, IMAGE, COMMAND].map(str::to_owned));
    arguments
}

/// What muster calls `bridge`: a network of one's own, whose containers cannot reach each other. It is
/// made for the benchmark and removed after it.
pub(crate) struct Network(String);

impl Network {
    pub(crate) fn create() -> anyhow::Result<Self> {
        let name = format!("muster-bench-{}", std::process::id());
        let apart = "com.docker.network.bridge.enable_icc=false";
        let made = Command::new("docker")
            .args(["network", "create", "--opt", apart, &name])
            .stdout(Stdio::null())
            .status()?;
        ensure!(made.success(), "docker network create failed");
        Ok(Self(name))
    }

    /// The network that gives a plain container what muster's `network` gives.
    pub(crate) fn like<'a>(&'a self, network: &'a str) -> &'a str {
        if network == "bridge" {
            &self.0
        } else {
            network
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // Left behind it is harmless, and its name says whose it was.
        let _ = Command::new("docker")
            .args(["network", "rm", &self.0])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
    }
}

pub(crate) fn need_image() -> anyhow::Result<()> {
    let found = Command::new("docker")
        .args(["image", "inspect", IMAGE])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .context("docker can't be run")?;
    ensure!(
        found.success(),
        "{IMAGE} is missing or no engine answers: scripts/setup engine testbox"
    );
    Ok(())
}

/// One `docker run`, from the command's start to its end.
pub(crate) fn time_run(network: &str) -> anyhow::Result<Duration> {
    let began = Instant::now();
    let status = Command::new("docker")
        .args(run_arguments(network))
        .status()?;
    ensure!(status.success(), "docker run failed");
    Ok(began.elapsed())
}

/// A burst by `xargs -P`: the strongest simple way to run many containers on one host.
pub(crate) fn time_burst(network: &str, count: usize, parallel: usize) -> anyhow::Result<Duration> {
    let began = Instant::now();
    let line = run_arguments(network).join(" ");
    let script = format!("seq {count} | xargs -P {parallel} -I % docker {line}");
    let status = Command::new("sh").args(["-c", &script]).status()?;
    if !status.success() {
        bail!("xargs -P {parallel} docker run failed");
    }
    Ok(began.elapsed())
}
