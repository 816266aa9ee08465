//! What containers really did, written by the modelled engines: the truth that reports are held against.

use std::collections::BTreeMap;

use muster_core::ids::{AttemptId, AttemptNo};

/// Who ended a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    Itself,
    /// A signal of the agent.
    Agent,
    /// The init process, because nobody renewed its lease.
    Lease,
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
    excused: bool,
}

impl Ledger {
    /// A start was asked for. Returns how often that was so, this time included.
    pub(crate) fn start_asked(&mut self, id: AttemptId) -> u32 {
        let entry = self.0.entry(id).or_default();
        entry.starts += 1;
        entry.starts
    }

    /// Its container never ran and is gone, and nobody has a note of it: it may be asked for once more.
    pub(crate) fn forget_start(&mut self, id: AttemptId) {
        if let Some(entry) = self.0.get_mut(&id).filter(|entry| !entry.ran) {
            entry.starts = 0;
        }
    }

    pub(crate) fn started(&mut self, id: AttemptId) {
        self.0.entry(id).or_default().ran = true;
    }

    pub(crate) fn ended(&mut self, id: AttemptId, code: i32, who: Who) {
        self.0.entry(id).or_default().end = Some((code, who));
    }

    /// Its signals were forgotten with the journal: nobody can tell them from its own end.
    pub(crate) fn excuse(&mut self, id: AttemptId) {
        self.0.entry(id).or_default().excused = true;
    }

    /// Nobody can say any more which container is its, so that it counts as one that never ran.
    pub(crate) fn disown(&mut self, id: AttemptId) {
        let disowned = Entry {
            excused: true,
            ..Entry::default()
        };
        self.0.insert(id, disowned);
    }

    pub(crate) fn is_excused(&self, id: AttemptId) -> bool {
        self.0.get(&id).is_some_and(|entry| entry.excused)
    }

    /// Whether its container runs.
    pub(crate) fn runs(&self, id: AttemptId) -> bool {
        let entry = self.0.get(&id);
        entry.is_some_and(|entry| entry.ran && entry.end.is_none())
    }

    /// Another attempt of its task whose container runs.
    pub(crate) fn runs_beside(&self, id: AttemptId) -> Option<AttemptId> {
        let of_task = |number| AttemptId {
            number: AttemptNo(number),
            ..id
        };
        let all = self.0.range(of_task(0)..=of_task(u32::MAX));
        let mut others = all.map(|(other, _)| *other).filter(|other| *other != id);
        others.find(|other| self.runs(*other))
    }

    pub(crate) fn end_of(&self, id: AttemptId) -> Option<(i32, Who)> {
        self.0.get(&id).and_then(|entry| entry.end)
    }

    pub(crate) fn ran(&self, id: AttemptId) -> bool {
        self.0.get(&id).is_some_and(|entry| entry.ran)
    }
}
