//! The coordinator: owns the fleet, stores what happened, and talks to clients and agents.

pub mod config;
pub mod listen;
mod run;

pub use run::{Addresses, RunError, run, run_with};

mod check;
pub mod driver;
mod following;
mod gauges;

pub mod api;
mod serve;
pub mod session;

pub mod logs;
pub mod manifest;
pub mod store;

pub mod http;
pub mod metrics;
pub mod poll;
pub mod registry;
pub mod telemetry;
pub mod webhook;

#[cfg(test)]
mod contract;
