//! A container that the engine can't get hold of any more: it outlives KILL, or inspecting it hangs.
//!
//! Nothing is given up for it and nothing else waits for it. Somebody has to look at the host.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::metrics::AgentMetrics;

#[derive(Debug)]
pub(super) struct Wedge {
    metrics: Arc<AgentMetrics>,
    is: AtomicBool,
}

impl Wedge {
    pub(super) const fn new(metrics: Arc<AgentMetrics>) -> Self {
        Self {
            metrics,
            is: AtomicBool::new(false),
        }
    }

    /// Says it, once.
    pub(super) fn found(&self, why: &'static str) {
        if !self.is.swap(true, Ordering::Relaxed) {
            tracing::error!(why, "container wedged");
            self.metrics.wedged.inc();
        }
    }

    /// It is gone after all.
    pub(super) fn over(&self) {
        if self.is.swap(false, Ordering::Relaxed) {
            tracing::info!("wedged container is gone");
            self.metrics.wedged.dec();
        }
    }
}
