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
    /// No job has more tasks; a shorter history may do with fewer.
    pub(crate) most_tasks: u32,
    pub(crate) actions: Vec<(Timestamp, Action)>,
}

impl Script {
    pub(crate) fn of(seed: u64) -> Self {
        let mut rng = Rng::new(seed, "script");
        let hosts = rng.between(1, 5);
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
        // Something to do from the beginning.
        actions.push((BEGIN + Millis(500), Action::Submit { draw: rng.draw() }));
        actions.sort_by_key(|(at, _)| *at);
        Self {
            hosts: usize::try_from(hosts).expect("a handful"),
            most_tasks: u32::MAX,
            actions,
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
    Cordon,
    Uncordon,
    Drain,
    CrashCoordinator,
    CrashAgent,
    CutStream,
    Partition,
    HalfOpen,
    PauseAgent,
    PauseCoordinator,
    RestartEngine,
    Reboot,
    KillContainer,
    SetClock,
    StaleCoordinator,
}

const WEIGHTS: [(u64, Kind); 21] = [
    (30, Kind::Submit),
    (5, Kind::SubmitAgain),
    (12, Kind::Cancel),
    (6, Kind::Push),
    (1, Kind::SetChannel),
    (2, Kind::RollBack),
    (1, Kind::Cordon),
    (4, Kind::Uncordon),
    (4, Kind::Drain),
    (7, Kind::CrashCoordinator),
    (9, Kind::CrashAgent),
    (9, Kind::CutStream),
    (6, Kind::Partition),
    (4, Kind::HalfOpen),
    (4, Kind::PauseAgent),
    (3, Kind::PauseCoordinator),
    (4, Kind::RestartEngine),
    (4, Kind::Reboot),
    (3, Kind::KillContainer),
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
        Kind::Cordon => Action::Cordon { host },
        Kind::Uncordon => Action::Uncordon { host },
        Kind::Drain => Action::Drain {
            host,
            deadline: rng.chance(70).then(|| Millis(rng.below(300_000))),
        },
        Kind::CrashCoordinator => Action::CrashCoordinator {
            down: Millis(rng.between(200, 60_000)),
        },
        Kind::CrashAgent => Action::CrashAgent {
            host,
            down: Millis(rng.between(200, 90_000)),
        },
        Kind::CutStream => Action::CutStream { host },
        Kind::Partition => Action::Partition {
            host,
            lasts: spell(rng),
        },
        Kind::HalfOpen => Action::HalfOpen {
            host,
            deaf: rng.chance(50),
        },
        Kind::PauseAgent => Action::PauseAgent {
            host,
            lasts: spell(rng),
        },
        Kind::PauseCoordinator => Action::PauseCoordinator {
            lasts: Millis(rng.between(1_000, 60_000)),
        },
        Kind::RestartEngine => Action::RestartEngine {
            host,
            gracefully: rng.chance(50),
            down: Millis(rng.between(1_000, 45_000)),
            unseen: rng.chance(40),
        },
        Kind::Reboot => Action::Reboot {
            host,
            down: spell(rng),
        },
        Kind::KillContainer => Action::KillContainer {
            host,
            draw: rng.draw(),
        },
        Kind::SetClock => {
            let hour = i64::try_from(rng.below(7_200_000)).expect("it is small");
            let to = hour - 3_600_000; // forward or back
            Action::SetClock { host, to }
        }
        Kind::StaleCoordinator => Action::StaleCoordinator { host },
    }
}

/// Mostly short; some are longer than an agent may be silent.
fn spell(rng: &mut Rng) -> Millis {
    if rng.chance(70) {
        Millis(rng.between(1_000, 120_000))
    } else {
        Millis(rng.between(500_000, 1_500_000))
    }
}
