//! Channels, their releases, and the way back.

use muster_core::image::split_tag;
use muster_proto::v1;

use super::Context;
use crate::args::channel::{FollowingArgs, WarmArgs};
use crate::args::rollout::{HistoryArgs, RollbackArgs};
use crate::commands::rollout::whoami;
use crate::exit::{Exit, Failure};
use crate::render::json::{ChannelJson, ReleaseJson};
use crate::render::table::{Table, properties};
use crate::render::{self, View, span};
use crate::submit::duration;

const CHANNELS: View<v1::Channel> = View {
    name: "channels",
    id: |channel| channel.name.clone(),
    table: channels_table,
};

const RELEASES: View<v1::Release> = View {
    name: "releases",
    id: |release| release.number.to_string(),
    table: releases_table,
};

pub(crate) async fn list(context: &mut Context) -> Result<Exit, Failure> {
    let request = v1::ListChannelsRequest {
        team: context.client.team.clone(),
    };
    let reply = context.client.channels().list(request).await?.into_inner();
    render::list::<_, ChannelJson>(&mut context.console, &CHANNELS, reply.channels, "")?;
    Ok(Exit::DONE)
}

pub(crate) async fn get(context: &mut Context, name: String) -> Result<Exit, Failure> {
    let request = v1::GetChannelRequest {
        team: context.client.team.clone(),
        name,
    };
    let channel = context.client.channels().get(request).await?.into_inner();
    show(context, channel, channel_text)
}

pub(crate) async fn set(
    context: &mut Context,
    name: String,
    image: &str,
    following: FollowingArgs,
    warm: &WarmArgs,
) -> Result<Exit, Failure> {
    let (repository, tag) = split_tag(image);
    let FollowingArgs {
        poll_interval,
        credentials,
    } = following;
    let request = v1::SetChannelRequest {
        team: context.client.team.clone(),
        name,
        repository: repository.to_owned(),
        tag: tag.unwrap_or_default().to_owned(),
        by: whoami(),
        warm: warm.warm_max.map(|max| v1::WarmBounds {
            min: warm.warm_min.unwrap_or(0),
            max,
        }),
        poll_interval: poll_interval.map(duration),
        credentials,
    };
    let channel = context.client.channels().set(request).await?.into_inner();
    show(context, channel, follows)
}

pub(crate) async fn refresh(context: &mut Context, name: String) -> Result<Exit, Failure> {
    let request = v1::RefreshChannelRequest {
        team: context.client.team.clone(),
        name,
    };
    let channel = context
        .client
        .channels()
        .refresh(request)
        .await?
        .into_inner();
    show(context, channel, follows)
}

pub(crate) async fn history(context: &mut Context, args: HistoryArgs) -> Result<Exit, Failure> {
    let HistoryArgs {
        channel: name,
        limit,
    } = args;
    let request = v1::HistoryRequest {
        team: context.client.team.clone(),
        name,
        limit,
    };
    let reply = context
        .client
        .channels()
        .history(request)
        .await?
        .into_inner();
    render::list::<_, ReleaseJson>(&mut context.console, &RELEASES, reply.releases, "")?;
    Ok(Exit::DONE)
}

pub(crate) async fn rollback(context: &mut Context, args: RollbackArgs) -> Result<Exit, Failure> {
    let request = v1::RollbackRequest {
        team: context.client.team.clone(),
        name: args.channel,
        release: args.to,
        reason: args.reason,
        by: whoami(),
    };
    let channel = context
        .client
        .channels()
        .rollback(request)
        .await?
        .into_inner();
    show(context, channel, |channel| {
        let current = channel.current.clone().unwrap_or_default();
        let previous = channel.previous.clone().unwrap_or_default();
        format!(
            "{}: release {} ({}) -> {} ({})\nNew tasks use it now; running attempts finish on theirs.",
            channel.name,
            previous.number,
            short(&previous.digest),
            current.number,
            short(&current.digest),
        )
    })
}

fn show(
    context: &mut Context,
    channel: v1::Channel,
    text: impl Fn(&v1::Channel) -> String,
) -> Result<Exit, Failure> {
    let text = text(&channel);
    let channel = ChannelJson::from(channel);
    let name = channel.name.clone();
    render::one(&mut context.console, &channel, &name, |console| {
        console.fit(&text)
    })?;
    Ok(Exit::DONE)
}

