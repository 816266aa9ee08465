//! Whether the container engine is well enough to take more work.
//!
//! It is asked for a sign of life at fixed intervals. Three bad answers in a row make it degraded:
//! the agent then refuses offers and goes on with what runs. Three good ones in a row end that.

use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::runtime::Runtime;

#[cfg(not(test))]
const EVERY: Duration = Duration::from_secs(15);
#[cfg(test)]
const EVERY: Duration = Duration::from_millis(50);
/// No answer for so long is a bad one.
const DEADLINE: Duration = Duration::from_secs(5);
/// A slower answer is a bad one too.
const SLOW: Duration = Duration::from_secs(2);
/// So many answers in a row change the verdict.
const IN_A_ROW: u32 = 3;

/// What is known of the engine's health.
#[derive(Debug, Default)]
pub(crate) struct Probe {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    degraded: bool,
    /// Answers in a row that speak against `degraded` as it is.
    against: u32,
    /// How long the last probe took.
    latency: Option<Duration>,
}

impl Probe {
    /// Whether no new task should start here.
    pub(crate) fn degraded(&self) -> bool {
        self.lock().degraded
    }

    /// How long the last answer took, or was waited for; `None`: there was none yet.
    pub(crate) fn latency(&self) -> Option<Duration> {
        self.lock().latency
    }

    /// Probes until `shutdown`.
    pub(crate) async fn run(&self, runtime: impl Runtime, shutdown: CancellationToken) {
        let mut turns = tokio::time::interval(EVERY);
        turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let probing = async {
            loop {
                turns.tick().await;
                let begin = Instant::now();
                let answer = tokio::time::timeout(DEADLINE, runtime.ping()).await;
                self.note(matches!(answer, Ok(Ok(()))), begin.elapsed());
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = probing => {}
        }
    }

    fn note(&self, answered: bool, took: Duration) {
        let good = answered && took <= SLOW;
        let mut state = self.lock();
        state.latency = Some(took);
        if !good {
            tracing::warn!(answered, ?took, "engine does not answer in time");
        }
        if good != state.degraded {
            state.against = 0;
            return;
        }
        state.against += 1;
        if state.against >= IN_A_ROW {
            state.degraded = !good;
            state.against = 0;
            if good {
                tracing::info!("container engine is well again");
            } else {
                tracing::error!("container engine degraded, offers are refused");
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of the lock panics")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_in_a_row_change_the_verdict_and_fewer_do_not() {
        let probe = Probe::default();
        let fast = Duration::from_millis(3);
        let slow = Duration::from_millis(2_001);
        let verdicts = |answers: &[(bool, Duration)]| -> Vec<bool> {
            let verdict = |(answered, took): &(bool, Duration)| {
                probe.note(*answered, *took);
                probe.degraded()
            };
            answers.iter().map(verdict).collect()
        };
        let (good, bad, late) = ((true, fast), (false, fast), (true, slow));
        assert_eq!(verdicts(&[bad, late, good]), [false, false, false]);
        assert_eq!(verdicts(&[bad, late, bad]), [false, false, true]);
        assert_eq!(probe.latency(), Some(fast));
        assert_eq!(verdicts(&[good, good, late]), [true, true, true]);
        assert_eq!(verdicts(&[good, good, good]), [true, true, false]);
        assert_eq!(verdicts(&[bad, bad]), [false, false]);
    }
}
