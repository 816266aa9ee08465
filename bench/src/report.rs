//! The result as a table for people, as a page with plots, and as JSON for tools.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::probes::Probes;
use crate::rows::{Goal, Row};

mod page;

/// A probe that changes by more than this makes the whole run doubtful: somebody else was busy.
const DRIFT: f64 = 0.10;

#[derive(Debug, Serialize)]
pub(crate) struct Report {
    before: Probes,
    after: Option<Probes>,
    rows: Vec<Row>,
}

impl Report {
    pub(crate) const fn new(before: Probes) -> Self {
        Self {
            before,
            after: None,
            rows: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, rows: Vec<Row>) {
        for row in &rows {
            eprintln!("{}", line(row));
        }
        self.rows.extend(rows);
    }

    pub(crate) const fn finish(&mut self, after: Probes) {
        self.after = Some(after);
    }

    pub(crate) fn all_met(&self) -> bool {
        self.rows.iter().all(|row| row.met || row.skipped)
    }

    pub(crate) fn table(&self) -> String {
        let mut text = String::new();
        for row in &self.rows {
            let _ = writeln!(text, "{}", line(row));
        }
        let _ = writeln!(text, "probes      {}", self.probes());
        text
    }

    fn probes(&self) -> String {
        let mut text = String::new();
        for (name, probe) in self.before.all() {
            let (p50, p99) = (probe.p50 * 1e3, probe.p99 * 1e3);
            let _ = write!(text, "{name} {p50:.2} ms (p99 {p99:.2}), ");
        }
        text + &self.drift()
    }

    fn drift(&self) -> String {
        let Some(after) = self.after else {
            return "the run is not over".to_owned();
        };
        let far: Vec<String> = self
            .before
            .all()
            .into_iter()
            .zip(after.all())
            .filter(|((_, before), (_, after))| (after.p50 / before.p50 - 1.0).abs() > DRIFT)
            .map(|(_, (name, after))| format!("{name} {:.2} ms", after.p50 * 1e3))
            .collect();
        if far.is_empty() {
            "the same at the end".to_owned()
        } else {
            format!(
                "at the end {}: the machine was not quiet, repeat the run",
                far.join(", ")
            )
        }
    }

    /// Writes the JSON to `path`, and the page beside it.
    pub(crate) fn write(&self, path: &Path) -> anyhow::Result<()> {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(path, serde_json::to_vec_pretty(self)?)?;
        std::fs::write(path.with_extension("html"), self.page())?;
        Ok(())
    }
}

/// A row as text: what came out, then what it is, then the figures behind it.
fn line(row: &Row) -> String {
    let found = match (row.ratio, row.low, row.high) {
        (Some(ratio), Some(low), Some(high)) => {
            let unit = row.unit;
            format!(
                "{:>8} {unit} ({} to {})",
                short(ratio),
                short(low),
                short(high)
            )
        }
        _ => "not measured".to_owned(),
    };
    let why = row.why.iter().map(|why| format!("\n{:11} why: {why}", ""));
    let text = format!(
        "{:<11} {found}  bar {}  {}  {}\n{:11} {}\n{:11} {}",
        row.row,
        bar(row),
        verdict(row),
        row.durability,
        "",
        row.what,
        "",
        row.detail
    );
    text + &why.collect::<String>()
}

fn bar(row: &Row) -> String {
    let sign = match row.goal {
        Goal::AtLeast => ">=",
        Goal::AtMost => "<=",
    };
    let reach = row
        .reach
        .map(|reach| format!(", reach {sign} {}", short(reach)));
    format!("{sign} {}{}", short(row.bar), reach.unwrap_or_default())
}

fn verdict(row: &Row) -> String {
    match (row.met, row.reached, row.ratio) {
        (true, true, _) => "met, reached".to_owned(),
        (true, false, _) => "met".to_owned(),
        (false, _, None) if row.skipped => "SKIPPED".to_owned(),
        (false, _, None) => "NOT MET".to_owned(),
        (false, _, Some(ratio)) => {
            let by = match row.goal {
                Goal::AtLeast => row.bar / ratio,
                Goal::AtMost => ratio / row.bar,
            };
            format!("MISSED by a factor of {}", short(by))
        }
    }
}

/// With as many digits as tell something.
fn short(value: f64) -> String {
    match value.abs() {
        large if large >= 100.0 => format!("{value:.0}"),
        middle if middle >= 10.0 => format!("{value:.1}"),
        small if small >= 0.1 || small == 0.0 => format!("{value:.2}"),
        _ => format!("{value:.5}"),
    }
}

/// `bench/report.json` in cargo's target directory.
pub(crate) fn default_path() -> PathBuf {
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    target.join("bench/report.json")
}
