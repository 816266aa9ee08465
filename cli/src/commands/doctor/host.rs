//! What the daemons of this host were told, and where they keep their data.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::config::{SYSTEM_DIR, daemon_file};

/// Where daemons keep their data unless they are told otherwise; the units have their own.
const DATA_DIRS: [&str; 4] = [
    "/var/lib/muster-coordinator",
    "/var/lib/muster-agent",
    "/var/lib/muster/coordinator",
    "/var/lib/muster/agent",
];
const DATA_DIR_VARIABLES: [&str; 2] = ["MUSTER_COORDINATOR_DATA_DIR", "MUSTER_AGENT_DATA_DIR"];
/// The daemons, and what their variables begin with.
const DAEMONS: [(&str, &str); 2] = [
    ("coordinator", "MUSTER_COORDINATOR_"),
    ("agent", "MUSTER_AGENT_"),
];

/// What can be known of this host's daemons without asking them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Host {
    /// Of the files in `/etc/muster`, and this process's own, which count more.
    pub(super) vars: BTreeMap<String, String>,
    pub(super) data_dirs: Vec<PathBuf>,
    /// Files that there are and that can't be read, and why.
    pub(super) unreadable: Vec<(PathBuf, String)>,
}

impl Host {
    pub(super) fn of_process(named: &[PathBuf]) -> Self {
        let own = std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        });
        Self::read(Path::new(SYSTEM_DIR), own, named)
    }

    /// `named`: data directories that the user named.
    pub(super) fn read(
        system: &Path,
        own: impl Iterator<Item = (String, String)>,
        named: &[PathBuf],
    ) -> Self {
        let mut host = Self::default();
        for (daemon, prefix) in DAEMONS {
            host.add_settings(&system.join(format!("{daemon}.yaml")), prefix);
            host.add_variables(&system.join(format!("{daemon}.env")));
        }
        host.vars.extend(own);
        host.data_dirs = host.data_dirs(named);
        host
    }

    fn add_settings(&mut self, file: &Path, prefix: &str) {
        match daemon_file(file) {
            Ok(settings) => {
                let named = settings.into_iter();
                let named =
                    named.map(|(key, value)| (format!("{prefix}{}", key.to_uppercase()), value));
                self.vars.extend(named);
            }
            Err(error) => {
                let why = muster_core::error_chain::error_chain(&error);
                self.unreadable.push((file.to_owned(), why));
            }
        }
    }

    /// A file of variables as systemd reads it.
    fn add_variables(&mut self, file: &Path) {
        match std::fs::read_to_string(file) {
            Ok(text) => self.vars.extend(text.lines().filter_map(variable)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => self.unreadable.push((file.to_owned(), error.to_string())),
        }
    }

    fn data_dirs(&self, named: &[PathBuf]) -> Vec<PathBuf> {
        let set = DATA_DIR_VARIABLES
            .into_iter()
            .filter_map(|name| self.vars.get(name));
        let var = |name| self.vars.get(name).filter(|value| !value.is_empty());
        let home = var("HOME").map(|home| Path::new(home).join(".local/share"));
        let share = var("XDG_DATA_HOME").map(PathBuf::from).or(home);
        // Those of `muster up`.
        let up = share.map(|share| [share.join("muster"), share.join("muster/agent")]);
        let all = named.iter().cloned();
        let all = all
            .chain(set.map(PathBuf::from))
            .chain(up.into_iter().flatten());
        let all: BTreeSet<PathBuf> = all.chain(DATA_DIRS.map(PathBuf::from)).collect();
        all.into_iter().filter(|path| path.exists()).collect()
    }
}

/// `NAME=value` or `NAME="value"`; comments and empty lines are nothing.
fn variable(line: &str) -> Option<(String, String)> {
    let line = line.trim();
    if line.starts_with(['#', ';']) {
        return None;
    }
    let (name, value) = line.split_once('=')?;
    let value = value.trim();
    let quoted = ['"', '\''].into_iter().find_map(|quote| {
        let inner = value.strip_prefix(quote)?;
        inner.strip_suffix(quote)
    });
    Some((name.trim().to_owned(), quoted.unwrap_or(value).to_owned()))
}

#[cfg(test)]
mod tests;
