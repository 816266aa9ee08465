//! The harness that all tiers of tests share.

pub mod random;
pub mod sample;
