//! Time as the core sees it: numbers that the shell passes in.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

/// Milliseconds since the Unix epoch, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(pub u64);

/// A span of time in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Millis(pub u64);

impl Millis {
    #[must_use]
    pub const fn from_secs(seconds: u64) -> Self {
        Self(seconds.saturating_mul(1000))
    }
}

impl Timestamp {
    /// Zero if `earlier` is later: clocks step back, spans don't.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Millis {
        Millis(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Millis> for Timestamp {
    type Output = Self;

    fn add(self, span: Millis) -> Self {
        Self(self.0.saturating_add(span.0))
    }
}

impl Sub<Millis> for Timestamp {
    type Output = Self;

    fn sub(self, span: Millis) -> Self {
        Self(self.0.saturating_sub(span.0))
    }
}

impl From<Millis> for Duration {
    fn from(span: Millis) -> Self {
        Self::from_millis(span.0)
    }
}

impl fmt::Display for Millis {
    /// `850 ms`, `1.9 s`, `42 s`, `4 m 10 s`, `2 h 3 m`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0 / 1000;
        match self.0 {
            0..1_000 => write!(f, "{} ms", self.0),
            1_000..10_000 => write!(f, "{seconds}.{} s", self.0 % 1000 / 100),
            10_000..60_000 => write!(f, "{seconds} s"),
            60_000..3_600_000 if seconds.is_multiple_of(60) => write!(f, "{} m", seconds / 60),
            60_000..3_600_000 => write!(f, "{} m {} s", seconds / 60, seconds % 60),
            _ if (seconds / 60).is_multiple_of(60) => write!(f, "{} h", seconds / 3600),
            _ => write!(f, "{} h {} m", seconds / 3600, seconds / 60 % 60),
        }
    }
}
