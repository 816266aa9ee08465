//! What clients and disasters do in one history, drawn before it begins.

use muster_core::time::{Millis, Timestamp};
use muster_tests::random::Rng;

use crate::trace::BEGIN;

/// When the disasters are over and everything comes back.
pub(crate) const HEAL: Millis = Millis::from_secs(40 * 60);

/// Numbers in an action choose among what there is when it happens.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Action {
    Submit {
        draw: u64,
    },
    /// A key again, with its body or with another one.
    SubmitAgain {
        draw: u64,
        changed: bool,
    },
    Cancel {
        draw: u64,
        some_tasks: bool,
        now: bool,
    },
    /// An image is pushed, and the tag's news reach the coordinator.
    Push,
    SetChannel,
    RollBack,
    /// What the channel's next rollouts have to pass.
    SetPolicy {
        draw: u64,
    },
    /// How many containers wait for the channel's tasks.
    SetWarm {
        draw: u64,
    },
    /// Somebody pauses, resumes, promotes or aborts the rollout.
    TellRollout {
        draw: u64,
    },
    Cordon {
        host: u64,
    },
    Uncordon {
        host: u64,
    },
    Drain {
        host: u64,
        deadline: Option<Millis>,
    },
    CrashCoordinator {
        down: Millis,
    },
    CrashAgent {
        host: u64,
        down: Millis,
    },
    /// The agent dies, and its journals are lost.
    LoseJournals {
        host: u64,
        down: Millis,
    },
    CutStream {
        host: u64,
    },
    Partition {
        host: u64,
        lasts: Millis,
    },
    /// One direction of the stream is dead.
    HalfOpen {
        host: u64,
        deaf: bool,
    },
    PauseAgent {
        host: u64,
        lasts: Millis,
        /// When it has sent its next heartbeat, and before it reads the answer.
        at_beat: bool,
    },
    PauseCoordinator {
        lasts: Millis,
    },
    RestartEngine {
        host: u64,
        gracefully: bool,
        down: Millis,
        /// The agent stands still meanwhile.
        unseen: bool,
    },
    Reboot {
        host: u64,
        down: Millis,
    },
    /// Gone for good, disks and all.
    DestroyHost {
        host: u64,
    },
    KillContainer {
        host: u64,
        draw: u64,
    },
    /// Nothing that is started there starts.
    BreakStarts {
        host: u64,
        lasts: Millis,
    },
    /// How far the host's clock is ahead from now on, in milliseconds.
    SetClock {
        host: u64,
        to: i64,
    },
    /// The agent reaches a coordinator of an earlier life that still talks.
    StaleCoordinator {
        host: u64,
    },
    Heal,
}

#[derive(Debug, Clone)]
pub(crate) struct Script {
    pub(crate) hosts: usize,
    /// Some jobs stop when their host is cut off.
    pub(crate) leases: bool,
    pub(crate) retries_per_minute: u32,
    /// No job has more tasks; a shorter history may do with fewer.
    pub(crate) most_tasks: u32,
    pub(crate) actions: Vec<(Timestamp, Action)>,
}

