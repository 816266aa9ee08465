//! The invariants, again and again while the coordinator runs.

use std::collections::BTreeSet;
use std::time::Duration;

use muster_core::fleet::Broken;
use tokio_util::sync::CancellationToken;

use super::fleet;
use crate::driver::DriverHandle;
use crate::metrics::Metrics;

/// Between two passes. One pass over a large fleet is many short looks.
const INTERVAL: Duration = Duration::from_secs(15);
/// Violations of one pass that are logged one by one.
const LOGGED: usize = 10;

/// Checks until `stop`, or until the driver has stopped.
pub(crate) async fn keep(driver: DriverHandle, metrics: Metrics, stop: CancellationToken) {
    let mut interval = tokio::time::interval(INTERVAL);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut told = BTreeSet::new();
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            _ = interval.tick() => {}
        }
        let Ok(found) = fleet::broken(&driver, fleet::UNHURRIED).await else {
            return;
        };
        tell(&metrics, &mut told, found);
    }
}

/// Counts what is broken now, and logs each violation once for as long as it lasts.
pub(super) fn tell(metrics: &Metrics, told: &mut BTreeSet<String>, found: Vec<Broken>) {
    let bugs: Vec<Broken> = found.into_iter().filter(|broken| !broken.bends).collect();
    metrics.set_invariant_violations(bugs.len());
    let now: BTreeSet<String> = bugs.iter().map(ToString::to_string).collect();
    for violation in now.difference(told).take(LOGGED) {
        tracing::error!(violation, "invariant does not hold");
    }
    *told = now;
}
