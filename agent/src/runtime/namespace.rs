//! A network namespace as it looks from outside.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::io;

/// Connections that are over and only wait for late packets: so many of them are no reason to doubt. Each
/// keeps one port of tens of thousands from being used again to the same destination for a minute.
const LATE: usize = 64;

/// What is asked of the engine for a container that only holds a network namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewParked {
    pub name: String,
    /// Its image has the init process as `/muster-init`.
    pub image: String,
    /// The bridge network.
    pub network: String,
    pub labels: BTreeMap<String, String>,
}

/// A hold on one namespace that never becomes a hold on another one.
pub trait NamespaceView: Debug + Send + Sync {
    /// What can be seen in it now.
    ///
    /// # Errors
    /// If the process that holds it is gone, or there is more to see than would be read.
    fn look(&self) -> io::Result<Traces>;
}

/// What whoever used a namespace may have left in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Traces {
    /// By table and inode; and connections that no process holds any more.
    pub sockets: BTreeSet<String>,
    /// Connections to somewhere else, from ports of the kernel's choice, that only wait for late packets.
    pub late: usize,
    /// Interfaces, addresses and routes.
    pub setup: String,
}

impl Traces {
    /// Whether nothing is left that was not there at `first`.
    #[must_use]
    pub fn is_clean_after(&self, first: &Self) -> bool {
        let Self {
            sockets,
            late,
            setup,
        } = self;
        *sockets == first.sockets && *setup == first.setup && *late <= LATE
    }
}
