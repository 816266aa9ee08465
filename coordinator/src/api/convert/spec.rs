//! A job's spec between the wire and the core. Reading it is where a bad spec is refused.

mod amounts;
mod checks;
mod read;
mod write;

pub(super) use checks::check_argv;
pub use read::spec_from_wire;
pub use write::spec_to_wire;

/// One thing that is wrong with a request. Goes into `google.rpc.BadRequest`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Path of the field, e.g. `jobs[2].spec.env`.
    pub field: String,
    /// Names the value and what would be right.
    pub problem: String,
}

/// Collects everything that is wrong, so that one reply names it all.
#[derive(Debug, Default)]
pub struct Violations(Vec<Violation>);

impl Violations {
    pub fn add(&mut self, field: &str, problem: impl Into<String>) {
        self.0.push(Violation {
            field: field.to_owned(),
            problem: problem.into(),
        });
    }

    /// Keeps the value of a good result and the problem of a bad one.
    pub(super) fn check<T, E: std::fmt::Display>(
        &mut self,
        field: &str,
        result: Result<T, E>,
    ) -> Option<T> {
        result
            .map_err(|error| self.add(field, error.to_string()))
            .ok()
    }

    #[must_use]
    pub fn into_vec(self) -> Vec<Violation> {
        self.0
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests;
