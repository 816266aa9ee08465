//! What the engine says of itself, for `muster doctor`.

use std::path::PathBuf;

use bollard::models::{SystemInfo, SystemVersion};

use super::{DockerRuntime, INSPECT, within};
use crate::doctor::EngineDump;
use crate::runtime::EngineError;

/// The parts that are judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EngineReport {
    pub version: String,
    pub live_restore: bool,
    pub storage_driver: String,
    pub log_driver: String,
    /// `1` or `2`.
    pub cgroup_version: String,
    pub cgroup_driver: String,
    pub runc: Option<String>,
    /// Limits of tasks that it can't enforce.
    pub missing_limits: Vec<&'static str>,
    /// Where it keeps images and containers, if it is on this host.
    pub root: Option<PathBuf>,
}

impl DockerRuntime {
    /// # Errors
    /// If the engine does not answer in time, or refuses.
    pub(crate) async fn report(&self) -> Result<(EngineReport, EngineDump), EngineError> {
        let info = within("info", INSPECT, self.docker.info()).await?;
        let version = within("version", INSPECT, self.docker.version()).await?;
        let dump = EngineDump {
            info: serde_json::to_value(&info).expect("what was read from JSON is JSON"),
            version: serde_json::to_value(&version).expect("what was read from JSON is JSON"),
        };
        let root = info.docker_root_dir.clone().map(PathBuf::from);
        let root = root.filter(|_| self.socket.is_some());
        Ok((read(info, version, root), dump))
    }
}

fn read(info: SystemInfo, version: SystemVersion, root: Option<PathBuf>) -> EngineReport {
    let components = version.components.unwrap_or_default();
    let runc = components.into_iter().find(|one| one.name == "runc");
    // An engine that says nothing about a limit is not accused.
    let limits = [
        ("memory", info.memory_limit),
        ("cpu", info.cpu_cfs_quota),
        ("pids", info.pids_limit),
    ];
    let missing = limits.into_iter().filter(|(_, kept)| *kept == Some(false));
    EngineReport {
        version: info.server_version.unwrap_or_default(),
        live_restore: info.live_restore_enabled.unwrap_or(false),
        storage_driver: info.driver.unwrap_or_default(),
        log_driver: info.logging_driver.unwrap_or_default(),
        cgroup_version: info
            .cgroup_version
            .map_or_else(String::new, |word| word.to_string()),
        cgroup_driver: info
            .cgroup_driver
            .map_or_else(String::new, |word| word.to_string()),
        runc: runc.map(|runc| runc.version),
        missing_limits: missing.map(|(limit, _)| limit).collect(),
        root,
    }
}
