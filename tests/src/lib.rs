//! The harness that all tiers of tests share.
