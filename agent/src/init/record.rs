//! The text of a record. `init/src/record.rs` writes it.

use muster_core::time::Timestamp;

use crate::outcome::{Run, RunEnd};

/// `None`: it is not whole, not of a version that is known, or not from who has the key.
pub(super) fn parse(text: &str, key: &str) -> Option<Run> {
    let mut lines = text.lines();
    let known = lines.next()? == "muster-init 1";
    let genuine = lines.next()?.strip_prefix("key ")? == key;
    if !known || !genuine || key.is_empty() {
        return None;
    }
    let (mut started, mut ended, mut end) = (None, None, None);
    let (mut signal, mut lease_ended, mut oom_kills) = (None, false, 0);
    for line in lines {
        let mut words = line.split(' ');
        let word = words.next()?;
        let mut number = || words.next()?.parse::<i64>().ok();
        match word {
            // Each moment is two readings: the clock since the host's start, and the wall clock.
            "started" => started = number().and_then(|_| timestamp(number())),
            "ended" => ended = number().and_then(|_| timestamp(number())),
            "exited" => end = Some(RunEnd::Exited(small(number())?)),
            "signaled" => end = Some(RunEnd::Signaled(small(number())?)),
            "no_program" => end = Some(RunEnd::NoProgram(small(number())?)),
            "signal" => signal = Some(small(number())?),
            "lease_ended" => lease_ended = true,
            "oom_kills" => oom_kills = number()?,
            "end" => {
                return Some(Run {
                    started: started?,
                    ended: ended?,
                    end: end?,
                    signal,
                    lease_ended,
                    oom_killed: oom_kills > 0,
                });
            }
            // A newer init process may say more.
            _ => {}
        }
    }
    None
}

fn timestamp(millis: Option<i64>) -> Option<Timestamp> {
    u64::try_from(millis?).ok().map(Timestamp)
}

fn small(number: Option<i64>) -> Option<i32> {
    i32::try_from(number?).ok()
}
