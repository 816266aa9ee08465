//! Medians and intervals of small sets of measurements.

use std::time::Duration;

/// Measurements in seconds, sorted.
#[derive(Debug, Clone)]
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    /// # Panics
    /// Without any measurement.
    pub(crate) fn new(mut values: Vec<f64>) -> Self {
        assert!(!values.is_empty(), "a row measures at least once");
        values.sort_by(f64::total_cmp);
        Self(values)
    }

    pub(crate) fn of_durations(durations: &[Duration]) -> Self {
        Self::new(durations.iter().map(Duration::as_secs_f64).collect())
    }

    pub(crate) fn median(&self) -> f64 {
        let middle = self.0.len() / 2;
        if self.0.len().is_multiple_of(2) {
            f64::midpoint(self.0[middle - 1], self.0[middle])
        } else {
            self.0[middle]
        }
    }

    /// From the smallest to the largest.
    pub(crate) fn all(&self) -> &[f64] {
        &self.0
    }

    pub(crate) fn min(&self) -> f64 {
        self.0[0]
    }

    pub(crate) fn max(&self) -> f64 {
        self.0[self.0.len() - 1]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_or_between_the_two_middle_ones() {
        let samples = Samples::new(vec![3.0, 1.0, 2.0]);
        assert_eq!(
            (samples.min(), samples.median(), samples.max()),
            (1.0, 2.0, 3.0)
        );
        assert!((Samples::new(vec![4.0, 1.0, 2.0, 3.0]).median() - 2.5).abs() < f64::EPSILON);
    }
}
