//! Amounts and pairs as people write them on a command line.

use std::str::FromStr;

use muster_core::time::Millis;
use muster_proto::v1;

/// Why a text is no amount.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadQuantity {
    #[error("is not a size such as 512m, 512Mi or 4g")]
    Size,
    #[error("is not a number of CPUs such as 2 or 0.5, with up to three decimals")]
    Cpus,
    #[error("is not of the form KEY=VALUE")]
    KeyValue,
    #[error("is not of the form KEY=N with N of at least 1")]
    Concurrency,
    #[error("is not a number of retries such as 3 or user=3,infra=5")]
    Retries,
    #[error(
        "is not a rule such as 2,64-78:fail or image_error:retry or oom:grow=1.5,8g; the ends are exit codes or \
         some of failed, oom, timeout, lost, preempted, image_error, infra_error"
    )]
    RetryRule,
    #[error("is not a time such as 10m, 2h ago or 2026-08-21T14:02:00Z")]
    Moment,
}

/// A size in bytes as docker reads it: `512`, `512b`, `512k`, `1.5g`, `512Mi`, `4GiB`; every unit is a
/// power of 1024.
pub(crate) fn parse_size(text: &str) -> Result<u64, BadQuantity> {
    let bad = || BadQuantity::Size;
    let lower = text.trim().to_ascii_lowercase();
    let number_len = lower
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(lower.len());
    let (number, unit) = lower.split_at(number_len);
    let shift = match unit.trim_start() {
        "" | "b" => 0,
        "k" | "kb" | "ki" | "kib" => 10,
        "m" | "mb" | "mi" | "mib" => 20,
        "g" | "gb" | "gi" | "gib" => 30,
        "t" | "tb" | "ti" | "tib" => 40,
        "p" | "pb" | "pi" | "pib" => 50,
        _ => return Err(bad()),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || fraction.len() > 9 || number.ends_with('.') {
        return Err(bad());
    }
    let whole: u64 = whole.parse().map_err(|_| bad())?;
    let whole = whole.checked_mul(1 << shift).ok_or_else(bad)?;
    let part = match fraction {
        "" => 0,
        digits => {
            let length = u32::try_from(digits.len()).expect("at most nine digits");
            let numerator: u128 = digits.parse().map_err(|_| bad())?;
            let part = (numerator << shift) / 10_u128.pow(length);
            u64::try_from(part).map_err(|_| bad())?
        }
    };
    whole.checked_add(part).ok_or_else(bad)
}

/// CPUs in thousandths.
pub(crate) fn parse_cpus(text: &str) -> Result<u32, BadQuantity> {
    let bad = || BadQuantity::Cpus;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(fraction) || fraction.len() > 3 || !(whole.is_empty() || digits(whole)) {
        return Err(bad());
    }
    let whole: u32 = match whole {
        "" => 0,
        digits => digits.parse().map_err(|_| bad())?,
    };
    let thousandths: u32 = format!("{fraction:0<3}").parse().map_err(|_| bad())?;
    let total = whole.checked_mul(1000).ok_or_else(bad)?;
    match total.checked_add(thousandths) {
        Some(millis @ 1..) => Ok(millis),
        Some(0) | None => Err(bad()),
    }
}

/// `KEY=VALUE`; the value may be empty and may hold further equals signs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyValue {
    pub(crate) key: String,
    pub(crate) value: String,
}

impl FromStr for KeyValue {
    type Err = BadQuantity;

    fn from_str(text: &str) -> Result<Self, BadQuantity> {
        match text.split_once('=') {
            Some((key, value)) if !key.is_empty() => Ok(Self {
                key: key.to_owned(),
                value: value.to_owned(),
            }),
            Some(_) | None => Err(BadQuantity::KeyValue),
        }
    }
}

/// `KEY=N`: at most N live attempts with this key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Concurrency {
    pub(crate) key: String,
    pub(crate) limit: u32,
}

impl FromStr for Concurrency {
    type Err = BadQuantity;

    fn from_str(text: &str) -> Result<Self, BadQuantity> {
        let bad = || BadQuantity::Concurrency;
        // The last equals sign: keys may hold one.
        let (key, limit) = text.rsplit_once('=').ok_or_else(bad)?;
        let limit = limit.parse().map_err(|_| bad())?;
        if key.is_empty() || limit == 0 {
            return Err(bad());
        }
        Ok(Self {
            key: key.to_owned(),
            limit,
        })
    }
}

/// `3` is `user=3`. What is not named keeps muster's default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Retries {
    pub(crate) user: Option<u32>,
    pub(crate) infra: Option<u32>,
}

impl FromStr for Retries {
    type Err = BadQuantity;

    fn from_str(text: &str) -> Result<Self, BadQuantity> {
        let bad = || BadQuantity::Retries;
        let mut retries = Self::default();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (kind, number) = part.split_once('=').unwrap_or(("user", part));
            let slot = match kind {
                "user" => &mut retries.user,
                "infra" => &mut retries.infra,
                _ => return Err(bad()),
            };
            if slot.replace(number.parse().map_err(|_| bad())?).is_some() {
                return Err(bad());
            }
        }
        Ok(retries)
    }
}

