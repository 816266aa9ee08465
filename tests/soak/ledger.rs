//! The ground truth, apart from muster: which attempt was started how often, as the engines saw it.

use std::collections::BTreeMap;

/// Attempts of one task that can be told apart. A task that waits where hosts refuse it uses up many.
pub(crate) const ATTEMPTS: u32 = 128;

/// Starts of the attempts of one task; the first attempt is the lowest bit.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Starts {
    pub(crate) once: u128,
    /// Those that were started again.
    pub(crate) again: u128,
}

#[derive(Debug)]
pub(crate) struct Ledger {
    /// Of each job its tasks' place in `starts`.
    jobs: BTreeMap<String, (usize, usize)>,
    starts: Vec<Starts>,
    pub(crate) total: u64,
    /// Names that are no attempt of ours, or attempts beyond the last that is possible.
    pub(crate) strange: Vec<String>,
    /// Starts that came in before the submission was answered.
    early: Vec<(String, u32)>,
}

impl Ledger {
    pub(crate) fn new(tasks: usize) -> Self {
        Self {
            jobs: BTreeMap::new(),
            starts: Vec::with_capacity(tasks),
            total: 0,
            strange: Vec::new(),
            early: Vec::new(),
        }
    }

    pub(crate) fn add_job(&mut self, id: &str, tasks: usize) {
        let place = self.starts.len();
        self.starts.resize(place + tasks, Starts::default());
        self.jobs.insert(id.to_owned(), (place, tasks));
        for (name, count) in std::mem::take(&mut self.early) {
            self.note(name, count);
        }
    }

    /// A container was started so often. Its name ends with `JOB.INDEX-NUMBER`.
    pub(crate) fn note_start(&mut self, name: String, count: u32) {
        self.total += u64::from(count);
        self.note(name, count);
    }

    fn note(&mut self, name: String, count: u32) {
        let Some((job, index, number)) = parse(&name) else {
            return self.strange.push(name);
        };
        let Some((place, tasks)) = self.jobs.get(job).copied() else {
            return self.early.push((name, count));
        };
        if index >= tasks || number == 0 || number > ATTEMPTS {
            return self.strange.push(name);
        }
        let (starts, bit) = (&mut self.starts[place + index], 1 << (number - 1));
        if count > 1 || starts.once & bit != 0 {
            starts.again |= bit;
        }
        starts.once |= bit;
    }

    pub(crate) fn starts(&self, job: &str, index: usize) -> Starts {
        let (place, _) = self.jobs[job];
        self.starts[place + index]
    }

    /// Memory that it takes up: what was never written to takes none.
    pub(crate) fn bytes(&self) -> usize {
        size_of_val(self.starts.as_slice())
    }

    /// Starts of jobs that nobody submitted.
    pub(crate) fn unknown(&self) -> usize {
        self.early.len() + self.strange.len()
    }
}

/// `mu-CLUSTER-JOB.INDEX-NUMBER`.
fn parse(name: &str) -> Option<(&str, usize, u32)> {
    let mut parts = name.splitn(3, '-').skip(2);
    let (task, number) = parts.next()?.split_once('-')?;
    let (job, index) = task.split_once('.')?;
    Some((job, index.parse().ok()?, number.parse().ok()?))
}

#[test]
fn starts_are_counted_by_attempt_also_before_the_job_is_known() {
    let mut ledger = Ledger::new(2);
    ledger.note_start("mu-01234567-JOB.1-2".to_owned(), 1);
    assert_eq!(ledger.unknown(), 1);
    ledger.add_job("JOB", 2);
    ledger.note_start("mu-01234567-JOB.1-2".to_owned(), 1);
    ledger.note_start("mu-01234567-JOB.2-1".to_owned(), 1);
    let starts = ledger.starts("JOB", 1);
    assert_eq!((starts.once, starts.again), (0b10, 0b10));
    assert_eq!((ledger.total, ledger.unknown()), (3, 1));
}
