//! One live line about an array: on a terminal redrawn, elsewhere a plain line every few seconds.

use std::collections::VecDeque;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use muster_core::time::Millis;
use muster_proto::v1;
use tokio::time::Instant;

use crate::console::Console;
use crate::quantity::count_text;
use crate::render::span::coarse;

/// Rates are those of the last half minute.
const WINDOW: Duration = Duration::from_secs(30);
/// Between lines without a terminal.
const PLAIN_EVERY: Duration = Duration::from_secs(5);

/// Shows how far an array is.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    seen: VecDeque<(Instant, u32)>,
    last_plain: Option<Instant>,
    counts: Option<v1::TaskCounts>,
    reason: String,
}

impl Progress {
    pub(crate) fn new(console: &Console) -> Self {
        let bar = (console.err_is_terminal && !console.quiet).then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            bar.set_style(
                ProgressStyle::with_template("{msg}").expect("the template has one known key"),
            );
            bar
        });
        Self {
            bar,
            seen: VecDeque::new(),
            last_plain: None,
            counts: None,
            reason: String::new(),
        }
    }

    /// Takes how things stand now.
    pub(crate) fn update(&mut self, counts: v1::TaskCounts, now: Instant) {
        self.seen.push_back((now, done(&counts)));
        while self.seen.len() > 2 && self.seen.front().is_some_and(|(at, _)| now - *at > WINDOW) {
            self.seen.pop_front();
        }
        self.counts = Some(counts);
    }

    /// Why tasks wait; shown under the line.
    pub(crate) fn set_reason(&mut self, reason: &str) {
        reason.clone_into(&mut self.reason);
    }

    pub(crate) fn counts(&self) -> Option<&v1::TaskCounts> {
        self.counts.as_ref()
    }

    /// Draws, if it is time to.
    pub(crate) fn draw(&mut self, console: &mut Console, now: Instant) {
        let Some(counts) = &self.counts else { return };
        let text = text(counts, self.rate(now), &self.reason);
        if let Some(bar) = &self.bar {
            bar.set_message(crate::console::clean(&text));
            bar.tick();
            return;
        }
        let is_due = self.last_plain.is_none_or(|last| now - last >= PLAIN_EVERY);
        if is_due {
            self.last_plain = Some(now);
            console.note(text.lines().next().unwrap_or_default().trim_start());
        }
    }

    /// Takes the line away, so that other text can be written.
    pub(crate) fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    /// Tasks ended a second, in thousandths; `None` until it is known.
    fn rate(&self, now: Instant) -> Option<u64> {
        let (first_at, first) = self.seen.front()?;
        let (_, last) = self.seen.back()?;
        let millis = u64::try_from((now - *first_at).as_millis()).ok()?;
        if millis < 1000 {
            return None;
        }
        Some(u64::from(last.saturating_sub(*first)) * 1_000_000 / millis)
    }
}

/// Tasks that have ended.
pub(crate) const fn done(counts: &v1::TaskCounts) -> u32 {
    counts.succeeded + counts.canceled + bad(counts)
}

/// Tasks that ended otherwise than they should.
pub(crate) const fn bad(counts: &v1::TaskCounts) -> u32 {
    counts.failed
        + counts.oom
        + counts.timeout
        + counts.lost
        + counts.preempted
        + counts.image_error
        + counts.infra_error
}

/// One or two lines. `rate` is tasks a second in thousandths.
fn text(counts: &v1::TaskCounts, rate: Option<u64>, reason: &str) -> String {
    let done_now = done(counts);
    let left = counts.pending + counts.preparing + counts.running;
    let total = u64::from(done_now) + u64::from(left);
    let percent = (u64::from(done_now) * 100).checked_div(total).unwrap_or(0);
    let number = |count: u32| count_text(u64::from(count));
    let mut text = format!(
        "{percent:>3} %  {} done   {} running   {} pending   {} failed",
        number(done_now),
        number(counts.running),
        number(counts.pending + counts.preparing),
        number(bad(counts)),
    );
    if let Some(rate @ 1..) = rate {
        let seconds = u64::from(left) * 1000 / rate;
        text.push_str(&format!(
            "   {}.{}/s   about {} left",
            rate / 1000,
            rate % 1000 / 100,
            coarse(Millis::from_secs(seconds.max(1)))
        ));
    }
    let mut more = Vec::new();
    if counts.retries > 0 {
        more.push(format!("{} retried", number(counts.retries)));
    }
    if counts.pending > 0 && !reason.is_empty() {
        more.push(format!("pending because {reason}"));
    }
    if !more.is_empty() {
        text.push_str("\n       ");
        text.push_str(&more.join("   "));
    }
    text
}

/// `17,399 succeeded, 1 failed`: every kind of end that there was.
pub(crate) fn summary(counts: &v1::TaskCounts) -> String {
    let kinds = [
        (counts.succeeded, "succeeded"),
        (counts.failed, "failed"),
        (counts.oom, "oom"),
        (counts.timeout, "timeout"),
        (counts.lost, "lost"),
        (counts.preempted, "preempted"),
        (counts.image_error, "image_error"),
        (counts.infra_error, "infra_error"),
        (counts.canceled, "canceled"),
    ];
    let shown = kinds.into_iter().filter(|(count, _)| *count > 0);
    let parts: Vec<String> = shown
        .map(|(count, word)| format!("{} {word}", count_text(u64::from(count))))
        .collect();
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts() -> v1::TaskCounts {
        v1::TaskCounts {
            pending: 10_940,
            preparing: 8,
            running: 240,
            succeeded: 6_212,
            retries: 3,
            ..v1::TaskCounts::default()
        }
    }

    #[test]
    fn the_line_gives_every_figure() {
        assert_eq!(
            text(
                &counts(),
                Some(28_100),
                "pool etl is full: 240 of 240 places"
            ),
            " 35 %  6,212 done   240 running   10,948 pending   0 failed   28.1/s   about 6 m left\n       \
             3 retried   pending because pool etl is full: 240 of 240 places"
        );
    }

    #[test]
    fn without_a_rate_nothing_is_foretold() {
        let counts = v1::TaskCounts {
            pending: 2,
            failed: 1,
            timeout: 1,
            ..v1::TaskCounts::default()
        };
        assert_eq!(
            text(&counts, None, ""),
            " 50 %  2 done   0 running   2 pending   2 failed"
        );
        assert_eq!(
            text(&counts, Some(0), ""),
            " 50 %  2 done   0 running   2 pending   2 failed"
        );
    }

    #[test]
    fn the_summary_names_each_end() {
        let counts = v1::TaskCounts {
            succeeded: 17_399,
            failed: 1,
            canceled: 2,
            ..v1::TaskCounts::default()
        };
        assert_eq!(summary(&counts), "17,399 succeeded, 1 failed, 2 canceled");
    }
}
