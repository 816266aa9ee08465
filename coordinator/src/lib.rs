//! The coordinator: owns the fleet, stores what happened, and talks to clients and agents.

pub mod api;
pub mod store;
