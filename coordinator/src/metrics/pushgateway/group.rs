//! One group: everything pushed about one job name of one team, merged over its attempts. No I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use muster_core::outcome::{Outcome, Usage};
use muster_core::promtext::{self, Family, Kind, Sample};
use muster_core::time::{Millis, Timestamp};

use super::super::{
    DURATION_BUCKETS, TASK_ATTEMPTS, TASK_CPU, TASK_DURATION, TASK_LAST_END, TASK_LAST_SUCCESS,
    TASK_PEAK_MEMORY, TASK_PEAK_MEMORY_MAX,
};

/// Series of the tasks' own in one group; each bucket of a histogram is one.
const SERIES_MAX: usize = 200;
/// 4 MiB to 64 GiB.
const MEMORY_BUCKETS: [f64; 8] = [
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
    268_435_456.0,
    1_073_741_824.0,
    4_294_967_296.0,
    17_179_869_184.0,
    68_719_476_736.0,
];
/// The gateway puts these on every series itself.
const GROUPING: [&str; 2] = ["job", "team"];

/// Which type each name of the tasks' families has. The gateway refuses a push that contradicts
/// another group, so this is kept over all groups; the first to use a name decides.
#[derive(Debug, Default)]
pub(super) struct Kinds(BTreeMap<String, Kind>);

impl Kinds {
    fn agree(&mut self, name: &str, kind: Kind) -> bool {
        match self.0.get(name) {
            Some(known) => *known == kind,
            None => {
                self.0.insert(name.to_owned(), kind);
                true
            }
        }
    }

    /// Forgets names that no group uses any more.
    pub(super) fn keep<'a>(&mut self, groups: impl Iterator<Item = &'a Group>) {
        let used: BTreeSet<_> = groups.flat_map(|group| group.own.keys()).collect();
        self.0.retain(|name, _| used.contains(name));
    }
}

/// What one attempt adds.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Ended {
    pub(super) outcome: Outcome,
    pub(super) at: Timestamp,
    pub(super) usage: Usage,
    /// The task's own, as far as they could be read.
    pub(super) families: Vec<Family>,
}

#[derive(Debug, Default)]
pub(super) struct Group {
    attempts: BTreeMap<Outcome, u64>,
    duration: Distribution<{ DURATION_BUCKETS.len() }>,
    memory: Distribution<{ MEMORY_BUCKETS.len() }>,
    memory_max: u64,
    cpu_seconds: f64,
    last_success: Option<Timestamp>,
    last_end: Timestamp,
    own: BTreeMap<String, Own>,
    series: usize,
}

/// A family of the tasks' own.
#[derive(Debug)]
struct Own {
    help: String,
    kind: Kind,
    /// By the labels without `le` and `quantile`, then by the sample's name and all its labels.
    sets: BTreeMap<Labels, BTreeMap<(String, Labels), f64>>,
}

type Labels = Vec<(String, String)>;

impl Group {
    /// Adds an attempt; returns how many series of its own were left out.
    pub(super) fn merge(&mut self, ended: Ended, kinds: &mut Kinds) -> usize {
        let Ended {
            outcome,
            at,
            usage,
            families,
        } = ended;
        *self.attempts.entry(outcome).or_default() += 1;
        self.last_end = self.last_end.max(at);
        if outcome == Outcome::Succeeded {
            self.last_success = self.last_success.max(Some(at));
        }
        self.measure(usage);
        families
            .into_iter()
            .map(|family| self.merge_family(family, kinds))
            .sum()
    }

    fn measure(&mut self, usage: Usage) {
        let Usage {
            peak_memory_bytes,
            cpu_micros,
            pull: _,
            start: _,
            run,
        } = usage;
        if let Some(run) = run {
            self.duration.observe(seconds(run), &DURATION_BUCKETS);
        }
        if let Some(bytes) = peak_memory_bytes {
            self.memory_max = self.memory_max.max(bytes);
            self.memory.observe(float(bytes), &MEMORY_BUCKETS);
        }
        if let Some(micros) = cpu_micros {
            self.cpu_seconds += Duration::from_micros(micros).as_secs_f64();
        }
    }

