//! Times: RFC 3339 in UTC for programs, relative ones for people.

use muster_core::time::Millis;

/// A time of the wire, if there is one and it is in range.
pub(crate) fn timestamp(at: Option<prost_types::Timestamp>) -> Option<jiff::Timestamp> {
    let at = at?;
    jiff::Timestamp::new(at.seconds, at.nanos).ok()
}

/// `2026-08-21T14:02:00.123Z`.
pub(crate) fn rfc3339(at: Option<prost_types::Timestamp>) -> Option<String> {
    timestamp(at).map(|at| format!("{at:.3}"))
}

/// A time as the wire has it.
pub(crate) fn wire(at: jiff::Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: at.as_second(),
        nanos: at.subsec_nanosecond(),
    }
}

/// Seconds of a span of the wire.
pub(crate) fn seconds(span: Option<prost_types::Duration>) -> Option<f64> {
    let millis = millis(span)?.0;
    // Below 2^53 ms, which is 285,000 years, nothing is lost.
    u32::try_from(millis / 1000).ok().map(|whole| {
        f64::from(whole) + f64::from(u16::try_from(millis % 1000).expect("below 1000")) / 1000.0
    })
}

pub(crate) fn millis(span: Option<prost_types::Duration>) -> Option<Millis> {
    let span = span?;
    let seconds = u64::try_from(span.seconds).ok()?;
    let nanos = u64::try_from(span.nanos).ok()?;
    Some(Millis(
        seconds
            .saturating_mul(1000)
            .saturating_add(nanos / 1_000_000),
    ))
}

/// From `start` to `end`; zero if the clocks say otherwise.
pub(crate) fn between(
    start: Option<prost_types::Timestamp>,
    end: Option<prost_types::Timestamp>,
) -> Option<Millis> {
    let span = timestamp(end)?.duration_since(timestamp(start)?);
    Some(Millis(u64::try_from(span.as_millis()).unwrap_or(0)))
}

/// `4 m 10 s ago`, or nothing.
pub(crate) fn ago(at: Option<prost_types::Timestamp>, now: jiff::Timestamp) -> String {
    match between(at, Some(wire(now))) {
        Some(span) if span.0 < 1000 => "now".to_owned(),
        Some(span) => format!("{} ago", coarse(span)),
        None => String::new(),
    }
}

/// As `Millis` writes itself, without the part nobody needs: `4 m`, `3 d`.
pub(crate) fn coarse(span: Millis) -> String {
    match span.0 / 1000 {
        seconds @ 0..60 => format!("{seconds} s"),
        seconds @ 60..3_600 => format!("{} m", seconds / 60),
        seconds @ 3_600..86_400 => format!("{} h", seconds / 3_600),
        seconds => format!("{} d", seconds / 86_400),
    }
}
