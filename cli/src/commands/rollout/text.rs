//! A rollout in words.

use muster_core::time::Millis;
use muster_proto::v1;

use crate::commands::channel::short;
use crate::render::span;

/// The whole state: title, timeline, and what it waits for.
pub(super) fn status_text(rollout: &v1::Rollout) -> String {
    let mut lines = vec![title(rollout)];
    lines.extend(rollout.timeline.iter().map(moment_line));
    if rollout.end.is_none() {
        lines.push(standing(rollout));
    } else {
        lines.extend(gate_lines(rollout));
        lines.extend(forgiven(rollout));
    }
    lines.retain(|line| !line.is_empty());
    lines.join("\n")
}

/// `analytics  release 41 (sha256:9b0e51c2) -> 42 (sha256:c47d08aa, revision 8f2c1aa)`.
pub(super) fn title(rollout: &v1::Rollout) -> String {
    let release = |release: &Option<v1::Release>| {
        let release = release.clone().unwrap_or_default();
        let revision = match release.revision.as_str() {
            "" => String::new(),
            revision => format!(", revision {revision}"),
        };
        format!("{} ({}{revision})", release.number, short(&release.digest))
    };
    format!(
        "{}  release {} -> {}",
        rollout.channel,
        release(&rollout.from),
        release(&rollout.to)
    )
}

/// `14:30:52  prefetch  12 of 12 agents hold the image`, in UTC.
pub(super) fn moment_line(moment: &v1::RolloutMoment) -> String {
    let at = span::timestamp(moment.at).map(|at| at.strftime("%H:%M:%S").to_string());
    let at = at.unwrap_or_default();
    format!("{at}  {:<8}  {}", moment.phase, moment.what)
}

/// What a rollout that is under way is at, with its gates against their limits.
pub(super) fn standing(rollout: &v1::Rollout) -> String {
    let phase = phase(rollout);
    let tally = rollout.tally.clone().unwrap_or_default();
    let judged: u32 = tally.names.iter().map(|name| name.good + name.bad).sum();
    let what = match current(rollout) {
        Some(v1::rollout_step::Step::Prefetch(step)) => format!(
            "{} of {} agents hold the image, {} are needed{}",
            rollout.agents_ready,
            rollout.agents,
            step.enough,
            fetched(rollout)
        ),
        Some(v1::rollout_step::Step::Validate(_)) => "the validation has not ended".to_owned(),
        Some(v1::rollout_step::Step::Canary(step)) => format!(
            "{} attempts made, {judged} judged of at least {}",
            tally.made, step.sample
        ),
        Some(v1::rollout_step::Step::Restart(_)) => {
            "old attempts stop, and new ones have to become healthy".to_owned()
        }
        Some(v1::rollout_step::Step::Bake(step)) => {
            let lasts = span::millis(step.lasts).unwrap_or_default();
            format!("{judged} attempts judged; it watches for {lasts}")
        }
        Some(v1::rollout_step::Step::Promote(_)) | None => String::new(),
    };
    let mut lines = vec![format!("now       {phase:<8}  {what}")];
    lines.extend(gate_lines(rollout));
    lines.extend(forgiven(rollout));
    lines.join("\n")
}

/// `; 3 fetch it, 120 of 480 MiB`.
fn fetched(rollout: &v1::Rollout) -> String {
    let under_way = || {
        let all = rollout.fetches.iter();
        all.filter(|fetch| fetch.problem.is_empty())
    };
    let count = under_way().count();
    if count == 0 {
        return String::new();
    }
    let done: u64 = under_way().map(|fetch| fetch.done_bytes).sum();
    let total: u64 = under_way().map(|fetch| fetch.total_bytes).sum();
    format!("; {count} fetch it, {} of {} MiB", done >> 20, total >> 20)
}

