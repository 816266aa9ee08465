use super::*;

const MS: fn(u64) -> Duration = Duration::from_millis;

/// The limit that it comes to on an engine that does `at_once` at a time, in 100 ms each.
fn comes_to(limit: &mut Limit, at_once: u32, at: Instant) -> u32 {
    for _ in 0..500 {
        let rounds = f64::from(limit.now.max(at_once)) / f64::from(at_once);
        limit.started(Kind::LentNamespace, MS(100).mul_f64(rounds), true, at);
    }
    limit.now
}

#[test]
fn it_comes_to_what_the_engine_does_at_once_and_a_few_that_wait() {
    let now = Instant::now();
    for (cpus, at_once) in [(2, 2), (2, 4), (4, 4), (8, 16), (8, 9)] {
        let mut limit = Limit::new(cpus * 4, cpus);
        // Seen alone, so that it knows the fastest.
        limit.started(Kind::LentNamespace, MS(100), false, now);
        let found = comes_to(&mut limit, at_once, now);
        let right = at_once + cpus..=at_once + 2 * cpus;
        assert!(
            right.contains(&found),
            "{cpus} CPUs, {at_once} at once: {found}"
        );
    }
}

#[test]
fn it_keeps_within_its_bounds() {
    let now = Instant::now();
    let mut limit = Limit::new(8, 2);
    assert_eq!(limit.now, 4);
    assert_eq!(comes_to(&mut limit, 100, now), 8);
    limit.started(Kind::LentNamespace, MS(1), false, now);
    // Everything takes a hundred times as long: never none, and not so few that CPUs idle.
    for _ in 0..500 {
        limit.started(Kind::LentNamespace, MS(100), true, now);
    }
    assert_eq!(limit.now, 4);
    assert_eq!(Limit::new(1, 64).now, 1);
    assert_eq!(Limit::new(0, 0).now, 1);
}

#[test]
fn starts_that_do_not_fill_it_do_not_change_it() {
    let now = Instant::now();
    let mut limit = Limit::new(8, 2);
    for _ in 0..100 {
        limit.started(Kind::NoNetwork, MS(100), false, now);
    }
    assert_eq!(limit.now, 4);
}

#[test]
fn kinds_are_held_against_their_own_fastest_of_the_last_minutes() {
    let now = Instant::now();
    let mut limit = Limit::new(8, 2);
    limit.started(Kind::LentNamespace, MS(1), false, now);
    for _ in 0..100 {
        limit.started(Kind::OwnNamespace, MS(300), true, now);
    }
    assert_eq!(limit.now, 8, "they are as fast as ever");
    let later = |memories: u32| now + memories * MEMORY;
    for memories in 1..=2 {
        limit.started(Kind::LentNamespace, MS(50), false, later(memories));
    }
    let fastest = limit.fastest[2].note(MS(60), later(2));
    assert_eq!(fastest, MS(50), "the one of 1 ms is long ago");
}

#[tokio::test]
async fn there_are_as_many_permits_as_the_limit_says() {
    let starts = Starts::new(8, 2);
    // Four at a time, and full: it grows by one when each has said that it was as fast as any.
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(starts.acquire().await);
    }
    assert_eq!(starts.permits.available_permits(), 0);
    for _ in 0..4 {
        let first: Permit<'_> = held.pop().unwrap();
        first.started(Kind::NoNetwork, MS(100));
        held.push(starts.acquire().await);
    }
    assert_eq!(starts.limit(), 5);
    drop(held);
    assert_eq!(starts.permits.available_permits(), 5);

    starts.lock().limit.now = 2;
    let mut held = Vec::new();
    for _ in 0..5 {
        held.push(starts.acquire().await);
    }
    drop(held);
    assert_eq!(starts.permits.available_permits(), 2);
}
