//! Places around a commit where a test can end the process, by what is being stored.

use muster_core::effect::Record;
use muster_failpoint::{self as failpoint, Point};

use super::Command;

type Kind = fn(&Record) -> bool;

fn submit(record: &Record) -> bool {
    matches!(record, Record::JobSubmitted(_))
}

fn assign(record: &Record) -> bool {
    matches!(record, Record::AttemptMade { .. })
}

fn report(record: &Record) -> bool {
    matches!(record, Record::AttemptEnded { .. })
}

fn cancel(record: &Record) -> bool {
    matches!(record, Record::JobProgress { progress, .. } if progress.cancel.is_some())
}

fn release(record: &Record) -> bool {
    matches!(record, Record::Released { .. })
}

pub(super) fn before_commit(commands: &[Command]) {
    hit_all(
        commands,
        [
            (Point::SubmitBeforeCommit, submit),
            (Point::AssignBeforeCommit, assign),
            (Point::ReportBeforeCommit, report),
            (Point::CancelBeforeCommit, cancel),
            (Point::ReleaseBeforeCommit, release),
        ],
    );
}

pub(super) fn after_commit(commands: &[Command]) {
    hit_all(
        commands,
        [
            (Point::SubmitAfterCommit, submit),
            (Point::AssignAfterCommit, assign),
            (Point::ReportAfterCommit, report),
            (Point::CancelAfterCommit, cancel),
            (Point::ReleaseStored, release),
        ],
    );
}

fn hit_all(commands: &[Command], points: [(Point, Kind); 5]) {
    for (point, kind) in points {
        failpoint::hit_if(point, || {
            commands
                .iter()
                .any(|command| command.batch.iter().any(kind))
        });
    }
}
