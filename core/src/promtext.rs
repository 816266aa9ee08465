//! The Prometheus text format, version 0.0.4: what a task writes to `MUSTER_METRICS_FILE` and what
//! the coordinator sends on. A strict reader with bounds, and a writer.

use std::fmt::Write as _;

mod parse;

pub use parse::parse;

/// What a text may hold at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Sample lines; each bucket of a histogram is one.
    pub samples: usize,
    /// Bytes of one label's value.
    pub label_value: usize,
    /// Labels of one sample.
    pub labels: usize,
}

impl Bounds {
    /// For the file of a task.
    pub const TASK: Self = Self {
        samples: 200,
        label_value: 128,
        labels: 16,
    };
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
    Summary,
    /// No `# TYPE` line.
    Untyped,
}

impl Kind {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Summary => "summary",
            Self::Untyped => "untyped",
        }
    }

    fn from_word(word: &str) -> Option<Self> {
        [
            Self::Counter,
            Self::Gauge,
            Self::Histogram,
            Self::Summary,
            Self::Untyped,
        ]
        .into_iter()
        .find(|kind| kind.as_str() == word)
    }
}

/// Everything under one name.
#[derive(Debug, Clone, PartialEq)]
pub struct Family {
    pub name: String,
    /// May be empty.
    pub help: String,
    pub kind: Kind,
    pub samples: Vec<Sample>,
}

/// One line.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// The family's name; with `_bucket`, `_sum` or `_count` in a histogram or summary.
    pub name: String,
    /// In the order of the text. A bucket's bound is the label `le`.
    pub labels: Vec<(String, String)>,
    pub value: f64,
}

/// Why a text was not taken, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct BadText {
    /// Counted from 1.
    pub line: usize,
    pub problem: Problem,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error("{text:?} is not a metric name: [a-zA-Z_:][a-zA-Z0-9_:]*, up to 200 characters")]
    MetricName { text: String },
    #[error("{text:?} is not a label name: [a-zA-Z_][a-zA-Z0-9_]*, not beginning with __")]
    LabelName { text: String },
    #[error("label {name} comes twice")]
    LabelTwice { name: String },
    #[error("the labels are not of the form {{name=\"value\",…}}")]
    LabelSyntax,
    #[error("the value of label {name} has {length} bytes; at most {most}")]
    LabelValue {
        name: String,
        length: usize,
        most: usize,
    },
    #[error("{count} labels; at most {most}")]
    Labels { count: usize, most: usize },
    #[error("{text:?} is not a number")]
    Number { text: String },
    #[error("a timestamp; the push gateway takes none")]
    Timestamp,
    #[error("{text:?} is not a type: counter, gauge, histogram, summary or untyped")]
    Type { text: String },
    #[error("a second # TYPE or # HELP line of {name}, or one after its samples")]
    MetadataTwice { name: String },
    #[error("the same series as on an earlier line: {series}")]
    SeriesTwice { series: String },
    #[error("{name} is a {kind}, and {sample} is no part of one", kind = kind.as_str())]
    Part {
        name: String,
        sample: String,
        kind: Kind,
    },
    #[error("a counter can't be {value}")]
    CounterValue { value: String },
    #[error(
        "histogram {name} needs a bucket le=\"+Inf\", a _sum and a _count for each set of labels, and buckets that don't fall"
    )]
    Histogram { name: String },
    #[error("more than {most} samples")]
    Samples { most: usize },
}

/// Appends the text of `families`.
pub fn write(families: &[Family], out: &mut String) {
    for family in families {
        if !family.help.is_empty() {
            let help = family.help.replace('\\', "\\\\").replace('\n', "\\n");
            line(out, format_args!("# HELP {} {help}", family.name));
        }
        let kind = family.kind.as_str();
        line(out, format_args!("# TYPE {} {kind}", family.name));
        for sample in &family.samples {
            out.push_str(&series(sample));
            line(out, format_args!(" {}", number(sample.value)));
        }
    }
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    writeln!(out, "{text}").expect("writing to a string does not fail");
}

/// The name with its labels as the text format has them, e.g. `rows_total{table="a"}`.
#[must_use]
pub fn series(sample: &Sample) -> String {
    if sample.labels.is_empty() {
        return sample.name.clone();
    }
    let escaped = |value: &str| {
        value
            .replace('\\', "\\\\")
            .replace('"', "\\\"")
            .replace('\n', "\\n")
    };
    let labels: Vec<_> = sample
        .labels
        .iter()
        .map(|(name, value)| format!("{name}=\"{}\"", escaped(value)))
        .collect();
    format!("{}{{{}}}", sample.name, labels.join(","))
}

/// A number as the text format has it: `NaN`, `+Inf`, `-Inf`, or digits.
#[must_use]
pub fn number(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned()
    } else {
        value.to_string()
    }
}

#[cfg(test)]
mod tests;
