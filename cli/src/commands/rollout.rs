//! Rollouts: what they are at, and what they are told.

use muster_proto::v1;

use super::Context;
use super::channel::{self, short};
use crate::args::rollout::RolloutVerb;
use crate::exit::{Exit, Failure};
use crate::render::json::RolloutJson;
use crate::render::table::Table;
use crate::render::{self, View, span};
use crate::watch::{self, News};

mod text;

use text::{moment_line, phase, standing, status_text, title};

const ROLLOUTS: View<v1::Rollout> = View {
    name: "rollouts",
    id: |rollout| number(rollout).to_string(),
    table: rollouts_table,
};

pub(crate) async fn run(context: &mut Context, verb: RolloutVerb) -> Result<Exit, Failure> {
    match verb {
        RolloutVerb::Start {
            channel,
            image,
            reason,
            watch,
        } => {
            let request = v1::StartRolloutRequest {
                team: context.client.team.clone(),
                channel,
                image,
                reason,
                by: whoami(),
            };
            let started = context.client.rollouts().start(request).await?;
            show_or_watch(context, started.into_inner(), watch).await
        }
        RolloutVerb::Status {
            channel,
            release,
            watch,
        } => {
            let request = v1::GetRolloutRequest {
                team: context.client.team.clone(),
                channel,
                release,
            };
            let found = context.client.rollouts().get(request).await?;
            show_or_watch(context, found.into_inner(), watch).await
        }
        RolloutVerb::List { channel, limit } => list(context, channel, limit).await,
        RolloutVerb::History(args) => channel::history(context, args).await,
        RolloutVerb::Pause { channel } => {
            let request = tell(context, channel);
            let told = context.client.rollouts().pause(request).await?;
            show(context, told.into_inner())
        }
        RolloutVerb::Resume { channel } => {
            let request = tell(context, channel);
            let told = context.client.rollouts().resume(request).await?;
            show(context, told.into_inner())
        }
        RolloutVerb::Promote { channel, now } => {
            let request = v1::TellRolloutRequest {
                now,
                ..tell(context, channel)
            };
            let told = context.client.rollouts().promote(request).await?;
            show(context, told.into_inner())
        }
        RolloutVerb::Abort { channel, reason } => {
            let request = v1::TellRolloutRequest {
                reason,
                ..tell(context, channel)
            };
            let told = context.client.rollouts().abort(request).await?;
            show(context, told.into_inner())
        }
        RolloutVerb::Rollback(args) => channel::rollback(context, args).await,
    }
}

fn tell(context: &Context, channel: String) -> v1::TellRolloutRequest {
    v1::TellRolloutRequest {
        team: context.client.team.clone(),
        channel,
        reason: String::new(),
        by: whoami(),
        now: false,
    }
}

/// Who asks, for the history: `USER@HOST`, as far as the environment says.
pub(crate) fn whoami() -> String {
    let user = std::env::var("USER").unwrap_or_default();
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match (user.as_str(), host.trim()) {
        ("", "") => String::new(),
        ("", host) => host.to_owned(),
        (user, "") => user.to_owned(),
        (user, host) => format!("{user}@{host}"),
    }
}

async fn list(context: &mut Context, channel: String, limit: u32) -> Result<Exit, Failure> {
    let request = v1::ListRolloutsRequest {
        team: context.client.team.clone(),
        channel,
        limit,
    };
    let reply = context.client.rollouts().list(request).await?.into_inner();
    render::list::<_, RolloutJson>(&mut context.console, &ROLLOUTS, reply.rollouts, "")?;
    Ok(Exit::DONE)
}

fn show(context: &mut Context, rollout: v1::Rollout) -> Result<Exit, Failure> {
    let text = status_text(&rollout);
    let id = number(&rollout).to_string();
    let rollout = RolloutJson::from(rollout);
    render::one(&mut context.console, &rollout, &id, |console| {
        console.fit(&text)
    })?;
    Ok(Exit::DONE)
}

async fn show_or_watch(
    context: &mut Context,
    rollout: v1::Rollout,
    watch: bool,
) -> Result<Exit, Failure> {
    if !watch {
        return show(context, rollout);
    }
    let last = follow(context, &rollout).await?;
    let promoted = last.end.as_ref().is_some_and(|end| end.how == "promoted");
    if context.console.format.is_for_programs() {
        show(context, last)?;
    }
    Ok(if promoted {
        Exit::DONE
    } else {
        Exit::TASK_FAILED
    })
}

/// Prints what happens as it happens, for people, and gives the last state back.
async fn follow(context: &mut Context, first: &v1::Rollout) -> Result<v1::Rollout, Failure> {
    let request = v1::GetRolloutRequest {
        team: first.team.clone(),
        channel: first.channel.clone(),
        release: number(first),
    };
    let prints = !context.console.format.is_for_programs() && !context.console.quiet;
    if prints {
        let line = context.console.fit(&title(first));
        context.console.data(&line)?;
    }
    let mut news = watch::rollout(&context.client, request);
    let (mut last, mut shown, mut standing_shown) = (first.clone(), 0, String::new());
    loop {
        let received = tokio::select! {
            received = news.recv() => received,
            _ = context.signals.next() => return Err(Failure::Interrupted),
        };
        match received {
            Some(News::Item(rollout)) => last = rollout,
            Some(News::Lost) => {
                context
                    .console
                    .note("the coordinator does not answer; muster tries again");
                continue;
            }
            Some(News::Back) => {
                context.console.note("the coordinator answers again");
                continue;
            }
            Some(News::Failed(status)) => return Err(status.into()),
            Some(News::Ended) | None => return Ok(last),
        }
        if !prints {
            continue;
        }
        for moment in last.timeline.iter().skip(shown) {
            let line = context.console.fit(&moment_line(moment));
            context.console.data(&line)?;
        }
        shown = last.timeline.len();
        let now = standing(&last);
        if last.end.is_none() && !now.is_empty() && now != standing_shown {
            let line = context.console.fit(&now);
            context.console.data(&line)?;
            standing_shown = now;
        }
    }
}

/// Of the release that it leads to: its name beside the channel's.
fn number(rollout: &v1::Rollout) -> u64 {
    rollout.to.as_ref().map_or(0, |to| to.number)
}

fn rollouts_table(rollouts: &[v1::Rollout], wide: bool) -> Table {
    let now = jiff::Timestamp::now();
    let mut table = Table::new(&[
        "RELEASE", "FROM", "DIGEST", "PHASE", "BEGAN", "TOOK", "REASON",
    ]);
    for rollout in rollouts {
        let to = rollout.to.clone().unwrap_or_default();
        let from = rollout.from.clone().unwrap_or_default();
        let end = rollout.end.clone().unwrap_or_default();
        let digest = if wide {
            to.digest.as_str()
        } else {
            short(&to.digest)
        };
        let took = span::between(rollout.began, end.at).map(|took| took.to_string());
        table.row(vec![
            to.number.to_string(),
            from.number.to_string(),
            digest.to_owned(),
            phase(rollout),
            span::ago(rollout.began, now),
            took.unwrap_or_default(),
            end.reason,
        ]);
    }
    table
}
