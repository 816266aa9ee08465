//! What becomes of containers that were parked before their tasks, and what one is for its task. Pure: the agent and
//! the simulation go by it.

use super::Seen;

/// What the container is for the task that was given it: until that has used the one start, it is only created,
/// however long it has been waiting.
#[must_use]
pub const fn of_task(seen: Seen, ran: bool) -> Seen {
    match seen {
        Seen::Running | Seen::Paused if !ran => Seen::Created,
        _ => seen,
    }
}

/// What a task finds.
#[derive(Debug)]
pub struct Taken<P> {
    pub found: Option<P>,
    /// Those that would have been for it, and died.
    pub dead: Vec<P>,
}

/// Takes one out of the list, so that nobody else can have it.
#[must_use]
pub fn take<P>(
    parked: &mut Vec<P>,
    fits: impl Fn(&P) -> bool,
    lives: impl Fn(&P) -> bool,
) -> Taken<P> {
    let mut dead = Vec::new();
    while let Some(place) = parked.iter().position(&fits) {
        let first = parked.swap_remove(place);
        if lives(&first) {
            let found = Some(first);
            return Taken { found, dead };
        }
        dead.push(first);
    }
    let found = None;
    Taken { found, dead }
}

/// What is to be done so that as many are parked as are wanted.
#[derive(Debug)]
pub struct Sorted<P, K> {
    pub stay: Vec<P>,
    pub go: Vec<P>,
    /// Of what too few are there, and how many are missing.
    pub short: Vec<(K, u32)>,
}

/// `made_for` says what each was made for, and `wanted` what and how many are wanted: not one more stays.
#[must_use]
pub fn sort_out<P, K: PartialEq>(
    parked: Vec<P>,
    made_for: impl Fn(&P) -> &K,
    wanted: Vec<(K, u32)>,
) -> Sorted<P, K> {
    let mut short = wanted;
    let (stay, go) = parked.into_iter().partition(|parked| {
        let mut places = short.iter_mut();
        match places.find(|(of, _)| of == made_for(parked)) {
            Some((_, room)) if *room > 0 => {
                *room -= 1;
                true
            }
            _ => false,
        }
    });
    short.retain(|(_, room)| *room > 0);
    Sorted { stay, go, short }
}

/// What an agent that starts does with a container that an earlier life parked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtStart {
    Leave,
    /// Nothing was run in it.
    Destroy,
    /// A task may run in it: it goes if it does not run, and is nobody's otherwise.
    RemoveIfOver,
}

/// `named`: a journal says that a task was or may be started in it. `given`: its directories went to an attempt,
/// whose journal may be lost.
#[must_use]
pub const fn at_start(named: bool, given: bool) -> AtStart {
    match (named, given) {
        (true, _) => AtStart::Leave,
        (false, false) => AtStart::Destroy,
        (false, true) => AtStart::RemoveIfOver,
    }
}

/// What is done about a parked container that has no directory, so that nobody can say whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nobodys {
    Leave,
    /// It goes on first if it is paused.
    Stop,
    Remove,
}

/// `over`: it has been left alone long enough.
#[must_use]
pub const fn nobodys(seen: Seen, over: bool) -> Nobodys {
    match seen {
        _ if !over => Nobodys::Leave,
        Seen::Exited | Seen::StartFailed | Seen::Created | Seen::Dead => Nobodys::Remove,
        Seen::Running | Seen::Paused => Nobodys::Stop,
        Seen::Removing | Seen::Nothing => Nobodys::Leave,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_taken_once_and_the_dead_are_told_apart() {
        let mut parked = vec![("a", 1), ("b", 2), ("b", 3)];
        let mut one =
            |alive: fn(&(&str, i32)) -> bool| take(&mut parked, |(of, _)| *of == "b", alive);
        let Taken { found, dead } = one(|(_, number)| *number != 2);
        assert_eq!((found, dead), (Some(("b", 3)), vec![("b", 2)]));
        let Taken { found, dead } = one(|_| true);
        assert_eq!((found, dead), (None, vec![]));
        assert_eq!(parked, [("a", 1)]);
    }

    #[test]
    fn what_is_not_wanted_goes_and_what_is_missing_is_told() {
        let parked = vec![("old", 1), ("new", 2), ("new", 3)];
        let wanted = vec![("new", 1), ("other", 2)];
        let Sorted { stay, go, short } = sort_out(parked, |(of, _)| of, wanted);
        assert_eq!(stay, [("new", 2)]);
        assert_eq!(go, [("old", 1), ("new", 3)]);
        assert_eq!(short, [("other", 2)]);
    }

    #[test]
    fn what_may_hold_a_task_is_never_destroyed() {
        assert_eq!(at_start(true, true), AtStart::Leave);
        assert_eq!(at_start(true, false), AtStart::Leave);
        assert_eq!(at_start(false, true), AtStart::RemoveIfOver);
        assert_eq!(at_start(false, false), AtStart::Destroy);
        assert_eq!(nobodys(Seen::Running, false), Nobodys::Leave);
        assert_eq!(nobodys(Seen::Running, true), Nobodys::Stop);
        assert_eq!(nobodys(Seen::Exited, true), Nobodys::Remove);
        assert_eq!(of_task(Seen::Running, false), Seen::Created);
        assert_eq!(of_task(Seen::Running, true), Seen::Running);
        assert_eq!(of_task(Seen::Exited, false), Seen::Exited);
    }
}
