//! Reports that the coordinator has not acknowledged. Each is sent on every new stream until it is.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use muster_core::ids::AttemptId;
use muster_proto::v1 as pb;
use tokio::sync::Notify;

/// Bounded by what the agent holds: at most three reports per attempt.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    inner: Mutex<Inner>,
    added: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    last: u64,
    /// By order of arrival.
    pending: BTreeMap<u64, (AttemptId, pb::Report)>,
}

impl Outbox {
    pub(crate) fn put(&self, attempt: AttemptId, report: pb::Report) {
        let mut inner = self.lock();
        inner.last += 1;
        let number = inner.last;
        inner.pending.insert(number, (attempt, report));
        drop(inner);
        self.added.notify_one();
    }

    /// Drops the attempt's reports up to `seq`.
    pub(crate) fn acknowledge(&self, attempt: AttemptId, seq: u64) {
        self.lock()
            .pending
            .retain(|_, (of, report)| *of != attempt || report.seq > seq);
    }

    /// Sends what there is about an attempt once more.
    pub(crate) fn repeat(&self, attempt: AttemptId) -> bool {
        let mut inner = self.lock();
        let known: Vec<_> = inner
            .pending
            .extract_if(.., |_, (of, _)| *of == attempt)
            .collect();
        let any = !known.is_empty();
        for (_, entry) in known {
            inner.last += 1;
            let number = inner.last;
            inner.pending.insert(number, entry);
        }
        drop(inner);
        if any {
            self.added.notify_one();
        }
        any
    }

    /// Up to `most` reports that came after the one numbered `after`, with their numbers.
    pub(crate) fn after(&self, after: u64, most: usize) -> Vec<(u64, pb::Report)> {
        let inner = self.lock();
        let newer = inner.pending.range(after + 1..);
        newer
            .take(most)
            .map(|(number, (_, report))| (*number, report.clone()))
            .collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().pending.len()
    }

    /// Returns when a report was added since the last call.
    pub(crate) async fn added(&self) {
        self.added.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no holder of the lock panics")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire;

    #[test]
    fn reports_stay_until_they_are_acknowledged() {
        let id: AttemptId = "00000000000000000000000000.0-1".parse().unwrap();
        let outbox = Outbox::default();
        for seq in 1..=3 {
            let news = pb::report::News::Accepted(pb::Accepted {});
            outbox.put(id, wire::report(id, seq, news));
        }
        let numbers = |after| -> Vec<_> {
            let found = outbox.after(after, 10);
            found
                .into_iter()
                .map(|(n, report)| (n, report.seq))
                .collect()
        };
        assert_eq!(numbers(0), [(1, 1), (2, 2), (3, 3)]);
        assert_eq!(numbers(2), [(3, 3)]);
        outbox.acknowledge(id, 2);
        assert_eq!(numbers(0), [(3, 3)]);
        assert!(outbox.repeat(id));
        assert_eq!(numbers(3), [(4, 3)]);
        outbox.acknowledge(id, 3);
        assert_eq!(outbox.len(), 0);
        assert!(!outbox.repeat(id));
    }
}
