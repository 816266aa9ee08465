//! What to do about an attempt, from what the agent wrote down and what the engine shows. Pure: the
//! same table is used when the agent starts and after a start whose result isn't known.

pub mod parked;

/// How far the journal says the attempt came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Journaled {
    /// No journal: somebody else's, or of a life that lost its disk.
    Nothing,
    Accepted,
    /// The one start may have been asked for.
    StartIntent,
    Started,
    /// The report of the end is written down and not acknowledged yet.
    Ended,
}

/// What the engine shows under the attempt's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    Nothing,
    /// Created and never started, and no start was refused.
    Created,
    /// The engine tried to start it and says why it could not.
    StartFailed,
    Running,
    Paused,
    Exited,
    /// The engine is removing it.
    Removing,
    /// The engine could not remove it.
    Dead,
}

/// The one thing to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Go on with getting the image and creating the container.
    Prepare,
    /// No start was ever asked for: write the intent, then start.
    Start,
    /// Never start. A start in flight may still land: look for a while, then remove without force
    /// and report that it never started.
    AwaitStart,
    /// Follow it and report that it runs.
    Attach,
    /// Let it go on, then attach.
    Unpause,
    /// Classify the end from what the engine shows.
    Harvest,
    /// It may have run, and nobody can say how it ended.
    ReportGone,
    /// Send the report of the end again.
    Deliver,
    /// Not ours to touch: tell, and keep it.
    Leave,
    Forget,
}

/// The decision table.
#[must_use]
pub const fn decide(journal: Journaled, seen: Seen) -> Action {
    use Journaled::{Accepted, Ended, Nothing, StartIntent, Started};
    match (journal, seen) {
        (Ended, _) => Action::Deliver,
        (Nothing, Seen::Nothing) => Action::Forget,
        (Nothing, _) => Action::Leave,
        (Accepted, Seen::Nothing) => Action::Prepare,
        (Accepted, Seen::Created) => Action::Start,
        (StartIntent, Seen::Created) => Action::AwaitStart,
        // Created after an intent and gone, or started and gone: somebody removed it.
        (StartIntent | Started, Seen::Nothing) => Action::ReportGone,
        // The engine went back on a start that it had confirmed.
        (Started, Seen::Created) => Action::ReportGone,
        (Accepted | StartIntent | Started, Seen::Running) => Action::Attach,
        (Accepted | StartIntent | Started, Seen::Paused) => Action::Unpause,
        // A life whose journal is lost started it, and what is known of that start tells its own end from others.
        (Accepted, Seen::Exited) => Action::ReportGone,
        (StartIntent | Started, Seen::Exited) => Action::Harvest,
        (Accepted | StartIntent | Started, Seen::StartFailed) => Action::Harvest,
        (Accepted | StartIntent | Started, Seen::Removing | Seen::Dead) => Action::ReportGone,
    }
}

/// Whether an agent that has seen the largest term does what a coordinator of this term says.
#[must_use]
pub const fn obeys(largest: u64, term: u64) -> bool {
    term >= largest
}

#[cfg(test)]
mod tests;
