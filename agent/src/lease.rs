//! What an agent remembers of its contacts with the coordinator, and what that means for attempts that must
//! not go on without. Pure.
//!
//! All times are milliseconds of the clock that also runs while the host sleeps and begins anew with each of its
//! starts. A contact counts from when the message was *sent* that the coordinator answered.

use std::collections::VecDeque;

use muster_core::time::Millis;

/// Gaps that are told apart.
const GAPS: usize = 64;

/// When the coordinator was last known to hear this agent, and for how long it did not before that.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Contacts {
    /// 0: never since the host's start, as far as is known.
    last: u64,
    /// Each longer than all after it.
    gaps: VecDeque<Gap>,
}

/// Nothing was heard between two contacts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Gap {
    /// When that was over, as [`Contacts::last`].
    until: u64,
    length: u64,
}

impl Contacts {
    /// Those of an agent that knows nothing but the last one; 0: not even that.
    #[must_use]
    pub const fn resume(last: u64) -> Self {
        let gaps = VecDeque::new();
        Self { last, gaps }
    }

    /// 0: not since the host's start.
    #[must_use]
    pub const fn last(&self) -> u64 {
        self.last
    }

    /// A message that was sent then was answered.
    pub fn note(&mut self, sent: u64) {
        let before = self.last;
        if before >= sent {
            return;
        }
        let length = match before {
            // How long before the host's start the contact was is not known.
            0 => u64::MAX,
            before => sent - before,
        };
        while self.gaps.back().is_some_and(|gap| gap.length <= length) {
            self.gaps.pop_back();
        }
        self.gaps.push_back(Gap {
            until: sent,
            length,
        });
        if self.gaps.len() > GAPS
            && let Some(first) = self.gaps.pop_front()
            && let Some(second) = self.gaps.front_mut()
        {
            second.length = first.length; // as if it had lasted until then
        }
        self.last = sent;
    }

    /// The longest time without a contact of those that ended after `since`, in milliseconds.
    fn longest_gap_since(&self, since: u64) -> u64 {
        let later = self.gaps.iter().find(|gap| gap.until > since);
        later.map_or(0, |gap| gap.length)
    }

    /// From which contact on an attempt counts silences that comes to this process with `limit`, if `accepted` was
    /// the last one before it came to the agent's first. `None`: too long ago, or in an earlier start of the host.
    /// Nobody knows then whether it was silent for too long in between.
    #[must_use]
    pub fn since(&self, accepted: Option<u64>, limit: Millis) -> Option<u64> {
        let passed = self.last.saturating_sub(accepted?);
        (passed <= limit.0).then_some(self.last)
    }

    /// Until an attempt must stop that may go on for `limit` without a contact.
    #[must_use]
    pub const fn left(&self, now: u64, limit: Millis) -> Millis {
        Millis(limit.0.saturating_sub(now.saturating_sub(self.last)))
    }

    /// Whether such an attempt must not start any more: nothing was heard for too long, now or at any time
    /// since [`Contacts::since`]. Being heard again changes nothing about what the coordinator made of the
    /// silence. A host that was not heard since its start does not know how long it was away.
    #[must_use]
    pub fn is_cut_off(&self, now: u64, limit: Millis, since: Option<u64>) -> bool {
        let broken = since.is_none_or(|since| self.longest_gap_since(since) > limit.0);
        broken || self.last == 0 || self.left(now, limit) == Millis(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_counts_for_whoever_was_there_before_it_ended() {
        let mut contacts = Contacts::default();
        assert_eq!(contacts.longest_gap_since(0), 0);
        for at in [5_000, 6_000, 36_000, 38_000, 37_000, 39_000, 40_500] {
            contacts.note(at);
        }
        let longest = [0, 4_999, 5_000, 35_999, 36_000, 38_000, 39_000, 40_500];
        let longest = longest.map(|since| contacts.longest_gap_since(since));
        let first = u64::MAX;
        assert_eq!(
            longest,
            [first, first, 30_000, 30_000, 2_000, 1_500, 1_500, 0]
        );
        // The next process of the agent counts the time that it was away for.
        let found = contacts.last();
        let mut next = Contacts::resume(found);
        next.note(90_500);
        assert_eq!(next.longest_gap_since(found), 50_000);
    }

    #[test]
    fn no_more_gaps_are_kept_than_there_is_room_for_and_none_is_made_shorter() {
        let mut contacts = Contacts::default();
        let mut at = 1_000;
        contacts.note(at);
        for length in (1..=200).rev() {
            at += length;
            contacts.note(at);
        }
        assert!(contacts.gaps.len() <= GAPS);
        assert!(contacts.longest_gap_since(1_000) >= 200);
        assert_eq!(contacts.longest_gap_since(at - 1), 1);
    }

    #[test]
    fn what_was_silent_for_too_long_is_cut_off_and_stays_so() {
        let limit = Millis(60_000);
        let mut contacts = Contacts::resume(100_000);
        assert_eq!(contacts.left(130_000, limit), Millis(30_000));
        assert!(!contacts.is_cut_off(159_999, limit, Some(100_000)));
        assert!(contacts.is_cut_off(160_000, limit, Some(100_000)));
        contacts.note(170_000);
        assert!(contacts.is_cut_off(171_000, limit, Some(100_000)));
        // What came after that was not silent.
        assert!(!contacts.is_cut_off(171_000, limit, Some(170_000)));
    }

    #[test]
    fn a_host_that_has_just_started_does_not_know_how_long_it_was_silent() {
        let mut contacts = Contacts::default();
        let limit = Millis(60_000);
        assert!(contacts.is_cut_off(20_000, limit, Some(0)));
        contacts.note(21_000);
        assert!(contacts.is_cut_off(22_000, limit, Some(0)));
        assert!(!contacts.is_cut_off(22_000, limit, Some(21_000)));
    }

    #[test]
    fn the_process_after_next_still_counts_the_silence_before_the_next() {
        let limit = Millis(60_000);
        // Accepted at 100 s; then silence, a process that was heard at 300 s and died, and this one.
        let contacts = Contacts::resume(300_000);
        assert_eq!(contacts.since(Some(100_000), limit), None);
        assert!(contacts.is_cut_off(301_000, limit, None));
        // Of an attempt that was accepted lately, or in an earlier start of the host.
        assert_eq!(contacts.since(Some(250_000), limit), Some(300_000));
        assert_eq!(contacts.since(None, limit), None);
    }
}
