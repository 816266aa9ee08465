//! The harness that all tiers of tests share.

pub mod cluster;
pub mod engine;
pub mod fleet;
pub mod history;
pub mod ledger;
pub mod processes;
pub mod proxy;
pub mod random;
pub mod sample;