impl Script {
    pub(crate) fn of(seed: u64) -> Self {
        let mut rng = Rng::new(seed, "script");
        let leases = rng.chance(35);
        let hosts = rng.between(if leases { 2 } else { 1 }, 5);
        let count = rng.between(10, 60);
        let mut actions = Vec::new();
        for _ in 0..count {
            let at = BEGIN + Millis(rng.below(HEAL.0 - 60_000));
            let action = draw(&mut rng);
            let troubles = matches!(action, Action::Reboot { .. } | Action::SetClock { .. });
            if troubles && rng.chance(60) {
                // While tasks are being stopped.
                for _ in 0..3 {
                    let before = Millis(rng.between(1, 6_000));
                    let cancel = Action::Cancel {
                        draw: rng.draw(),
                        some_tasks: false,
                        now: false,
                    };
                    actions.push((Timestamp(at.0 - before.0).max(BEGIN), cancel));
                }
            }
            actions.push((at, action));
        }
        if hosts >= 3 && rng.chance(30) {
            let at = BEGIN + Millis(rng.below(HEAL.0 / 2));
            actions.push((at, Action::DestroyHost { host: rng.draw() }));
        }
        if rng.chance(70) {
            let draw = rng.draw();
            actions.push((BEGIN + Millis(600), Action::SetPolicy { draw }));
        }
        if leases {
            for _ in 0..rng.between(3, 5) {
                cut_off(&mut rng, &mut actions);
            }
        }
        set_warm(seed, &mut actions);
        // Something to do from the beginning.
        actions.push((BEGIN + Millis(500), Action::Submit { draw: rng.draw() }));
        actions.sort_by_key(|(at, _)| *at);
        Self {
            hosts: usize::try_from(hosts).expect("a handful"),
            leases,
            retries_per_minute: if leases {
                10
            } else {
                rng.weighted(&[(1, 1), (1, 2), (1, 10)])
            },
            most_tasks: u32::MAX,
            actions,
        }
    }
}

