use super::*;

const LIMITS: Limits = Limits {
    cpu_millis: 500,
    memory_bytes: 64 << 20,
    pids: 10,
};

fn image(digit: char) -> Image {
    let digest: String = std::iter::repeat_n(digit, 64).collect();
    format!("r.example/x@sha256:{digest}").parse().unwrap()
}

fn want(min: u32, max: u32) -> Want {
    let image = image('1');
    Want { image, min, max }
}

fn as_user(user: &str) -> Wish {
    Wish {
        user: Some(user.to_owned()),
        ..Wish::default()
    }
}

fn channel(want: Want, asked: &[(&Wish, usize)], now: Instant) -> Channel {
    let mut channel = Channel::default();
    channel.want(want);
    for (wish, times) in asked {
        for _ in 0..*times {
            channel.ask(wish, LIMITS, now);
        }
    }
    channel
}

#[test]
fn without_tasks_there_is_the_least_of_what_a_task_without_wishes_needs() {
    let now = Instant::now();
    assert_eq!(channel(want(0, 5), &[], now).targets(now), []);
    let two = channel(want(2, 5), &[], now).targets(now);
    assert_eq!(two, [(Wish::default(), 2)]);
    assert_eq!(Channel::default().targets(now), []);
}

#[test]
fn as_many_wait_as_tasks_came_in_a_minute_within_the_bounds() {
    let now = Instant::now();
    let user = as_user("1000");
    let of = |times| channel(want(1, 4), &[(&user, times)], now);
    assert_eq!(of(3).targets(now), [(user.clone(), 3)]);
    assert_eq!(of(9).targets(now), [(user.clone(), 4)]);
    let later = now + WINDOW + Duration::from_secs(1);
    assert_eq!(of(9).targets(later), [(user.clone(), 1)]);
    assert_eq!(of(1).limits(&user), LIMITS);
    assert_eq!(of(1).limits(&Wish::default()), DEFAULT_LIMITS);
}

#[test]
fn different_wishes_share_what_there_is() {
    let now = Instant::now();
    let (often, rare) = (as_user("1"), as_user("2"));
    let asked = [(&rare, 2), (&often, 6)];
    let targets = channel(want(0, 4), &asked, now).targets(now);
    assert_eq!(targets, [(often.clone(), 4)]);
    let targets = channel(want(0, 7), &asked, now).targets(now);
    assert_eq!(targets, [(often.clone(), 6), (rare.clone(), 1)]);
    // What is over is for the newest.
    let targets = channel(want(9, 9), &[(&often, 1), (&rare, 1)], now).targets(now);
    assert_eq!(targets, [(rare, 8), (often, 1)]);
}

#[test]
fn old_wishes_are_forgotten() {
    let now = Instant::now();
    let mut all = channel(want(1, 1), &[(&as_user("old"), 1)], now);
    let later = now + FORGET + Duration::from_secs(1);
    for number in 0..=WISHES_MAX {
        all.ask(&as_user(&number.to_string()), LIMITS, later);
    }
    assert_eq!(all.seen.len(), WISHES_MAX);
    assert_eq!(all.seen[0].wish, as_user("1"));
    for _ in 0..=TIMES_MAX {
        all.ask(&as_user("1"), LIMITS, later);
    }
    assert_eq!(all.seen.last().unwrap().times.len(), TIMES_MAX);
}

#[test]
fn a_small_budget_is_shared_by_channels_in_turn() {
    let now = Instant::now();
    let channels: BTreeMap<String, Channel> = [("t/a", 5), ("t/b", 1), ("t/c", 5)]
        .map(|(name, min)| (name.to_owned(), channel(want(min, min), &[], now)))
        .into();
    let of = |budget| -> Vec<u32> {
        let targets = targets(&channels, budget, now);
        targets.into_iter().map(|(_, count)| count).collect()
    };
    assert_eq!(of(100), [5, 1, 5]);
    assert_eq!(of(6), [3, 1, 2]);
    assert_eq!(of(2), [1, 1, 0]);
    assert_eq!(of(0), [0, 0, 0]);
}