/// `analytics follows registry.example/acme/analytics:main: release 41 (sha256:9b0e51c2)`.
fn follows(channel: &v1::Channel) -> String {
    let mut text = format!(
        "{} follows {}:{}",
        channel.name, channel.repository, channel.tag
    );
    if let Some(current) = &channel.current {
        text.push_str(&format!(
            ": release {} ({})",
            current.number,
            short(&current.digest)
        ));
    }
    if let Some(warm) = &channel.warm {
        text.push_str(&format!("\n{} containers wait on each agent", bounds(warm)));
    }
    if !channel.problem.is_empty() {
        text.push_str(&format!("\nproblem: {}", channel.problem));
    }
    text
}

/// `1-4`.
fn bounds(warm: &v1::WarmBounds) -> String {
    let v1::WarmBounds { min, max } = warm;
    format!("{min}-{max}")
}

fn channel_text(channel: &v1::Channel) -> String {
    let release = |release: &Option<v1::Release>| match release {
        Some(release) => format!(
            "{}  {}  {}  {}  {}",
            release.number,
            release.digest,
            span::rfc3339(release.at).unwrap_or_default(),
            release.cause,
            release.reason
        )
        .trim_end()
        .to_owned(),
        None => String::new(),
    };
    let poll = span::millis(channel.poll_interval)
        .map(|interval| format!("every {}", span::coarse(interval)));
    let policy = match channel.policy_from.as_str() {
        "set" => "set by somebody",
        "image" => "carried by the current release's image",
        "" => "none: a push is promoted at once",
        other => other,
    };
    properties(&[
        ("channel", channel.name.clone()),
        ("team", channel.team.clone()),
        ("follows", format!("{}:{}", channel.repository, channel.tag)),
        ("polled", poll.unwrap_or_default()),
        ("credentials", channel.credentials.clone()),
        ("current", release(&channel.current)),
        ("previous", release(&channel.previous)),
        (
            "held by",
            format!("{} of {} agents", channel.held_by, channel.agents),
        ),
        (
            "warm",
            channel.warm.as_ref().map(bounds).unwrap_or_default(),
        ),
        (
            "resolved",
            span::rfc3339(channel.resolved).unwrap_or_default(),
        ),
        ("policy", policy.to_owned()),
        ("problem", channel.problem.clone()),
    ])
}

fn channels_table(channels: &[v1::Channel], wide: bool) -> Table {
    let now = jiff::Timestamp::now();
    let mut table = Table::new(&[
        "CHANNEL", "FOLLOWS", "RELEASE", "DIGEST", "HELD BY", "WARM", "RESOLVED", "PROBLEM",
    ]);
    for channel in channels {
        let current = channel.current.clone().unwrap_or_default();
        let digest = if wide {
            current.digest.as_str()
        } else {
            short(&current.digest)
        };
        table.row(vec![
            channel.name.clone(),
            format!("{}:{}", channel.repository, channel.tag),
            current.number.to_string(),
            digest.to_owned(),
            format!("{}/{}", channel.held_by, channel.agents),
            channel.warm.as_ref().map(bounds).unwrap_or_default(),
            span::ago(channel.resolved, now),
            channel.problem.clone(),
        ]);
    }
    table
}

fn releases_table(releases: &[v1::Release], wide: bool) -> Table {
    let now = jiff::Timestamp::now();
    let mut table = Table::new(&[
        "RELEASE", "DIGEST", "CAUSE", "WHEN", "BY", "REVISION", "REASON",
    ]);
    for release in releases {
        let digest = if wide {
            release.digest.as_str()
        } else {
            short(&release.digest)
        };
        table.row(vec![
            release.number.to_string(),
            digest.to_owned(),
            release.cause.clone(),
            span::ago(release.at, now),
            release.by.clone(),
            release.revision.clone(),
            release.reason.clone(),
        ]);
    }
    table
}

/// `sha256:9b0e51c2`.
pub(super) fn short(digest: &str) -> &str {
    digest.get(..15).unwrap_or(digest)
}
