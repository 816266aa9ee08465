//! What is gathered while nobody has taken a restored store over.

use std::collections::{BTreeMap, BTreeSet};

use super::Fleet;
use crate::effect::{Effects, Notice, Record};
use crate::event::News;
use crate::ids::{AgentId, AttemptId, Term};
use crate::outcome::End;
use crate::safe_mode::SafeMode;
use crate::time::Timestamp;

#[derive(Debug)]
pub(super) struct Safe {
    pub(super) why: SafeMode,
    /// What the agents that have called hold.
    pub(super) called: BTreeMap<AgentId, BTreeSet<AttemptId>>,
    pub(super) taken_over: u32,
    /// Attempts that no task has room for.
    pub(super) strays: BTreeMap<AttemptId, Unknown>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unknown {
    pub(super) agent: AgentId,
    /// The report of its end, which is not acknowledged.
    pub(super) ended: Option<(u64, End)>,
}

impl Safe {
    pub(super) const fn new(why: SafeMode) -> Self {
        Self {
            why,
            called: BTreeMap::new(),
            taken_over: 0,
            strays: BTreeMap::new(),
        }
    }

    /// An agent listed what it holds; `live` are those of it that hold a task.
    pub(super) fn called(
        &mut self,
        agent: &AgentId,
        held: &BTreeSet<AttemptId>,
        live: &BTreeSet<AttemptId>,
    ) {
        self.strays
            .retain(|attempt, stray| stray.agent != *agent || held.contains(attempt));
        for attempt in held.difference(live) {
            self.strays.entry(*attempt).or_insert_with(|| Unknown {
                agent: agent.clone(),
                ended: None,
            });
        }
        self.called.insert(agent.clone(), held.clone());
    }

    /// An agent says something about an attempt that holds no task.
    pub(super) fn unknown(&mut self, agent: &AgentId, attempt: AttemptId, seq: u64, news: News) {
        let stray = self.strays.entry(attempt).or_insert_with(|| Unknown {
            agent: agent.clone(),
            ended: None,
        });
        match news {
            News::Ended(ended) => stray.ended = Some((seq, ended.end)),
            News::Accepted | News::Started { .. } | News::Refused { .. } => {}
        }
    }
}

impl Fleet {
    /// Why nothing is started or stopped, if so.
    #[must_use]
    pub fn safe_mode(&self) -> Option<&SafeMode> {
        self.safe.as_ref().map(|safe| &safe.why)
    }

    /// The store was put back by hand: as after a restore, but only a restore raises term and fences.
    pub(super) fn on_term_seen(
        &mut self,
        now: Timestamp,
        agent: AgentId,
        seen: Term,
        out: &mut Effects,
    ) {
        if matches!(self.safe_mode(), Some(SafeMode::Behind { .. })) {
            return; // known
        }
        let why = SafeMode::Behind {
            agent,
            seen,
            at: now,
        };
        self.safe = Some(Safe::new(why.clone()));
        out.record(Record::SafeMode(Some(why.clone())));
        out.notify(Notice::SafeModeEntered(why));
    }
}
