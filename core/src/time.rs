//! Time as the core sees it: numbers that the shell passes in.

use std::fmt;
use std::ops::{Add, Sub};
use std::str::FromStr;
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

/// A text that is no span of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a duration such as 90s, 15m, 2h or 7d")]
pub struct BadMillis;

impl FromStr for Millis {
    type Err = BadMillis;

    /// `90s`, `15m`, `2h`, `7d`, `250ms`, and sums such as `1h30m`. Always with a unit.
    fn from_str(text: &str) -> Result<Self, BadMillis> {
        if text.is_empty() {
            return Err(BadMillis);
        }
        let mut rest = text;
        let mut total: u64 = 0;
        while !rest.is_empty() {
            let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let (number, after) = rest.split_at(digits);
            let next = after.trim_start_matches(|c: char| c.is_ascii_lowercase());
            let millis: u64 = match &after[..after.len() - next.len()] {
                "ms" => 1,
                "s" => 1_000,
                "m" => 60_000,
                "h" => 3_600_000,
                "d" => 86_400_000,
                _ => return Err(BadMillis),
            };
            let number: u64 = number.parse().map_err(|_| BadMillis)?;
            let part = number.checked_mul(millis).ok_or(BadMillis)?;
            total = total.checked_add(part).ok_or(BadMillis)?;
            rest = next;
        }
        Ok(Self(total))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit() {
        let cases = [
            ("90s", 90_000),
            ("15m", 900_000),
            ("2h", 7_200_000),
            ("7d", 604_800_000),
            ("250ms", 250),
            ("1h30m", 5_400_000),
            ("0s", 0),
        ];
        for (text, millis) in cases {
            assert_eq!(text.parse(), Ok(Millis(millis)), "{text}");
        }
        for text in [
            "",
            "5",
            "s",
            "5 s",
            "1.5h",
            "-1s",
            "5w",
            "99999999999999999d",
        ] {
            assert_eq!(text.parse::<Millis>(), Err(BadMillis), "{text}");
        }
    }
}
