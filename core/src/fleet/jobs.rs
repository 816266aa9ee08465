//! Live jobs by id. However long the queue, a job of which nothing has begun takes little more than what was
//! submitted: the rest of it follows from that.

use std::borrow::Cow;
use std::collections::{BTreeMap, btree_map};
use std::sync::Arc;

use crate::ids::JobId;
use crate::job::{Counts, Job, LiveJob};

use super::tally::Standing;

#[derive(Debug, Default)]
pub(super) struct Jobs(BTreeMap<JobId, Kept>);

#[derive(Debug)]
enum Kept {
    /// As it was when its submission was settled.
    Submitted { job: Arc<Job>, seq: u64 },
    /// Boxed, for a tree's nodes are half empty.
    Begun(Box<LiveJob>),
}

impl Kept {
    fn live(&self) -> Cow<'_, LiveJob> {
        match self {
            Self::Submitted { job, seq } => Cow::Owned(submitted(job, *seq)),
            Self::Begun(live) => Cow::Borrowed(live),
        }
    }
}

/// A job as it was settled: it is in the tally.
fn submitted(job: &Arc<Job>, seq: u64) -> LiveJob {
    let mut live = LiveJob::new(Arc::clone(job), seq);
    live.counted = live.progress.counts.standing();
    live
}

impl Jobs {
    pub(super) fn get(&self, id: JobId) -> Option<Cow<'_, LiveJob>> {
        self.0.get(&id).map(Kept::live)
    }

    /// The job, if something of it may have begun: only such a job has tasks to look at.
    pub(super) fn begun(&self, id: JobId) -> Option<&LiveJob> {
        match self.0.get(&id)? {
            Kept::Begun(live) => Some(live),
            Kept::Submitted { .. } => None,
        }
    }

    /// The job, which may begin now.
    pub(super) fn get_mut(&mut self, id: JobId) -> Option<&mut LiveJob> {
        let kept = self.0.get_mut(&id)?;
        if let Kept::Submitted { job, seq } = kept {
            *kept = Kept::Begun(Box::new(submitted(job, *seq)));
        }
        match kept {
            Kept::Begun(live) => Some(live),
            Kept::Submitted { .. } => None,
        }
    }

    pub(super) fn contains(&self, id: JobId) -> bool {
        self.0.contains_key(&id)
    }

    /// A new one. [`rest`](Self::rest) follows when it is settled.
    pub(super) fn insert(&mut self, live: LiveJob) {
        self.0.insert(live.job.id, Kept::Begun(Box::new(live)));
    }

    /// The job was settled: keeps no more of it than is needed.
    pub(super) fn rest(&mut self, id: JobId) {
        if let btree_map::Entry::Occupied(mut entry) = self.0.entry(id)
            && let Kept::Begun(live) = entry.get()
            && **live == submitted(&live.job, live.seq)
        {
            let (job, seq) = (Arc::clone(&live.job), live.seq);
            entry.insert(Kept::Submitted { job, seq });
        }
    }

    pub(super) fn remove(&mut self, id: JobId) -> Option<LiveJob> {
        Some(match self.0.remove(&id)? {
            Kept::Submitted { job, seq } => submitted(&job, seq),
            Kept::Begun(live) => *live,
        })
    }

    /// In order.
    pub(super) fn ids(&self) -> impl Iterator<Item = JobId> {
        self.0.keys().copied()
    }

    /// Each with what of it is in the tally, in order of id.
    pub(super) fn counted(&self) -> impl Iterator<Item = (&Job, Standing)> {
        self.0.values().map(|kept| match kept {
            Kept::Submitted { job, .. } => (&**job, Counts::submitted(job.array).standing()),
            Kept::Begun(live) => (&*live.job, live.counted),
        })
    }

    /// In order of id.
    pub(super) fn iter(&self) -> impl Iterator<Item = Cow<'_, LiveJob>> {
        self.0.values().map(Kept::live)
    }

    /// Those of which something may have begun, in order of id.
    pub(super) fn all_begun(&self) -> impl Iterator<Item = &LiveJob> {
        self.0.values().filter_map(|kept| match kept {
            Kept::Begun(live) => Some(&**live),
            Kept::Submitted { .. } => None,
        })
    }

    /// Those after `id`, in order of id.
    pub(super) fn after(&self, id: Option<JobId>) -> impl Iterator<Item = Cow<'_, LiveJob>> {
        let from = id.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
        let range = self.0.range((from, std::ops::Bound::Unbounded));
        range.map(|(_, kept)| kept.live())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::tests::rig::{Rig, agent, attempt, spec};
    use crate::ids::AttemptNo;
    use crate::ranges::Ranges;

    #[test]
    fn a_job_that_waits_is_kept_as_it_was_submitted() {
        let mut rig = Rig::new();
        let (first, _) = rig.submit(spec(), 3);
        let (second, _) = rig.submit(spec(), 1);
        assert!(rig.fleet.jobs.begun(first).is_none());
        let waits = rig.fleet.job(second).unwrap().into_owned();
        assert_eq!((waits.seq, waits.assignable()), (1, 1));

        rig.hello("a1", 1);
        let begun = rig.fleet.jobs.begun(first).unwrap();
        assert_eq!(begun.progress.counts.preparing, 1);
        assert!(rig.fleet.jobs.begun(second).is_none());
        assert!(rig.fleet.jobs.all_begun().eq([begun]));
        assert!(rig.fleet.jobs.ids().eq([first, second]));
        assert_eq!(rig.fleet.agents[&agent("a1")].live.len(), 1);
        assert!(rig.fleet.task(attempt(first, 0, 1).task).is_some());
    }

    #[test]
    fn what_does_not_follow_from_the_submission_is_kept() {
        let mut rig = Rig::new();
        let changes: [fn(&mut LiveJob); 4] = [
            |live| live.fence = AttemptNo(1),
            |live| live.progress.unstarted = Ranges::default(),
            |live| live.progress.counts.pending -= 1,
            |live| live.ready.insert(0, 0),
        ];
        for change in changes {
            let (id, _) = rig.submit(spec(), 2);
            let live = rig.fleet.jobs.get_mut(id).unwrap();
            let as_submitted = live.clone();
            change(live);
            let changed = live.clone();
            rig.fleet.jobs.rest(id);
            assert_eq!(rig.fleet.jobs.begun(id), Some(&changed));

            *rig.fleet.jobs.get_mut(id).unwrap() = as_submitted.clone();
            rig.fleet.jobs.rest(id);
            assert_eq!(rig.fleet.jobs.begun(id), None);
            assert_eq!(rig.fleet.job(id).unwrap().into_owned(), as_submitted);
        }
    }
}
