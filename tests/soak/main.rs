//! Many tasks, for long, with faults: nothing is lost, nothing counts twice, nothing grows.
//!
//! `make soak` runs it in a release build, with `TASKS` and `CONTAINERS` for the sizes, and writes a report;
//! `make test` runs a small one, so that it does not rot. Both need the binary, and the second half an engine:
//! they run only with `MUSTER_E2E=1`.
#![expect(clippy::unwrap_used, reason = "a soak that can't go on has failed")]

mod audit;
mod calls;
mod containers;
mod daemons;
mod faults;
mod figures;
mod fleet;
mod flood;
mod ledger;
mod load;
mod proxy;
mod settings;
mod sides;
mod simulated;
