//! The shortest history that still breaks the same promise.

use crate::bug::Bug;
use crate::script::Script;
use crate::world::run;

/// More histories than this are not tried.
const TRIES: u32 = 400;

/// Leaves out what the violation does not need: tasks, then clients' and disasters' actions in halves, quarters and
/// so on down to single ones, then hosts.
pub(crate) fn shortest(
    seed: u64,
    script: &Script,
    bug: Option<Bug>,
    invariant: &'static str,
) -> Script {
    let mut tries = 0;
    let mut fails = |script: &Script| {
        tries += 1;
        let same = |violation: crate::trace::Violation| violation.invariant == invariant;
        tries <= TRIES && run(seed, script, bug, false).violation.is_some_and(same)
    };
    let mut best = script.clone();
    for most_tasks in [1, 2, 4] {
        let fewer = Script {
            most_tasks,
            ..best.clone()
        };
        if fails(&fewer) {
            best = fewer;
            break;
        }
    }
    let mut length = best.actions.len().div_ceil(2);
    while length > 0 {
        let before = best.actions.len();
        let mut first = 0;
        while first < best.actions.len() {
            let mut shorter = best.clone();
            let end = (first + length).min(shorter.actions.len());
            shorter.actions.drain(first..end);
            if fails(&shorter) {
                best = shorter;
            } else {
                first += length;
            }
        }
        if length > 1 || best.actions.len() == before {
            length /= 2;
        }
    }
    for hosts in 1..best.hosts {
        let fewer = Script {
            hosts,
            ..best.clone()
        };
        if fails(&fewer) {
            best = fewer;
            break;
        }
    }
    best
}
