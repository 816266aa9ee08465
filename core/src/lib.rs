//! Every decision muster makes, and nothing else.
//!
//! This crate has no I/O, no clock, no randomness, no locks and no async. The shell tells
//! [`Fleet`](fleet::Fleet) what happened as an [`Event`](event::Event), with the time as an argument and
//! with ids it made; the fleet answers with [`Effect`](effect::Effect)s, which the shell carries out after
//! it has stored the records among them. A restart, a replay and a simulation are therefore the same code.
#![warn(
    clippy::wildcard_enum_match_arm,
    reason = "a new state or a new kind of news has to answer for every pair"
)]

mod hash;
pub mod ids;
pub mod time;

pub mod image;
pub mod logframe;
pub mod outcome;
pub mod promtext;
pub mod ranges;
pub mod spec;

pub mod agent;
pub mod channel;
pub mod error_chain;
pub mod job;
pub mod redact;
pub mod retry;
pub mod rollout;
pub mod safe_mode;
pub mod task;

pub mod placement;

pub mod effect;
pub mod event;
pub mod fleet;
