use super::Action::*;
use super::{Action, Journaled, Seen, decide};

const SEEN: [Seen; 8] = [
    Seen::Nothing,
    Seen::Created,
    Seen::StartFailed,
    Seen::Running,
    Seen::Paused,
    Seen::Exited,
    Seen::Removing,
    Seen::Dead,
];

/// One row for each thing the journal can say, one column for each thing the engine can show, in
/// the order of `SEEN`.
const TABLE: [(Journaled, [Action; 8]); 5] = [
    (
        Journaled::Nothing,
        [Forget, Leave, Leave, Leave, Leave, Leave, Leave, Leave],
    ),
    (
        Journaled::Accepted,
        [
            Prepare, Start, Harvest, Attach, Unpause, ReportGone, ReportGone, ReportGone,
        ],
    ),
    (
        Journaled::StartIntent,
        [
            ReportGone, AwaitStart, Harvest, Attach, Unpause, Harvest, ReportGone, ReportGone,
        ],
    ),
    (
        Journaled::Started,
        [
            ReportGone, ReportGone, Harvest, Attach, Unpause, Harvest, ReportGone, ReportGone,
        ],
    ),
    (
        Journaled::Ended,
        [
            Deliver, Deliver, Deliver, Deliver, Deliver, Deliver, Deliver, Deliver,
        ],
    ),
];

#[test]
fn the_table_is_as_written() {
    for (journal, row) in TABLE {
        for (seen, wanted) in SEEN.into_iter().zip(row) {
            assert_eq!(decide(journal, seen), wanted, "{journal:?} and {seen:?}");
        }
    }
}

#[test]
fn only_an_attempt_without_an_intent_is_ever_started() {
    for (journal, _) in TABLE {
        for seen in SEEN {
            let starts = matches!(decide(journal, seen), Start | Prepare);
            assert!(
                !starts || journal == Journaled::Accepted,
                "{journal:?} and {seen:?}"
            );
        }
    }
}
