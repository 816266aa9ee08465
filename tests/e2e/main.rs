//! The real binary, a real engine, a real registry and a real push gateway.
//!
//! Needs root's access to a Docker engine, so it runs only with `MUSTER_E2E=1`, as `make e2e` and
//! `make test` set it. Every test has a fleet of its own: daemons on free ports, a data directory, and
//! containers that carry the fleet's own cluster label; all of it is gone when the test ends.
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use muster_tests::{fleet, processes};

mod doctor;
mod life;
mod outcomes;
mod recipes;
mod registry;
mod rollout;
mod stranger;
mod telemetry;
mod tracing;
mod warm;
