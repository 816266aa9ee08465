//! Conversions between the wire and the core, by full destructuring: a new field breaks the build
//! until it is handled.

pub(crate) mod agents;
pub(crate) mod channels;
pub(crate) mod duration;
pub(crate) mod jobs;
pub(crate) mod rollouts;
pub(crate) mod session;
pub(crate) mod spec;

pub use spec::{Violation, Violations, spec_from_wire, spec_to_wire};