/// The word of the phase, or of the end.
pub(super) fn phase(rollout: &v1::Rollout) -> String {
    use v1::rollout_step::Step;
    if let Some(end) = &rollout.end {
        return end.how.clone();
    }
    let phase = match current(rollout) {
        Some(Step::Prefetch(_)) => "prefetch",
        Some(Step::Validate(_)) => "validate",
        Some(Step::Canary(_)) => "canary",
        Some(Step::Promote(_)) => "promote",
        Some(Step::Restart(_)) => "restart",
        Some(Step::Bake(_)) => "bake",
        None => "",
    };
    if rollout.paused.is_some() {
        return format!("{phase}, paused");
    }
    phase.to_owned()
}

fn current(rollout: &v1::Rollout) -> Option<&v1::rollout_step::Step> {
    let step = usize::try_from(rollout.step).ok()?;
    rollout.steps.get(step)?.step.as_ref()
}

fn gate_lines(rollout: &v1::Rollout) -> Vec<String> {
    rollout.gates.iter().map(gate_line).collect()
}

/// `            duration of load    44 s    before 41 s    at most 62 s`.
fn gate_line(reading: &v1::GateReading) -> String {
    let v1::GateReading {
        gate,
        name,
        value,
        before,
        limit,
        broken,
    } = reading;
    let amount = |value: u64| match gate.as_str() {
        "failures" => format!("{}.{} %", value / 10, value % 10),
        "duration" => Millis(value).to_string(),
        _ => format!("{} MiB", value >> 20),
    };
    let of = match name.as_str() {
        "" => gate.clone(),
        name => format!("{gate} of {name}"),
    };
    let broken = if *broken { "    broken" } else { "" };
    format!(
        "                    {of:<20}  {}    before {}    at most {}{broken}",
        amount(*value),
        amount(*before),
        amount(*limit)
    )
}

fn forgiven(rollout: &v1::Rollout) -> Option<String> {
    let count = rollout.tally.as_ref().map_or(0, |tally| tally.forgiven);
    (count > 0).then(|| {
        format!(
            "                    {count} attempts that failed run again on release {}, at no cost to their tasks",
            rollout.from.as_ref().map_or(0, |from| from.number)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release(number: u64, digest: &str, revision: &str) -> v1::Release {
        v1::Release {
            number,
            digest: digest.to_owned(),
            revision: revision.to_owned(),
            ..v1::Release::default()
        }
    }

    #[test]
    fn a_canary_shows_its_gates_against_their_limits() {
        let rollout = v1::Rollout {
            channel: "analytics".into(),
            from: Some(release(41, "sha256:9b0e51c2ffff", "")),
            to: Some(release(42, "sha256:c47d08aaffff", "8f2c1aa")),
            steps: vec![v1::RolloutStep {
                step: Some(v1::rollout_step::Step::Canary(v1::CanaryPolicy {
                    sample: 30,
                    ..Default::default()
                })),
            }],
            tally: Some(v1::CanaryTally {
                made: 12,
                forgiven: 1,
                names: vec![v1::NameTally {
                    name: "load".into(),
                    good: 9,
                    bad: 1,
                    ..Default::default()
                }],
            }),
            timeline: vec![v1::RolloutMoment {
                at: Some(prost_types::Timestamp {
                    seconds: 52_202,
                    nanos: 0,
                }),
                phase: "resolve".into(),
                what: "webhook: it is sha256:c47d08aa".into(),
            }],
            gates: vec![
                v1::GateReading {
                    gate: "failures".into(),
                    value: 100,
                    before: 2,
                    limit: 52,
                    broken: true,
                    ..Default::default()
                },
                v1::GateReading {
                    gate: "duration".into(),
                    name: "load".into(),
                    value: 44_000,
                    before: 41_000,
                    limit: 82_000,
                    broken: false,
                },
            ],
            ..v1::Rollout::default()
        };
        let expected = "\
analytics  release 41 (sha256:9b0e51c2) -> 42 (sha256:c47d08aa, revision 8f2c1aa)
14:30:02  resolve   webhook: it is sha256:c47d08aa
now       canary    12 attempts made, 10 judged of at least 30
                    failures              10.0 %    before 0.2 %    at most 5.2 %    broken
                    duration of load      44 s    before 41 s    at most 1 m 22 s
                    1 attempts that failed run again on release 41, at no cost to their tasks";
        assert_eq!(status_text(&rollout), expected);
    }
}
