//! What `muster doctor` finds out about the host it runs on: its container engine, disks, files and
//! clock. It only looks.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use muster_core::error_chain::error_chain;

use crate::config::{Config, DiskReserve};
use crate::host;
use crate::runtime::docker::DockerRuntime;

mod judge;

const COORDINATOR: &str = "MUSTER_AGENT_COORDINATOR";
const ENGINE_ADDRESS: &str = "DOCKER_HOST";
/// For asking the host's own programs.
const PROGRAM_DEADLINE: Duration = Duration::from_secs(5);

/// What one check of the host found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostFinding {
    /// The stable word of the check.
    pub check: &'static str,
    pub verdict: HostVerdict,
    /// A path or a limit; empty: the engine or the host itself.
    pub subject: String,
    /// What is so, with the values.
    pub what: String,
    /// What a person should do; empty if nothing.
    pub advice: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostVerdict {
    Ok,
    /// It could not be looked at.
    Unknown,
    /// It works, and somebody should know.
    Warning,
    /// Something is wrong, and somebody should act.
    Problem,
}

/// What is known of the host after a look.
#[derive(Debug)]
pub struct HostReport {
    pub findings: Vec<HostFinding>,
    /// What the engine says of itself; absent if it does not answer.
    pub engine: Option<EngineDump>,
}

/// The engine's own answers as JSON, as it gave them: addresses in them may hold passwords.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineDump {
    pub info: serde_json::Value,
    pub version: serde_json::Value,
}

/// Looks at this host as an agent with these settings would see it: at the engine that `DOCKER_HOST`
/// among `vars` names or the local one, and at those of `data_dirs` that there are.
pub async fn look(vars: &BTreeMap<String, String>, data_dirs: &[PathBuf]) -> HostReport {
    let mut report = look_without_clock(vars, data_dirs).await;
    let clock = clock_sync().await;
    report.findings.push(judge::clock_sync(clock.as_deref()));
    report
}

async fn look_without_clock(vars: &BTreeMap<String, String>, data_dirs: &[PathBuf]) -> HostReport {
    let mut findings = Vec::new();
    let reserve = match settings(vars) {
        Ok(reserve) => reserve,
        Err(finding) => {
            findings.push(finding);
            DiskReserve::default()
        }
    };
    let mut disks: Vec<PathBuf> = data_dirs.to_vec();
    let engine = match engine(vars, &mut findings).await {
        Some((root, dump)) => {
            disks.extend(root);
            Some(dump)
        }
        None => None,
    };
    for disk in &disks {
        findings.extend(judge::disk(disk, host::disk(disk), reserve));
    }
    for directory in data_dirs {
        findings.extend(judge::data_dir(directory, mode(directory)));
    }
    HostReport { findings, engine }
}

/// What an agent with these settings keeps free, or why it would not start.
fn settings(vars: &BTreeMap<String, String>) -> Result<DiskReserve, HostFinding> {
    let mut vars = vars.clone();
    // A host without an agent has nothing to say about its coordinator.
    vars.entry(COORDINATOR.to_owned())
        .or_insert_with(|| "http://127.0.0.1:1".to_owned());
    match Config::parse(&vars) {
        Ok(config) => Ok(config.disk_reserve),
        Err(error) => {
            let advice =
                "an agent does not start with it: correct the variable, or /etc/muster/agent.env";
            let what = error_chain(&error);
            Err(judge::problem("agent_settings", "", what, advice))
        }
    }
}

/// Asks the engine, and adds what it found. Gives where the engine keeps its data, and its answers.
async fn engine(
    vars: &BTreeMap<String, String>,
    findings: &mut Vec<HostFinding>,
) -> Option<(Option<PathBuf>, EngineDump)> {
    let address = vars.get(ENGINE_ADDRESS).map(String::as_str);
    let socket = DockerRuntime::socket_of(address);
    if let Some(path) = &socket {
        if let Some(finding) = unreachable(path, vars.contains_key(COORDINATOR)) {
            findings.push(finding);
            return None;
        }
        findings.extend(judge::socket(path, mode(path)));
    }
    let docker = match DockerRuntime::connect_at(address) {
        Ok(docker) => docker,
        Err(error) => {
            let advice = "set DOCKER_HOST to an address such as unix:///var/run/docker.sock";
            let what = format!("its address can't be used: {}", error_chain(&error));
            findings.push(judge::problem("engine", "", what, advice));
            return None;
        }
    };
    match docker.report().await {
        Ok((report, dump)) => {
            findings.extend(judge::engine(&report));
            Some((report.root, dump))
        }
        Err(error) => {
            let advice = "look at the engine: systemctl status docker; journalctl -u docker";
            let what = error_chain(&error);
            findings.push(judge::problem("engine", "", what, advice));
            None
        }
    }
}

/// Why nobody can be reached on the engine's socket. Only a host with an agent needs an engine.
fn unreachable(path: &Path, has_agent: bool) -> Option<HostFinding> {
    let error = UnixStream::connect(path).err()?;
    let shown = path.display();
    Some(match error.kind() {
        ErrorKind::NotFound if has_agent => {
            let what = format!("there is none on this host: no {shown}");
            judge::problem("engine", "", what, "install and start Docker")
        }
        ErrorKind::NotFound => {
            let what = format!("there is none on this host: no {shown}");
            judge::unknown("engine", what, "install Docker if an agent is to run here")
        }
        ErrorKind::PermissionDenied => {
            let what = format!("{shown} may not be used by this user");
            judge::unknown("engine", what, "run muster doctor as root")
        }
        _ => {
            let what = format!("nobody listens on {shown}: {error}");
            let advice =
                "start the engine: systemctl start docker; journalctl -u docker says why it ended";
            judge::problem("engine", "", what, advice)
        }
    })
}

/// What systemd says about the clock: `yes` or `no`; `None` where there is no systemd.
async fn clock_sync() -> Option<String> {
    let mut command = tokio::process::Command::new("timedatectl");
    command.args(["show", "--property=NTPSynchronized", "--value"]);
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(PROGRAM_DEADLINE, command.output()).await;
    let output = output.ok()?.ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The permission bits, if there is such a file.
fn mode(path: &Path) -> Option<u32> {
    let metadata = std::fs::metadata(path).ok()?;
    Some(metadata.permissions().mode() & 0o777)
}

#[cfg(test)]
mod tests;