/// `ENDS:ACTION`: outcomes, and exit codes and ranges of them, with commas between; then `fail`, `retry` or
/// `grow=FACTOR,MOST`.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct RetryRule {
    pub(crate) outcomes: Vec<i32>,
    pub(crate) exit_codes: Vec<v1::ExitCodes>,
    pub(crate) action: v1::retry_rule::Action,
    pub(crate) grow: Option<v1::MemoryGrowth>,
}

impl RetryRule {
    /// The wire's rule is for ends that have an outcome and an exit code of its lists; this one is for any of both.
    pub(crate) fn to_wire(&self) -> impl Iterator<Item = v1::RetryRule> {
        let Self {
            outcomes,
            exit_codes,
            action,
            grow,
        } = self.clone();
        let of = |outcomes, exit_codes| v1::RetryRule {
            outcomes,
            exit_codes,
            action: action.into(),
            grow,
        };
        let by_outcome = (!outcomes.is_empty()).then(|| of(outcomes, Vec::new()));
        let by_code = (!exit_codes.is_empty()).then(|| of(Vec::new(), exit_codes));
        by_outcome.into_iter().chain(by_code)
    }
}

impl FromStr for RetryRule {
    type Err = BadQuantity;

    fn from_str(text: &str) -> Result<Self, BadQuantity> {
        let bad = || BadQuantity::RetryRule;
        let (ends, action) = text.split_once(':').ok_or_else(bad)?;
        let (action, grow) = match action {
            "fail" => (v1::retry_rule::Action::Fail, None),
            "retry" => (v1::retry_rule::Action::Retry, None),
            other => {
                let grow = other.strip_prefix("grow=").ok_or_else(bad)?;
                let grow = parse_growth(grow).ok_or_else(bad)?;
                (v1::retry_rule::Action::Retry, Some(grow))
            }
        };
        let mut rule = Self {
            action,
            grow,
            ..Self::default()
        };
        for end in ends.split(',') {
            if end.starts_with(|first: char| first.is_ascii_digit()) {
                let (first, last) = end.split_once('-').unwrap_or((end, end));
                rule.exit_codes.push(v1::ExitCodes {
                    first: first.parse().map_err(|_| bad())?,
                    last: Some(last.parse().map_err(|_| bad())?),
                });
            } else {
                let name = format!("OUTCOME_{}", end.to_uppercase());
                let outcome = v1::Outcome::from_str_name(&name);
                let known = outcome.filter(|outcome| *outcome != v1::Outcome::Unspecified);
                rule.outcomes.push(known.ok_or_else(bad)?.into());
            }
        }
        Ok(rule)
    }
}

/// `1.5,8g`: the factor, to two places, and the most.
fn parse_growth(text: &str) -> Option<v1::MemoryGrowth> {
    let (factor, most) = text.split_once(',')?;
    let (whole, part) = factor.split_once('.').unwrap_or((factor, "0"));
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if part.is_empty() || part.len() > 2 || !is_number(whole) || !is_number(part) {
        return None;
    }
    let hundredths: u32 = format!("{part:0<2}").parse().ok()?;
    let percent = whole.parse::<u32>().ok()?.checked_mul(100)?;
    Some(v1::MemoryGrowth {
        percent: percent.checked_add(hundredths)?,
        max_bytes: parse_size(most).ok()?,
    })
}

/// A point in time: how long ago, or an RFC 3339 time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    Ago(Millis),
    At(jiff::Timestamp),
}

impl Moment {
    pub(crate) fn resolve(self, now: jiff::Timestamp) -> jiff::Timestamp {
        match self {
            Self::Ago(span) => {
                let millis = i64::try_from(span.0).unwrap_or(i64::MAX);
                let span = jiff::SignedDuration::from_millis(millis);
                now.checked_sub(span).unwrap_or(jiff::Timestamp::UNIX_EPOCH)
            }
            Self::At(at) => at,
        }
    }
}

impl FromStr for Moment {
    type Err = BadQuantity;

    fn from_str(text: &str) -> Result<Self, BadQuantity> {
        let span = text.strip_suffix("ago").map_or(text, str::trim_end);
        if let Ok(span) = span.parse() {
            return Ok(Self::Ago(span));
        }
        text.parse().map(Self::At).map_err(|_| BadQuantity::Moment)
    }
}

/// Bytes for people: `512 MiB`, `15.5 GiB`.
pub(crate) fn size_text(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut unit = 0;
    let mut tenths = u128::from(bytes) * 10;
    while tenths >= 10 * 1024 && unit + 1 < UNITS.len() {
        tenths = (tenths + 512) / 1024;
        unit += 1;
    }
    match tenths % 10 {
        0 => format!("{} {}", tenths / 10, UNITS[unit]),
        _ if tenths >= 1000 => format!("{} {}", (tenths + 5) / 10, UNITS[unit]),
        tenth => format!("{}.{tenth} {}", tenths / 10, UNITS[unit]),
    }
}

/// Thousandths of a CPU for people: `0.5`, `8`.
pub(crate) fn cpus_text(millis: u32) -> String {
    let text = format!("{}.{:03}", millis / 1000, millis % 1000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// `17400` as `17,400`.
pub(crate) fn count_text(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests;
