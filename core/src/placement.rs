//! Choosing agents for tasks: a pure function from a problem to a solution.

pub mod problem;
pub mod solve;
