use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn ranges() -> impl Strategy<Value = Ranges> {
    prop::collection::vec((0u32..60, 0u32..8), 0..8).prop_map(|list| {
        Ranges::from_ranges(list.into_iter().map(|(first, more)| first..=first + more))
    })
}

fn members(ranges: &Ranges) -> BTreeSet<u32> {
    ranges.iter().flatten().collect()
}

proptest! {
    #[test]
    fn taking_is_set_difference_and_intersection(mut a in ranges(), b in ranges()) {
        let (before, other) = (members(&a), members(&b));
        let taken = a.take(&b);
        prop_assert_eq!(members(&taken), before.intersection(&other).copied().collect());
        prop_assert_eq!(members(&a), before.difference(&other).copied().collect());
        prop_assert_eq!(a.count() as usize, members(&a).len());
    }

    #[test]
    fn a_set_survives_its_text(a in ranges()) {
        prop_assert_eq!(a.to_string().parse(), Ok(a));
    }

    #[test]
    fn popping_gives_all_in_order(mut a in ranges()) {
        let expected: Vec<u32> = members(&a).into_iter().collect();
        let popped: Vec<u32> = std::iter::from_fn(|| a.pop_first()).collect();
        prop_assert_eq!(popped, expected);
    }
}

#[test]
fn a_million_is_one_range() {
    let mut all = Ranges::up_to(1_000_000);
    assert_eq!(all.to_string(), "0-999999");
    assert_eq!(all.pop_first(), Some(0));
    assert_eq!(all.to_string(), "1-999999");
    assert_eq!(Ranges::up_to(0), Ranges::default());
}

#[test]
fn a_bad_range_is_named() {
    for text in ["x", "3-1", "1-2-3", "4294967295", "-4"] {
        assert!(text.parse::<Ranges>().is_err(), "{text}");
    }
}
