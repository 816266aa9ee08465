//! The figures that agents send with their heartbeats, shown again beside the coordinator's own.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, MutexGuard, PoisonError};

use muster_core::ids::AgentId;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::ConstGauge;

/// All names of agents' figures begin so; others could contradict the coordinator's own.
const PREFIX: &str = "muster_agent_";
/// The label that tells agents apart.
const AGENT: &str = "agent";
const SAMPLES_MAX: usize = 200;
const AGENTS_MAX: usize = 2_000;
const LABELS_MAX: usize = 8;
const LABEL_VALUE_MAX: usize = 128;

/// One figure of an agent, by full name, e.g. `muster_agent_pulls_total`.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

#[derive(Debug, Default)]
pub(super) struct AgentSamples {
    by_agent: Mutex<BTreeMap<AgentId, Vec<Sample>>>,
    pub(super) dropped: Counter<u64, AtomicU64>,
}

impl AgentSamples {
    pub(super) fn replace(&self, agent: &AgentId, mut samples: Vec<Sample>) {
        let sent = samples.len();
        samples.retain(is_fit);
        samples.truncate(SAMPLES_MAX);
        let mut by_agent = self.lock();
        let room = by_agent.len() < AGENTS_MAX || by_agent.contains_key(agent);
        let kept = if room { samples.len() } else { 0 };
        if room {
            by_agent.insert(agent.clone(), samples);
        }
        let dropped = u64::try_from(sent - kept).unwrap_or(u64::MAX);
        self.dropped.inc_by(dropped);
    }

    pub(super) fn of(&self, agent: &AgentId) -> Vec<Sample> {
        self.lock().get(agent).cloned().unwrap_or_default()
    }

    pub(super) fn remove(&self, agent: &AgentId) {
        self.lock().remove(agent);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<AgentId, Vec<Sample>>> {
        self.by_agent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// By name, because a family must be in one piece; within it each series once.
    fn families(&self) -> BTreeMap<String, BTreeMap<Vec<(String, String)>, f64>> {
        let mut families: BTreeMap<String, BTreeMap<_, _>> = BTreeMap::new();
        for (agent, samples) in self.lock().iter() {
            for sample in samples {
                let own = (AGENT.to_owned(), agent.to_string());
                let given = sample.labels.clone().into_iter();
                let labels = std::iter::once(own).chain(given).collect();
                let family = families.entry(sample.name.clone()).or_default();
                family.insert(labels, sample.value);
            }
        }
        families
    }
}

impl Collector for AgentSamples {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for (name, series) in self.families() {
            let help = "A figure of the agents, from their last heartbeats";
            let counter = name.strip_suffix("_total");
            let is_part = ["_bucket", "_sum", "_count"]
                .iter()
                .any(|end| name.ends_with(end));
            let kind = match counter {
                Some(_) => MetricType::Counter,
                // The parts of a histogram come as figures of their own.
                None if is_part => MetricType::Unknown,
                None => MetricType::Gauge,
            };
            let shown = counter.unwrap_or(&name);
            let mut family = encoder.encode_descriptor(shown, help, None, kind)?;
            for (labels, value) in series {
                let mut one = family.encode_family(&labels)?;
                match counter {
                    Some(_) => one.encode_counter::<NoLabelSet, f64, f64>(&value, None)?,
                    None => ConstGauge::new(value).encode(one)?,
                }
            }
        }
        Ok(())
    }
}

fn is_fit(sample: &Sample) -> bool {
    let Sample {
        name,
        labels,
        value,
    } = sample;
    let labels_fit = labels.len() <= LABELS_MAX
        && labels
            .iter()
            .all(|(key, value)| key != AGENT && is_word(key) && value.len() <= LABEL_VALUE_MAX);
    name.starts_with(PREFIX) && is_word(name) && labels_fit && value.is_finite()
}

/// `[a-z_][a-z0-9_]*`, at most 100 bytes.
fn is_word(text: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    (1..=100).contains(&text.len())
        && text.bytes().all(known)
        && !text.starts_with(|first: char| first.is_ascii_digit())
}
