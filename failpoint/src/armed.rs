//! What the environment asks for.

use std::num::NonZeroU64;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::process::{Signal, getpid, kill_process};

use crate::Point;

pub(crate) const VARIABLE: &str = "MUSTER_FAILPOINT";
pub(crate) const HURRY: &str = "MUSTER_FAILPOINT_HURRY";
/// A STOP to the whole process reaches its threads one after the other.
const STOPPING: Duration = Duration::from_millis(50);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Kill,
    Stop,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Armed {
    pub(crate) point: Point,
    pub(crate) fault: Fault,
    /// Counted from 1.
    pub(crate) pass: NonZeroU64,
}

impl Armed {
    /// `NAME=kill`, `NAME=stop`, with `:N` for the N-th pass.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (name, what) = text.split_once('=')?;
        let point = Point::ALL.iter().find(|point| point.name() == name)?;
        let (fault, pass) = match what.split_once(':') {
            Some((fault, pass)) => (fault, pass.parse().ok()?),
            None => (what, NonZeroU64::MIN),
        };
        let fault = match fault {
            "kill" => Fault::Kill,
            "stop" => Fault::Stop,
            _ => return None,
        };
        Some(Self {
            point: *point,
            fault,
            pass,
        })
    }
}

fn armed() -> Option<Armed> {
    static ARMED: OnceLock<Option<Armed>> = OnceLock::new();
    *ARMED.get_or_init(|| {
        let text = std::env::var(VARIABLE).ok()?;
        let armed = Armed::parse(&text);
        assert!(
            armed.is_some(),
            "{VARIABLE}={text} names no place and fault, such as agent.accepted=kill or term.raised=stop:2"
        );
        armed
    })
}

/// Whether that is the place the environment names.
pub(crate) fn is(point: Point) -> bool {
    armed().is_some_and(|armed| armed.point == point)
}

pub(crate) fn hit(point: Point) {
    static PASSES: AtomicU64 = AtomicU64::new(0);
    let Some(armed) = armed().filter(|armed| armed.point == point) else {
        return;
    };
    if PASSES.fetch_add(1, Ordering::Relaxed) + 1 != armed.pass.get() {
        return;
    }
    let signal = match armed.fault {
        Fault::Kill => Signal::KILL,
        Fault::Stop => Signal::STOP,
    };
    if let Err(error) = kill_process(getpid(), signal) {
        panic!("a process may signal itself: {error}");
    }
    std::thread::sleep(STOPPING);
}