    fn merge_family(&mut self, family: Family, kinds: &mut Kinds) -> usize {
        let Family {
            name,
            help,
            kind,
            samples,
        } = family;
        let fits = !is_reserved(&name) && kinds.agree(&name, kind);
        if !fits {
            return samples.len();
        }
        let mut sets: BTreeMap<Labels, BTreeMap<(String, Labels), f64>> = BTreeMap::new();
        let mut dropped = 0;
        for sample in samples {
            let Sample {
                name,
                mut labels,
                value,
            } = sample;
            if labels.iter().any(|(key, _)| GROUPING.contains(&&**key)) {
                dropped += 1;
                continue;
            }
            labels.sort_unstable();
            let set = labels
                .iter()
                .filter(|(key, _)| key != "le" && key != "quantile")
                .cloned()
                .collect();
            sets.entry(set).or_default().insert((name, labels), value);
        }
        let own = self.own.entry(name.clone()).or_insert_with(|| Own {
            help,
            kind,
            sets: BTreeMap::new(),
        });
        for (labels, fresh) in sets {
            let room = SERIES_MAX - self.series;
            match own.merge_set(labels, fresh, room) {
                Ok(added) => self.series += added,
                Err(left_out) => dropped += left_out,
            }
        }
        if own.sets.is_empty() {
            self.own.remove(&name);
        }
        dropped
    }

    /// The group in the text format. `bare` leaves the tasks' own families out.
    pub(super) fn text(&self, bare: bool) -> String {
        let mut families = self.families();
        if !bare {
            families.extend(self.own.iter().map(|(name, own)| own.family(name)));
        }
        let mut out = String::new();
        promtext::write(&families, &mut out);
        out
    }

    fn families(&self) -> Vec<Family> {
        let attempts = self.attempts.iter().map(|(outcome, count)| Sample {
            name: TASK_ATTEMPTS.to_owned(),
            labels: vec![("outcome".to_owned(), outcome.as_str().to_owned())],
            value: float(*count),
        });
        let mut families = vec![
            Family {
                name: TASK_ATTEMPTS.to_owned(),
                help: "Attempts that ended, by outcome".to_owned(),
                kind: Kind::Counter,
                samples: attempts.collect(),
            },
            self.duration
                .family(TASK_DURATION, "How long attempts ran", &DURATION_BUCKETS),
            self.memory
                .family(TASK_PEAK_MEMORY, "Peak memory of attempts", &MEMORY_BUCKETS),
            gauge(
                TASK_PEAK_MEMORY_MAX,
                "Largest peak memory of an attempt",
                float(self.memory_max),
            ),
            gauge(
                TASK_LAST_END,
                "When an attempt last ended",
                unix_seconds(self.last_end),
            ),
        ];
        families.push(Family {
            kind: Kind::Counter,
            ..gauge(TASK_CPU, "CPU time of attempts", self.cpu_seconds)
        });
        if let Some(at) = self.last_success {
            let help = "When an attempt last succeeded";
            families.push(gauge(TASK_LAST_SUCCESS, help, unix_seconds(at)));
        }
        families
    }
}

