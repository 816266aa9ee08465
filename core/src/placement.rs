//! Choosing agents for tasks.
