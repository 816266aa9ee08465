//! How much one sender may ask for, and which signed deliveries were here before.

use std::collections::BTreeMap;
use std::net::IpAddr;

use muster_core::time::{Millis, Timestamp};

use super::Adapter;

/// In one window from one source.
const DELIVERIES_MAX: u32 = 60;
const WINDOW: Millis = Millis::from_secs(60);
/// A signature is good for 5 minutes before and after its time, so an id must be known for longer.
const REMEMBERED: Millis = Millis::from_secs(11 * 60);
/// Sources, and ids, that are kept at once.
const ENTRIES_MAX: usize = 10_000;

/// Good and bad deliveries are counted apart: strangers cannot use up what a registry may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Hints,
    Rejected,
}

pub(super) type Source = (Option<IpAddr>, Adapter, Kind);

#[derive(Debug, Default)]
pub(super) struct Limits {
    windows: BTreeMap<Source, (Timestamp, u32)>,
    ids: BTreeMap<String, Timestamp>,
}

impl Limits {
    /// Whether `source` has used up its window.
    pub(super) fn is_spent(&self, now: Timestamp, source: Source) -> bool {
        let open = self.windows.get(&source);
        open.is_some_and(|(since, count)| now.since(*since) < WINDOW && *count >= DELIVERIES_MAX)
    }

    pub(super) fn count(&mut self, now: Timestamp, source: Source) {
        if self.windows.len() >= ENTRIES_MAX && !self.windows.contains_key(&source) {
            self.windows
                .retain(|_, (since, _)| now.since(*since) < WINDOW);
            if self.windows.len() >= ENTRIES_MAX {
                return; // that many addresses at once are not stopped by counting them
            }
        }
        let window = self.windows.entry(source).or_insert((now, 0));
        if now.since(window.0) >= WINDOW {
            *window = (now, 0);
        }
        window.1 += 1;
    }

    /// Remembers `id`; false if it is known.
    pub(super) fn is_new(&mut self, now: Timestamp, id: String) -> bool {
        if self.ids.len() >= ENTRIES_MAX {
            self.ids.retain(|_, seen| now.since(*seen) < REMEMBERED);
        }
        if self.ids.len() >= ENTRIES_MAX {
            let oldest = self.ids.iter().min_by_key(|(_, seen)| **seen);
            if let Some(oldest) = oldest.map(|(id, _)| id.clone()) {
                self.ids.remove(&oldest);
            }
        }
        let seen = self.ids.get(&id);
        let known = seen.is_some_and(|seen| now.since(*seen) < REMEMBERED);
        if !known {
            self.ids.insert(id, now);
        }
        !known
    }
}
