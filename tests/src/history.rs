//! What happened to a job, three times over: as the coordinator tells it, as the tasks wrote it down,
//! and as the engine shows it. Where they differ, something was lost or done twice.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::fleet::Fleet;
use crate::ledger::{Entry, Ledger, Moment};

/// What a fault may have cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// Nothing was hurt: no task needs a second attempt.
    FirstAttempt,
    /// No task needs a second attempt that starts.
    FirstStart,
    /// No container was hurt: no task that started may start again.
    NoRerun,
}

/// What was found about jobs so far; all violations, and the figures to print.
#[derive(Debug, Default)]
pub struct History {
    pub tasks: usize,
    pub attempts: usize,
    pub starts: usize,
    pub succeeded: usize,
    pub violations: Vec<String>,
}

impl History {
    /// Adds a job all of whose tasks have ended, each one assigned at least once.
    pub fn add(&mut self, fleet: &Fleet, ledger: &Ledger, job: &str, expected: Expected) {
        let array = fleet.json(&["job", "get", job])["array"]
            .as_u64()
            .expect("a number");
        let mut entries: BTreeMap<String, Vec<Entry>> = BTreeMap::new();
        for entry in ledger.of_job(job) {
            entries.entry(entry.task.clone()).or_default().push(entry);
        }
        for index in 0..array {
            let id = format!("{job}.{index}");
            let told = fleet.json(&["task", "get", &id]);
            let written = entries.remove(&id).unwrap_or_default();
            self.task(&id, &told, &written, expected);
        }
        for (task, entries) in entries {
            self.violations
                .push(format!("{task} ran and is no task: {entries:?}"));
        }
    }

    fn task(&mut self, id: &str, told: &Value, written: &[Entry], expected: Expected) {
        self.tasks += 1;
        let mut wrong = |what: String| self.violations.push(format!("{id} {what}: {told}"));
        let outcome = told["end"]["outcome"].as_str();
        let Some(outcome) = outcome else {
            return wrong("has not ended".to_owned());
        };
        let attempts = told["attempts"].as_array().expect("a list");
        for (attempt, number) in attempts.iter().zip(1_u64..) {
            if attempt["number"] != number {
                wrong(format!("has no attempt {number}"));
            }
            if attempt["end"].is_null() {
                wrong(format!("has ended and attempt {number} has not"));
            }
        }
        let of = |number: u32, moment: Moment| {
            let same = |entry: &&Entry| entry.attempt == number && entry.moment == moment;
            written.iter().filter(same).count()
        };
        let numbers: Vec<u32> = (1..).take(attempts.len()).collect();
        let started = numbers
            .iter()
            .filter(|number| of(**number, Moment::Start) > 0)
            .count();
        for number in &numbers {
            let starts = of(*number, Moment::Start);
            if starts > 1 {
                wrong(format!("was started {starts} times as attempt {number}"));
            }
        }
        let never_started = |attempt: &&Value| attempt["end"]["reason"] == "never_started";
        let allowed = match expected {
            Expected::FirstAttempt => 1,
            Expected::FirstStart => 1 + attempts.iter().filter(never_started).count(),
            Expected::NoRerun => usize::MAX,
        };
        if attempts.len() > allowed {
            wrong(format!("needed {} attempts", attempts.len()));
        }
        if started > 1 {
            wrong(format!("ran {started} times though no container was hurt"));
        }
        for Entry { attempt, fence, .. } in written {
            if attempt != fence || !numbers.contains(attempt) {
                wrong(format!("ran as attempt {attempt}, fence {fence}"));
            }
        }
        let successes: Vec<&Value> = attempts
            .iter()
            .filter(|attempt| attempt["end"]["outcome"] == "succeeded")
            .collect();
        match (outcome, successes.as_slice()) {
            ("succeeded", [attempt]) => {
                let number = attempt["number"]
                    .as_u64()
                    .and_then(|n| u32::try_from(n).ok());
                let number = number.expect("attempts have small numbers");
                let (starts, ends) = (of(number, Moment::Start), of(number, Moment::End));
                if (starts, ends) != (1, 1) {
                    wrong(format!("succeeded with {starts} starts and {ends} ends"));
                }
            }
            ("succeeded", others) => wrong(format!("has {} successes", others.len())),
            (_, []) => {}
            (other, _) => wrong(format!("ended as {other} after a success")),
        }
        self.attempts += attempts.len();
        self.starts += started;
        self.succeeded += usize::from(outcome == "succeeded");
    }

    /// Fails with everything that was found, and prints the figures.
    pub fn judge(&self, what: &str) {
        let Self {
            tasks,
            attempts,
            starts,
            succeeded,
            violations,
        } = self;
        println!(
            "{what}: {tasks} tasks, {succeeded} succeeded, {attempts} attempts, {starts} starts, \
             {} violations",
            violations.len()
        );
        assert!(violations.is_empty(), "{what}:\n{}", violations.join("\n"));
    }
}
