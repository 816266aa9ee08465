//! What an attempt used: read exactly from a control group of its own, above the container's, which
//! outlives the container; or sampled where there is none.

use std::fs;
use std::path::{Path, PathBuf};

use crate::runtime::Stats;

const ROOT: &str = "/sys/fs/cgroup";
/// Above the attempts' groups.
const PARENT: &str = "/muster";

/// The control group of one attempt, e.g. `/muster/JOB.0-1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AttemptGroup {
    name: String,
}

/// Peak memory and CPU time. Absent: not measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Measured {
    pub peak_memory_bytes: Option<u64>,
    pub cpu_micros: Option<u64>,
}

impl Measured {
    /// Takes in a sample.
    pub(crate) fn sample(&mut self, stats: Stats) {
        let Stats {
            cpu_micros,
            memory_bytes,
        } = stats;
        self.peak_memory_bytes = self.peak_memory_bytes.max(Some(memory_bytes));
        self.cpu_micros = self.cpu_micros.max(Some(cpu_micros));
    }
}

impl AttemptGroup {
    pub(crate) fn new(attempt: &str) -> Self {
        Self {
            name: format!("{PARENT}/{attempt}"),
        }
    }

    /// As the engine takes it.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Whether the engine's groups are this host's. Only then there is something to read.
    pub(crate) fn exists(&self) -> bool {
        self.under("memory").is_dir() || self.under("").join("cgroup.procs").is_file()
    }

    /// The directory in the hierarchy of a controller, or in the unified one.
    fn under(&self, controller: &str) -> PathBuf {
        Path::new(ROOT)
            .join(controller)
            .join(self.name.trim_start_matches('/'))
    }

    /// Reads the counters of everything that ran in the group.
    pub(crate) fn read(&self) -> Measured {
        let number = |file: PathBuf| fs::read_to_string(file).ok()?.trim().parse::<u64>().ok();
        let first = number(self.under("memory").join("memory.max_usage_in_bytes"));
        let second = || number(self.under("").join("memory.peak"));
        let cpu = number(self.under("cpuacct").join("cpuacct.usage"));
        let unified = || {
            let stat = fs::read_to_string(self.under("").join("cpu.stat")).ok()?;
            let line = |line: &str| line.strip_prefix("usage_usec ")?.trim().parse().ok();
            stat.lines().find_map(line)
        };
        Measured {
            peak_memory_bytes: first.or_else(second),
            cpu_micros: cpu.map(|nanos| nanos / 1000).or_else(unified),
        }
    }

    /// Removes the group from every hierarchy it is in. It must be empty.
    pub(crate) fn remove(&self) {
        let hierarchies = fs::read_dir(ROOT).into_iter().flatten().flatten();
        for hierarchy in hierarchies {
            // Links such as `cpu` for `cpu,cpuacct` lead to the same directory twice; nothing is there then.
            let dir = hierarchy.path().join(self.name.trim_start_matches('/'));
            if dir.is_dir() {
                remove_group(&dir);
            }
        }
        let unified = self.under("");
        if unified.is_dir() {
            remove_group(&unified);
        }
    }
}

fn remove_group(dir: &Path) {
    if let Err(error) = fs::remove_dir(dir) {
        tracing::debug!(%error, "control group not removed");
    }
}
