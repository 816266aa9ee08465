//! How jobs are shown: tasks that stand the same way share a line.

use std::collections::BTreeMap;

use muster_core::effect::Notice;
use muster_core::fleet::Fleet;
use muster_core::ids::{JobId, TaskId};
use muster_core::ranges::Ranges;
use muster_core::task::{Phase, RowState, TaskRow, TaskState};
use muster_core::time::Timestamp;

use crate::stage::Known;
use crate::words::digest_name;

/// One line for each way in which tasks of the job stand.
pub(crate) fn job(
    fleet: &Fleet,
    now: Timestamp,
    name: &str,
    known: &Known,
    rows: &BTreeMap<TaskId, TaskRow>,
) -> Vec<String> {
    let mut groups: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    let mut firsts: BTreeMap<String, u32> = BTreeMap::new();
    for index in 0..known.array {
        let text = task(fleet, now, known, index, rows);
        firsts.entry(text.clone()).or_insert(index);
        groups.entry(text).or_default().push(index);
    }
    let mut lines: Vec<(u32, String)> = groups
        .into_iter()
        .map(|(text, indexes)| {
            let ranges = Ranges::from_ranges(indexes.into_iter().map(|index| index..=index));
            (firsts[&text], format!("{name}  {ranges} {text}"))
        })
        .collect();
    lines.sort();
    lines.into_iter().map(|(_, line)| line).collect()
}

fn task(
    fleet: &Fleet,
    now: Timestamp,
    known: &Known,
    index: u32,
    rows: &BTreeMap<TaskId, TaskRow>,
) -> String {
    let id = TaskId {
        job: known.id,
        index,
    };
    if let Some(TaskRow {
        state: RowState::Ended { end, .. },
        last,
        ..
    }) = rows.get(&id)
    {
        let tried = if last.0 > 1 {
            format!(" after {last} attempts")
        } else {
            String::new()
        };
        return format!("{end}{tried}");
    }
    let withdrawn = known
        .progress
        .iter()
        .flat_map(|progress| &progress.withdrawn);
    if let Some(gone) = withdrawn
        .into_iter()
        .find(|gone| gone.tasks.contains(index))
    {
        return format!("{} before it started", gone.end);
    }
    let task = fleet.task(TaskId {
        job: known.id,
        index,
    });
    match task.map(|task| &task.state) {
        Some(TaskState::Held { place, phase }) => {
            let phase = match phase {
                Phase::Assigned => "assigned to",
                Phase::Preparing => "preparing on",
                Phase::Running { .. } => "running on",
            };
            let attempt = match place.number.0 {
                1 => String::new(),
                number => format!("#{number} "),
            };
            let stopping = if place.stop.is_some() {
                ", stopping"
            } else {
                ""
            };
            let digest = digest_name(place.image.digest());
            format!("{attempt}{phase} {} with {digest}{stopping}", place.agent)
        }
        Some(TaskState::Pending { .. }) | None => {
            format!("pending: {}", blocker(fleet, now, known.id, index))
        }
    }
}

/// The first thing that stands in the way.
fn blocker(fleet: &Fleet, now: Timestamp, job: JobId, index: u32) -> String {
    let explained = fleet.explain(now, job, Some(index));
    let waiting = explained.and_then(|explained| explained.waiting);
    waiting
        .and_then(|waiting| waiting.blockers.into_iter().next())
        .map_or_else(|| "nothing".to_owned(), |blocker| blocker.to_string())
}

/// What people would hear of a channel.
pub(crate) fn heard(notice: Notice) -> Option<String> {
    match notice {
        Notice::Released { channel, release } => Some(format!(
            "{} is at {}, release {}",
            channel.name,
            digest_name(release.digest),
            release.number
        )),
        Notice::RolloutMoved {
            channel,
            release,
            moment,
            ended: _,
        } => Some(format!(
            "{} to release {release}: {}: {}",
            channel.name,
            moment.phase.as_str(),
            moment.what
        )),
        _ => None,
    }
}
