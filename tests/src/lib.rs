//! The harness that all tiers of tests share.

pub mod cluster;
pub mod engine;
pub mod fleet;
pub mod gauge;
pub mod history;
pub mod hosts;
pub mod ledger;
pub mod processes;
pub mod proxy;
pub mod random;
pub mod registry;
pub mod sample;
pub mod tag;
