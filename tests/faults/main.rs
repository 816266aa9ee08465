//! What muster promises when processes die or freeze: real daemons, and engines of their own to hurt.
//!
//! Needs root and the programs of a Docker engine, so it runs only with `MUSTER_E2E=1`, as `make faults`
//! and `make test` set it. The engine of the host is only asked for the test image. `make
//! faults-long` sets `MUSTER_FAULTS=long`: everything takes longer and is done more often.

mod agent_kills;
mod black_hole;
mod cancel;
mod contract;
mod coordinator_kills;
mod crash_points;
mod engine;
mod engine_restart;
mod foreign;
mod frozen;
mod fsync;
mod poison;
mod store;
mod upgrade;
