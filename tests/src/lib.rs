//! The harness that all tiers of tests share.

pub mod cluster;
pub mod random;
pub mod sample;
