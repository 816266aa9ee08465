//! The fleet as a caller sees it: events in, effects out, invariants after each.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "tests pick one kind of effect out of many"
)]

pub(super) mod rig;

mod agents;
mod channels;
mod cut_off;
mod growth;
mod orphans;
mod pace;
mod pulls;
mod restart;
mod rollouts;
mod safe_mode;
mod silence;
mod tasks;
mod trouble;
mod warm;
