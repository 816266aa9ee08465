//! What containers really did, written by the modelled engines: the truth that reports are held against.

use std::collections::BTreeMap;

use muster_core::ids::AttemptId;

/// Who ended a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    Itself,
    /// A signal of the agent.
    Agent,
    /// The engine, the host or a stranger.
    Other,
}

#[derive(Debug, Default)]
pub(crate) struct Ledger(BTreeMap<AttemptId, Entry>);

#[derive(Debug, Default)]
struct Entry {
    starts: u32,
    ran: bool,
    end: Option<(i32, Who)>,
}

impl Ledger {
    /// A start was asked for. Returns how often that was so, this time included.
    pub(crate) fn start_asked(&mut self, id: AttemptId) -> u32 {
        let entry = self.0.entry(id).or_default();
        entry.starts += 1;
        entry.starts
    }

    pub(crate) fn started(&mut self, id: AttemptId) {
        self.0.entry(id).or_default().ran = true;
    }

    pub(crate) fn ended(&mut self, id: AttemptId, code: i32, who: Who) {
        self.0.entry(id).or_default().end = Some((code, who));
    }

    pub(crate) fn end_of(&self, id: AttemptId) -> Option<(i32, Who)> {
        self.0.get(&id).and_then(|entry| entry.end)
    }

    pub(crate) fn ran(&self, id: AttemptId) -> bool {
        self.0.get(&id).is_some_and(|entry| entry.ran)
    }
}
