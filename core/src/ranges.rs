//! Sets of task indexes as ranges, so that a million of them cost what one costs.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// A set of `u32` as sorted, separate, non-adjacent inclusive ranges. Written `0-9,12`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ranges(Vec<(u32, u32)>);

impl Ranges {
    /// `0..count`.
    #[must_use]
    pub fn up_to(count: u32) -> Self {
        count
            .checked_sub(1)
            .map_or_else(Self::default, |last| Self(vec![(0, last)]))
    }

    /// Any ranges in any order; a reversed one is empty.
    #[must_use]
    pub fn from_ranges(ranges: impl IntoIterator<Item = RangeInclusive<u32>>) -> Self {
        let mut all: Vec<(u32, u32)> = ranges
            .into_iter()
            .filter(|range| !range.is_empty())
            .map(RangeInclusive::into_inner)
            .collect();
        all.sort_unstable();
        let mut joined: Vec<(u32, u32)> = Vec::with_capacity(all.len());
        for (first, last) in all {
            match joined.last_mut() {
                Some(before) if first <= before.1.saturating_add(1) => {
                    before.1 = before.1.max(last)
                }
                Some(_) | None => joined.push((first, last)),
            }
        }
        Self(joined)
    }

    /// Takes the smallest index out.
    pub fn pop_first(&mut self) -> Option<u32> {
        let range = self.0.first_mut()?;
        let index = range.0;
        if range.0 == range.1 {
            self.0.remove(0);
        } else {
            range.0 += 1;
        }
        Some(index)
    }

    /// Takes out what is in `others` too, and returns it.
    pub fn take(&mut self, others: &Self) -> Self {
        let mut kept = Vec::new();
        let mut taken = Vec::new();
        for &(first, last) in &self.0 {
            let mut next = Some(first);
            for &(from, to) in others
                .0
                .iter()
                .filter(|(from, to)| *from <= last && *to >= first)
            {
                let (from, to) = (from.max(first), to.min(last));
                if let Some(start) = next.filter(|start| *start < from) {
                    kept.push(start..=from - 1);
                }
                taken.push(from..=to);
                next = to.checked_add(1).filter(|after| *after <= last);
            }
            if let Some(start) = next {
                kept.push(start..=last);
            }
        }
        *self = Self::from_ranges(kept);
        Self::from_ranges(taken)
    }

    #[must_use]
    pub fn contains(&self, index: u32) -> bool {
        self.0
            .iter()
            .any(|(first, last)| (*first..=*last).contains(&index))
    }

    /// How many indexes are in the set.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.0.iter().map(|(first, last)| last - first + 1).sum()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The ranges in order.
    pub fn iter(&self) -> impl Iterator<Item = RangeInclusive<u32>> + '_ {
        self.0.iter().map(|(first, last)| *first..=*last)
    }
}

impl fmt::Display for Ranges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (first, last)) in self.0.iter().enumerate() {
            let comma = if place == 0 { "" } else { "," };
            if first == last {
                write!(f, "{comma}{first}")?;
            } else {
                write!(f, "{comma}{first}-{last}")?;
            }
        }
        Ok(())
    }
}

/// Not of the form `3`, `0-9` or a list of those with commas.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an index or a range such as 3 or 12-40")]
pub struct BadRange {
    pub text: String,
}

impl FromStr for Ranges {
    type Err = BadRange;

    fn from_str(text: &str) -> Result<Self, BadRange> {
        let parse = |part: &str| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let bounds = (first.parse::<u32>().ok()?, last.parse::<u32>().ok()?);
            (bounds.0 <= bounds.1 && bounds.1 < u32::MAX).then_some(bounds.0..=bounds.1)
        };
        let parts = text.split(',').filter(|part| !part.is_empty());
        let ranges: Result<Vec<_>, BadRange> = parts
            .map(|part| {
                parse(part).ok_or_else(|| BadRange {
                    text: part.to_owned(),
                })
            })
            .collect();
        ranges.map(Self::from_ranges)
    }
}

#[cfg(test)]
mod tests;
