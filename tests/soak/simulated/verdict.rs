//! What came of it, and whether that is good enough.

use std::time::Instant;

use super::{LOOK, SETTLE, Size, Soak};
use crate::audit::{Audited, Findings};
use crate::figures::Figures;

/// Growth that a run of less than an hour may show while it is measured, a fifth of it, in percent. Its slope says
/// little.
const GROWTH: f64 = 2.5;

impl Soak {
    /// Waits until everything is cleaned up, then compares.
    pub(super) async fn judge(&mut self) -> Figures {
        let took = self.began.elapsed();
        let deadline = Instant::now() + SETTLE;
        let mut looks = tokio::time::interval(LOOK);
        let mut left = self.fleet.leftovers();
        while !left.is_empty() && Instant::now() < deadline {
            looks.tick().await;
            left = self.fleet.leftovers();
        }
        self.collect_starts();
        let mut findings = Findings::default();
        let ended = std::mem::take(&mut self.ended);
        for audited in &ended {
            let now = self.daemons.job(&audited.id).await;
            findings.add(audited.against(&self.ledger, &now));
        }
        for name in left.iter().take(5) {
            findings.example(format!("left over: {name}"));
        }
        let mut figures = Figures::new("simulated");
        figures.count("tasks", u64::from(self.size.tasks));
        figures.inform("seconds", took.as_secs_f64());
        figures.inform(
            "tasks a second",
            f64::from(self.size.tasks) / took.as_secs_f64(),
        );
        self.judge_findings(&mut figures, &findings);
        figures.none("orphans", u64::try_from(left.len()).unwrap());
        self.judge_faults(&mut figures);
        if self.size.long {
            self.judge_growth(&mut figures);
            judge_dispatch(&mut figures, &ended, self.size);
        }
        figures.examples(findings.examples);
        self.fleet.stop().await;
        self.stop.cancel();
        figures
    }

    fn judge_findings(&self, figures: &mut Figures, findings: &Findings) {
        let Findings {
            lost,
            duplicates,
            platform,
            false_success,
            wrong,
            starts_beyond,
            starts_missing,
            attempts,
            examples: _,
        } = findings;
        figures.none("lost tasks", *lost);
        figures.none("duplicate outcomes", *duplicates);
        figures.none("platform-attributed failures", *platform);
        figures.none("false successes", *false_success);
        figures.none("other wrong ends", *wrong);
        figures.count("attempts", *attempts);
        figures.count("starts", self.ledger.total);
        let unknown = u64::try_from(self.ledger.unknown()).unwrap();
        figures.none(
            "starts beyond one for each attempt",
            starts_beyond + unknown,
        );
        figures.none("recorded starts that did not happen", *starts_missing);
    }

    fn judge_faults(&self, figures: &mut Figures) {
        for (name, count) in &self.faults.counts {
            figures.count(&format!("fault {name}"), *count);
        }
        figures.count(
            "fault coordinator_killed",
            u64::try_from(self.kills).unwrap(),
        );
        let recovery = self.recovery.as_secs_f64();
        figures.at_most("seconds until the coordinator serves again", recovery, 5.0);
    }

    fn judge_growth(&mut self, figures: &mut Figures) {
        for (name, series) in self.measures.all() {
            let (slope, hours) = (series.percent_per_hour(), series.span() / 3600.0);
            let name = format!("{name}, percent an hour");
            if hours >= 1.0 {
                figures.at_most(&name, slope, 1.0);
            } else {
                figures.inform(&name, slope);
                figures.at_most(&format!("{name}, while measured"), slope * hours, GROWTH);
            }
        }
        figures.inform(
            "coordinator memory, MiB",
            self.measures.coordinator_memory.last() / 1_048_576.0,
        );
        figures.inform(
            "agents' memory, MiB",
            self.measures.agents_memory.last() / 1_048_576.0,
        );
        if let Some((bytes, tasks)) = self.measures.store {
            let grown = self.daemons.store_bytes().saturating_sub(bytes);
            let later = u64::from(self.size.tasks - tasks);
            figures.count(
                "store bytes a task, before measuring",
                bytes / u64::from(tasks.max(1)),
            );
            figures.count("store bytes a task, since", grown / later.max(1));
        }
    }
}

/// p99 from assignment to start, of the first and the last quarter of what was measured.
fn judge_dispatch(figures: &mut Figures, ended: &[Audited], size: Size) {
    let (first, last) = (size.undisturbed() + 1, size.jobs());
    let quarter = (last - first) / 4;
    let p99 = |from: u32, to: u32| {
        let within = ended
            .iter()
            .filter(|job| (from..to).contains(&job.number()));
        let mut all: Vec<f64> = within
            .flat_map(|job| job.dispatch.iter().copied())
            .collect();
        all.sort_by(f64::total_cmp);
        all.get(all.len() * 99 / 100).copied().unwrap_or(0.0)
    };
    let (start, end) = (p99(first, first + quarter), p99(last - quarter, last));
    figures.inform("p99 dispatch at the start, ms", start);
    figures.inform("p99 dispatch at the end, ms", end);
    figures.at_most("p99 dispatch, end over start", end / start.max(1.0), 1.2);
}
