//! What this host lets tasks do, whatever the coordinator says. See `docs/policy.md`.

use std::io;

use muster_core::image::Image;
use muster_core::spec::limits;
use muster_proto::v1 as pb;
use serde::Deserialize;

use crate::config::parse_size;

/// The policy file, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Registries that images may come from; `None`: any. Images that only this host holds are
    /// allowed with `None` only.
    pub registries: Option<Vec<String>>,
    pub allow_writable_root: bool,
    pub allow_root_user: bool,
    pub allow_bridge_network: bool,
    /// Tasks may get a network namespace that an earlier task of their team had.
    pub pooled_networks: bool,
    /// What the engine is to run containers with, by its own name for it. `None`: its default.
    pub oci_runtime: Option<String>,
    /// Of one task.
    pub max_memory_bytes: u64,
    /// Of one task.
    pub max_cpu_millis: u32,
}

impl Default for Policy {
    /// Any registry; no writable root file system; no root user; both networks, none of them pooled; the engine's own runtime; any size.
    fn default() -> Self {
        Self {
            registries: None,
            allow_writable_root: false,
            allow_root_user: false,
            allow_bridge_network: true,
            pooled_networks: false,
            oci_runtime: None,
            max_memory_bytes: limits::MEMORY_MAX,
            max_cpu_millis: limits::CPU_MILLIS,
        }
    }
}

/// Why a policy file can't be used.
#[derive(Debug, thiserror::Error)]
pub enum BadPolicy {
    #[error("it can't be read")]
    Read { source: io::Error },
    #[error("it is not a policy: {message}")]
    Syntax { message: String },
    #[error("max_memory: {text:?} is not a size such as 4GiB")]
    Memory { text: String },
    #[error("networks: {text:?} is neither bridge nor none")]
    Network { text: String },
}

/// The file as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    registries: Option<Vec<String>>,
    #[serde(default)]
    allow_writable_root: bool,
    #[serde(default)]
    allow_root_user: bool,
    networks: Option<Vec<String>>,
    pooled_networks: Option<bool>,
    runtime: Option<String>,
    max_memory: Option<String>,
    max_cpus: Option<u32>,
}

impl Policy {
    /// Reads the text of a policy file. What it doesn't name is as in the default policy.
    ///
    /// # Errors
    /// An unknown field is an error: a misspelled rule must not be no rule.
    pub fn parse(text: &str) -> Result<Self, BadPolicy> {
        let File {
            registries,
            allow_writable_root,
            allow_root_user,
            networks,
            pooled_networks,
            runtime,
            max_memory,
            max_cpus,
        } = serde_saphyr::from_str(text).map_err(|bad| BadPolicy::Syntax {
            message: bad.to_string(),
        })?;
        let all = Self::default();
        if let Some(text) = networks
            .iter()
            .flatten()
            .find(|name| *name != "bridge" && *name != "none")
        {
            return Err(BadPolicy::Network { text: text.clone() });
        }
        let max_memory_bytes = match max_memory {
            Some(text) => parse_size(&text).ok_or(BadPolicy::Memory { text })?,
            None => all.max_memory_bytes,
        };
        let bridge = |names: Vec<String>| names.iter().any(|name| name == "bridge");
        Ok(Self {
            registries,
            allow_writable_root,
            allow_root_user,
            allow_bridge_network: networks.is_none_or(bridge),
            pooled_networks: pooled_networks.unwrap_or(all.pooled_networks),
            oci_runtime: runtime,
            max_memory_bytes,
            max_cpu_millis: max_cpus.map_or(all.max_cpu_millis, |cpus| cpus.saturating_mul(1000)),
        })
    }

    /// Whether this host takes such a task.
    pub(crate) fn check(&self, image: &Image, spec: &pb::JobSpec) -> Result<(), Forbidden> {
        self.check_image(image)?;
        if spec.writable_root && !self.allow_writable_root {
            return Err(Forbidden::WritableRoot);
        }
        if is_root(&spec.user) && !self.allow_root_user {
            return Err(Forbidden::RootUser {
                user: spec.user.clone(),
            });
        }
        if spec.network() != pb::Network::None && !self.allow_bridge_network {
            return Err(Forbidden::Bridge);
        }
        let pb::Resources {
            cpu_millis,
            memory_bytes,
            ..
        } = spec.resources.clone().unwrap_or_default();
        if memory_bytes > self.max_memory_bytes {
            return Err(Forbidden::Memory {
                wanted: memory_bytes,
                most: self.max_memory_bytes,
            });
        }
        if cpu_millis > self.max_cpu_millis {
            return Err(Forbidden::Cpus {
                wanted: cpu_millis,
                most: self.max_cpu_millis,
            });
        }
        Ok(())
    }

    /// Whether images may come from there.
    pub(crate) fn check_image(&self, image: &Image) -> Result<(), Forbidden> {
        let Some(allowed) = &self.registries else {
            return Ok(());
        };
        let registry = match image {
            Image::Remote { repository, .. } => repository.registry(),
            Image::Local { .. } => "this host's own images",
        };
        if allowed.iter().any(|known| known == registry) {
            return Ok(());
        }
        Err(Forbidden::Registry {
            registry: registry.to_owned(),
        })
    }
}

/// `0`, `root`, or either with a group. A group of root is as good as root for many files.
pub(crate) fn is_root(user: &str) -> bool {
    let zero = |part: &str| part == "root" || part.parse::<u64>() == Ok(0);
    user.split(':').any(zero)
}

/// The rule that a task breaks, with the value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Forbidden {
    #[error("the host's policy allows no images from {registry} (registries)")]
    Registry { registry: String },
    #[error("the host's policy allows no writable root file system (allow_writable_root)")]
    WritableRoot,
    #[error("the host's policy allows no root user, and the task's is {user:?} (allow_root_user)")]
    RootUser { user: String },
    #[error("the host's policy allows no bridge network (networks)")]
    Bridge,
    #[error(
        "the host's policy allows {most} bytes of memory, and the task wants {wanted} (max_memory)"
    )]
    Memory { wanted: u64, most: u64 },
    #[error(
        "the host's policy allows {most} thousandths of a CPU, and the task wants {wanted} (max_cpus)"
    )]
    Cpus { wanted: u32, most: u32 },
}

#[cfg(test)]
mod tests;
