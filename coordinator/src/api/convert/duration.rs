//! Spans and moments between the wire and the core.

use muster_core::time::{Millis, Timestamp};

/// `None` if it is negative, malformed or longer than a `u64` of milliseconds.
pub(crate) fn millis_from_wire(wire: &prost_types::Duration) -> Option<Millis> {
    let seconds = u64::try_from(wire.seconds).ok()?;
    let nanos = u64::try_from(wire.nanos)
        .ok()
        .filter(|nanos| *nanos < 1_000_000_000)?;
    // Part of a millisecond counts as a whole one, so that nothing above zero becomes zero.
    Some(Millis(
        seconds
            .checked_mul(1000)?
            .checked_add(nanos.div_ceil(1_000_000))?,
    ))
}

pub(crate) fn millis_to_wire(span: Millis) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(span.0 / 1000).unwrap_or(i64::MAX),
        nanos: i32::try_from(span.0 % 1000).expect("below 1000") * 1_000_000,
    }
}

pub(crate) fn time_to_wire(at: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: i64::try_from(at.0 / 1000).unwrap_or(i64::MAX),
        nanos: i32::try_from(at.0 % 1000).expect("below 1000") * 1_000_000,
    }
}

/// Zero if it is before 1970 or malformed.
pub(crate) fn time_from_wire(wire: &prost_types::Timestamp) -> Timestamp {
    let seconds = u64::try_from(wire.seconds).unwrap_or(0);
    let nanos = u64::try_from(wire.nanos).unwrap_or(0);
    Timestamp(
        seconds
            .saturating_mul(1000)
            .saturating_add(nanos / 1_000_000),
    )
}