/// Every other history has warm containers.
fn set_warm(seed: u64, actions: &mut Vec<(Timestamp, Action)>) {
    let mut rng = Rng::new(seed, "warm containers");
    if rng.chance(50) {
        for at in [550, rng.below(HEAL.0)] {
            let draw = rng.draw();
            actions.push((BEGIN + Millis(at), Action::SetWarm { draw }));
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Submit,
    SubmitAgain,
    Cancel,
    Push,
    SetChannel,
    RollBack,
    SetPolicy,
    TellRollout,
    Cordon,
    Uncordon,
    Drain,
    CrashCoordinator,
    CrashAgent,
    LoseJournals,
    CutStream,
    Partition,
    HalfOpen,
    PauseAgent,
    PauseCoordinator,
    RestartEngine,
    Reboot,
    KillContainer,
    BreakStarts,
    SetClock,
    StaleCoordinator,
}

const WEIGHTS: [(u64, Kind); 25] = [
    (30, Kind::Submit),
    (5, Kind::SubmitAgain),
    (12, Kind::Cancel),
    (10, Kind::Push),
    (1, Kind::SetChannel),
    (2, Kind::RollBack),
    (7, Kind::SetPolicy),
    (5, Kind::TellRollout),
    (1, Kind::Cordon),
    (4, Kind::Uncordon),
    (4, Kind::Drain),
    (7, Kind::CrashCoordinator),
    (9, Kind::CrashAgent),
    (5, Kind::LoseJournals),
    (9, Kind::CutStream),
    (6, Kind::Partition),
    (9, Kind::HalfOpen),
    (4, Kind::PauseAgent),
    (3, Kind::PauseCoordinator),
    (4, Kind::RestartEngine),
    (4, Kind::Reboot),
    (3, Kind::KillContainer),
    (4, Kind::BreakStarts),
    (8, Kind::SetClock),
    (5, Kind::StaleCoordinator),
];

fn draw(rng: &mut Rng) -> Action {
    let host = rng.draw();
    match rng.weighted(&WEIGHTS) {
        Kind::Submit => Action::Submit { draw: rng.draw() },
        Kind::SubmitAgain => Action::SubmitAgain {
            draw: rng.draw(),
            changed: rng.chance(30),
        },
        Kind::Cancel => Action::Cancel {
            draw: rng.draw(),
            some_tasks: rng.chance(50),
            now: rng.chance(20),
        },
        Kind::Push => Action::Push,
        Kind::SetChannel => Action::SetChannel,
        Kind::RollBack => Action::RollBack,
        Kind::SetPolicy => Action::SetPolicy { draw: rng.draw() },
        Kind::TellRollout => Action::TellRollout { draw: rng.draw() },
        Kind::Cordon => Action::Cordon { host },
        Kind::Uncordon => Action::Uncordon { host },
        Kind::Drain => drain(rng, host),
        Kind::CrashCoordinator => Action::CrashCoordinator {
            down: Millis(rng.between(200, 60_000)),
        },
        Kind::CrashAgent => Action::CrashAgent {
            host,
            down: Millis(rng.between(200, 90_000)),
        },
        Kind::LoseJournals => Action::LoseJournals {
            host,
            down: spell(rng),
        },
        Kind::CutStream => Action::CutStream { host },
        Kind::Partition => Action::Partition {
            host,
            lasts: spell(rng),
        },
        Kind::HalfOpen => {
            let deaf = rng.chance(50);
            Action::HalfOpen { host, deaf }
        }
        Kind::PauseAgent => Action::PauseAgent {
            host,
            lasts: spell(rng),
            at_beat: false,
        },
        Kind::PauseCoordinator => Action::PauseCoordinator {
            lasts: Millis(rng.between(1_000, 60_000)),
        },
        Kind::RestartEngine => restart_engine(rng, host),
        Kind::Reboot => {
            let down = spell(rng);
            Action::Reboot { host, down }
        }
        Kind::KillContainer => Action::KillContainer {
            host,
            draw: rng.draw(),
        },
        Kind::BreakStarts => Action::BreakStarts {
            host,
            lasts: Millis(rng.between(60_000, 1_500_000)),
        },
        Kind::SetClock => Action::SetClock {
            host,
            to: shift(rng),
        },
        Kind::StaleCoordinator => Action::StaleCoordinator { host },
    }
}

fn restart_engine(rng: &mut Rng, host: u64) -> Action {
    Action::RestartEngine {
        host,
        gracefully: rng.chance(50),
        down: Millis(rng.between(1_000, 45_000)),
        unseen: rng.chance(40),
    }
}

fn drain(rng: &mut Rng, host: u64) -> Action {
    let deadline = rng.chance(70).then(|| Millis(rng.below(300_000)));
    Action::Drain { host, deadline }
}

/// A host is cut off while it has work, and its agent can't do much about it.
fn cut_off(rng: &mut Rng, actions: &mut Vec<(Timestamp, Action)>) {
    let host = rng.draw();
    let begin = BEGIN.0 + rng.below(HEAL.0 - 600_000);
    let at = |after: u64| Timestamp(begin + after);
    for _ in 0..2 {
        actions.push((at(0), Action::Submit { draw: rng.draw() }));
    }
    let trouble = rng.between(100, 12_000);
    let paused = rng.between(15_000, 80_000);
    let mut cut = trouble + rng.below(15_000);
    let action = match rng.below(6) {
        0 => Action::CrashAgent {
            host,
            down: Millis(rng.between(40_000, 300_000)),
        },
        1..4 => {
            // The beat comes within 10 s.
            cut = trouble + rng.between(10_000, paused);
            Action::PauseAgent {
                host,
                lasts: Millis(paused),
                at_beat: true,
            }
        }
        4 => Action::PauseAgent {
            host,
            lasts: Millis(rng.between(40_000, 300_000)),
            at_beat: false,
        },
        _ => Action::Reboot {
            host,
            down: Millis(rng.between(1_000, 100_000)),
        },
    };
    actions.push((at(trouble), action));
    let partition = Action::Partition {
        host,
        lasts: Millis(rng.between(60_000, 500_000)),
    };
    actions.push((at(cut), partition));
}

/// Mostly short; some are longer than an agent may be silent.
fn spell(rng: &mut Rng) -> Millis {
    if rng.chance(70) {
        Millis(rng.between(1_000, 120_000))
    } else {
        Millis(rng.between(500_000, 1_500_000))
    }
}

/// Up to an hour forward or back, in milliseconds.
fn shift(rng: &mut Rng) -> i64 {
    let hours = i64::try_from(rng.below(7_200_000)).expect("it is small");
    hours - 3_600_000
}
