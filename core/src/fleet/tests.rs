//! The fleet as a caller sees it: events in, effects out, invariants after each.

mod rig;

mod agents;
mod channels;
mod tasks;
