//! Specs of live jobs, equal ones once: however many jobs wait, few of their specs differ.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::job::Job;
use crate::spec::Spec;

/// With the number of live jobs that have each.
#[derive(Debug, Default)]
pub(super) struct Specs(BTreeMap<Arc<Spec>, u32>);

impl Specs {
    /// The job of a new live job, with the spec that others of its kind have.
    pub(super) fn share(&mut self, job: Arc<Job>) -> Arc<Job> {
        let known = self
            .0
            .get_key_value(&job.spec)
            .map(|(spec, _)| spec.clone());
        *self.0.entry(job.spec.clone()).or_default() += 1;
        match known {
            Some(spec) if !Arc::ptr_eq(&spec, &job.spec) => {
                let job = Arc::unwrap_or_clone(job);
                Arc::new(Job { spec, ..job })
            }
            Some(_) | None => job,
        }
    }

    /// The job is live no more.
    pub(super) fn leave(&mut self, job: &Job) {
        if let Some(count) = self.0.get_mut(&job.spec) {
            *count -= 1;
            if *count == 0 {
                self.0.remove(&job.spec);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::tests::rig::{Rig, spec};

    #[test]
    fn equal_specs_are_kept_once_and_only_while_a_job_lives() {
        let mut specs = Specs::default();
        let mut rig = Rig::new();
        let one = specs.share(Arc::new(rig.job(spec(), 1)));
        let two = specs.share(Arc::new(rig.job(spec(), 1)));

        assert!(Arc::ptr_eq(&one.spec, &two.spec));
        assert_ne!(one.id, two.id);
        specs.leave(&one);
        assert_eq!(specs.0.len(), 1);
        specs.leave(&two);
        assert!(specs.0.is_empty());
    }
}
