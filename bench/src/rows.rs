//! The rows: each measures muster and what it is held against, and says what it found.

use serde::Serialize;

use crate::samples::Samples;

pub(crate) mod airflow;
pub(crate) mod connected;
pub(crate) mod containers;
pub(crate) mod growth;
pub(crate) mod lifecycles;
pub(crate) mod load;
pub(crate) mod queue;
pub(crate) mod rollouts;
pub(crate) mod warm;

/// What a reply survives: D2 is the loss of power, D1 the death of the process but not that of the machine.
pub(crate) const DURABLE: &str = "D2";

/// Which way is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Goal {
    AtLeast,
    AtMost,
}

impl Goal {
    fn met(self, value: f64, bar: f64) -> bool {
        match self {
            Self::AtLeast => value >= bar,
            Self::AtMost => value <= bar,
        }
    }
}

/// What a row is about, and how good it must be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Aim {
    pub(crate) row: &'static str,
    /// What is compared, in words.
    pub(crate) what: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) goal: Goal,
    pub(crate) bar: f64,
    /// What would be better still.
    pub(crate) reach: Option<f64>,
}

/// One line of the report.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    pub(crate) row: &'static str,
    pub(crate) what: &'static str,
    pub(crate) unit: &'static str,
    /// Median, and the smallest and largest of the rounds. `None`: not measured, and `detail` says why.
    pub(crate) ratio: Option<f64>,
    pub(crate) low: Option<f64>,
    pub(crate) high: Option<f64>,
    pub(crate) goal: Goal,
    pub(crate) bar: f64,
    pub(crate) reach: Option<f64>,
    pub(crate) met: bool,
    pub(crate) reached: bool,
    /// What it is held against does not install everywhere, nor here: not measured, and no failure.
    pub(crate) skipped: bool,
    pub(crate) durability: &'static str,
    /// The figures behind it.
    pub(crate) detail: String,
    /// What a row that misses its bar was held up by.
    pub(crate) why: Option<String>,
    pub(crate) plots: Vec<Plot>,
}

/// For the page.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Plot {
    pub(crate) title: String,
    pub(crate) unit: &'static str,
    pub(crate) series: Vec<Series>,
}

#[derive(Debug, Clone, Serialize)]
pub(crate) struct Series {
    pub(crate) name: String,
    /// One for each round, in their order.
    pub(crate) values: Vec<f64>,
}

impl Series {
    pub(crate) fn new(name: &str, values: &[f64]) -> Self {
        Self {
            name: name.to_owned(),
            values: values.to_vec(),
        }
    }
}

impl Row {
    pub(crate) fn measured(aim: Aim, values: &Samples, detail: String, plots: Vec<Plot>) -> Self {
        let ratio = values.median();
        Self {
            ratio: Some(ratio),
            low: Some(values.min()),
            high: Some(values.max()),
            met: aim.goal.met(ratio, aim.bar),
            reached: aim.reach.is_some_and(|reach| aim.goal.met(ratio, reach)),
            plots,
            ..Self::missing(aim, detail)
        }
    }

    /// What it was held up by, if it misses its bar.
    pub(crate) fn because(mut self, why: String) -> Self {
        self.why = Some(why).filter(|_| !self.met);
        self
    }

    pub(crate) fn skipped(aim: Aim, why: &str) -> Self {
        Self {
            skipped: true,
            ..Self::missing(aim, format!("SKIPPED: {why}"))
        }
    }

    /// Not measured, and so not met.
    pub(crate) fn missing(aim: Aim, why: String) -> Self {
        let Aim {
            row,
            what,
            unit,
            goal,
            bar,
            reach,
        } = aim;
        Self {
            row,
            what,
            unit,
            ratio: None,
            low: None,
            high: None,
            goal,
            bar,
            reach,
            met: false,
            reached: false,
            skipped: false,
            durability: DURABLE,
            detail: why,
            why: None,
            plots: Vec::new(),
        }
    }
}

fn mebibytes(bytes: u64) -> f64 {
    f64::from(u32::try_from(bytes >> 10).unwrap_or(u32::MAX)) / 1024.0
}
