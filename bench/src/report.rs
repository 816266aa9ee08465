//! The result as a table for people and as JSON for tools.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::probes::Probes;
use crate::rows::Row;

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

    pub(crate) fn add(&mut self, row: Row) {
        self.rows.push(row);
    }

    pub(crate) const fn finish(&mut self, after: Probes) {
        self.after = Some(after);
    }

    pub(crate) fn all_met(&self) -> bool {
        self.rows.iter().all(|row| row.met)
    }

    pub(crate) fn table(&self) -> String {
        let mut text = String::new();
        for row in &self.rows {
            let Row {
                row,
                what,
                unit,
                value,
                low,
                high,
                bar,
                met,
                durability,
                detail,
            } = row;
            let met = if *met { "met" } else { "MISSED" };
            let _ = writeln!(
                text,
                "{row:<13} {value:>8.2} {unit:<4} ({low:.2} to {high:.2})  bar {bar}  {met}  {durability}\n\
                 {:13} {what}\n{:13} {detail}",
                "", ""
            );
        }
        let Probes { fsync, fork_exec } = self.before;
        let _ = writeln!(
            text,
            "probes        fsync {:.2} ms, fork and exec {:.2} ms{}",
            fsync * 1e3,
            fork_exec * 1e3,
            self.drift()
        );
        text
    }

    fn drift(&self) -> String {
        let Some(after) = self.after else {
            return String::new();
        };
        let far = |before: f64, after: f64| (after / before - 1.0).abs() > DRIFT;
        let doubtful =
            far(self.before.fsync, after.fsync) || far(self.before.fork_exec, after.fork_exec);
        if doubtful {
            format!(
                "; at the end {:.2} and {:.2} ms: the machine was not quiet, repeat the run",
                after.fsync * 1e3,
                after.fork_exec * 1e3
            )
        } else {
            "; the same at the end".to_owned()
        }
    }

    pub(crate) fn write(&self, path: &Path) -> anyhow::Result<()> {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(path, serde_json::to_vec_pretty(self)?)?;
        Ok(())
    }
}

/// `bench/report.json` in cargo's target directory.
pub(crate) fn default_path() -> PathBuf {
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    target.join("bench/report.json")
}
