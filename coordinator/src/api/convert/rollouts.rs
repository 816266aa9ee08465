//! Rollouts and their policies. A policy is read from clients, and refused there field by field; a whole
//! rollout is written for clients and for the store, and read back from the store only.

mod policy;
mod read;
mod write;

pub(crate) use policy::{policy_from_wire, policy_to_wire};
pub(crate) use read::rollout_from_wire;
pub(crate) use write::rollout_to_wire;

#[cfg(test)]
mod tests;