impl Own {
    /// Takes all series of one set of labels, or none: half a histogram is worse than no news.
    /// `Ok` says how many are new, `Err` how many were left out.
    fn merge_set(
        &mut self,
        labels: Labels,
        fresh: BTreeMap<(String, Labels), f64>,
        room: usize,
    ) -> Result<usize, usize> {
        let Some(known) = self.sets.get_mut(&labels) else {
            let count = fresh.len();
            if count > room {
                return Err(count);
            }
            self.sets.insert(labels, fresh);
            return Ok(count);
        };
        match self.kind {
            Kind::Gauge | Kind::Untyped => *known = fresh,
            Kind::Counter | Kind::Histogram => {
                // Other buckets than before cannot be added up.
                if !known.keys().eq(fresh.keys()) {
                    return Err(fresh.len());
                }
                for (sum, value) in known.values_mut().zip(fresh.values()) {
                    *sum += value;
                }
            }
            Kind::Summary => {
                let mut left_out = 0;
                for (key, value) in fresh {
                    let is_quantile = key.1.iter().any(|(name, _)| name == "quantile");
                    match known.get_mut(&key) {
                        Some(last) if is_quantile => *last = value,
                        Some(sum) => *sum += value,
                        None => left_out += 1,
                    }
                }
                if left_out > 0 {
                    return Err(left_out);
                }
            }
        }
        Ok(0)
    }

    fn family(&self, name: &str) -> Family {
        let Self { help, kind, sets } = self;
        let samples = sets
            .values()
            .flatten()
            .map(|((name, labels), value)| Sample {
                name: name.clone(),
                labels: labels.clone(),
                value: *value,
            });
        Family {
            name: name.to_owned(),
            help: help.clone(),
            kind: *kind,
            samples: samples.collect(),
        }
    }
}

/// A histogram with fixed bounds.
#[derive(Debug)]
struct Distribution<const N: usize> {
    /// Not cumulative; what is over the last bound is only in `count`.
    buckets: [u64; N],
    sum: f64,
    count: u64,
}

impl<const N: usize> Default for Distribution<N> {
    fn default() -> Self {
        Self {
            buckets: [0; N],
            sum: 0.0,
            count: 0,
        }
    }
}

impl<const N: usize> Distribution<N> {
    fn observe(&mut self, value: f64, bounds: &[f64; N]) {
        if let Some(place) = bounds.iter().position(|bound| value <= *bound) {
            self.buckets[place] += 1;
        }
        self.sum += value;
        self.count += 1;
    }

    fn family(&self, name: &str, help: &str, bounds: &[f64; N]) -> Family {
        let sample = |suffix, labels, value| Sample {
            name: format!("{name}{suffix}"),
            labels,
            value,
        };
        let mut below = 0;
        let mut samples: Vec<_> = bounds
            .iter()
            .zip(&self.buckets)
            .map(|(bound, count)| {
                below += count;
                (promtext::number(*bound), below)
            })
            .chain([("+Inf".to_owned(), self.count)])
            .map(|(bound, count)| sample("_bucket", vec![("le".to_owned(), bound)], float(count)))
            .collect();
        samples.push(sample("_sum", Vec::new(), self.sum));
        samples.push(sample("_count", Vec::new(), float(self.count)));
        Family {
            name: name.to_owned(),
            help: help.to_owned(),
            kind: Kind::Histogram,
            samples,
        }
    }
}

fn gauge(name: &str, help: &str, value: f64) -> Family {
    Family {
        name: name.to_owned(),
        help: help.to_owned(),
        kind: Kind::Gauge,
        samples: vec![Sample {
            name: name.to_owned(),
            labels: Vec::new(),
            value,
        }],
    }
}

/// Names that muster or the gateway uses in the same group.
fn is_reserved(name: &str) -> bool {
    name.starts_with("muster_")
        || name.starts_with("pushgateway_")
        || name == "push_time_seconds"
        || name == "push_failure_time_seconds"
}

fn seconds(span: Millis) -> f64 {
    Duration::from(span).as_secs_f64()
}

fn unix_seconds(at: Timestamp) -> f64 {
    Duration::from_millis(at.0).as_secs_f64()
}

/// Exact up to 2^53, which is enough for bytes and counts.
#[expect(
    clippy::cast_precision_loss,
    reason = "metrics are floating point; counts beyond 2^53 may lose their last digits"
)]
const fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests;
