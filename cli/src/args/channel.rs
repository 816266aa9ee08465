//! Channels and their releases.

use clap::{Args, Subcommand};
use muster_core::time::Millis;

use super::rollout::HistoryArgs;

#[derive(Debug, Args)]
pub(crate) struct ChannelArgs {
    #[command(subcommand)]
    pub(crate) verb: ChannelVerb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ChannelVerb {
    /// The team's channels
    List,
    /// One channel
    Get { channel: String },
    /// Make a channel or change what it follows
    Set {
        channel: String,
        /// The tag is `latest` unless named
        #[arg(value_name = "REPOSITORY[:TAG]")]
        image: String,
        #[command(flatten)]
        following: FollowingArgs,
        #[command(flatten)]
        warm: WarmArgs,
    },
    /// Ask the registry now, as a webhook would
    Refresh { channel: String },
    /// A channel's releases, newest first: what, when, why, by whom, from which source
    History(HistoryArgs),
}

/// How the coordinator looks at the tag; without any of these it stays as it is.
#[derive(Debug, Args)]
pub(crate) struct FollowingArgs {
    /// How often it looks when no webhook comes, 10s to 7d; 0s: as often as it is set to
    #[arg(long, value_name = "DURATION")]
    pub(crate) poll_interval: Option<Millis>,
    /// What it shows to the registry: the name of a file in its --credentials-dir, without .json; "": its own
    #[arg(long, value_name = "NAME")]
    pub(crate) credentials: Option<String>,
}

/// How many started containers wait for the channel's tasks on each agent; without any of these it stays as it is.
#[derive(Debug, Args)]
pub(crate) struct WarmArgs {
    /// Containers that wait on each agent, also when no task has come for long
    #[arg(long, value_name = "N", requires = "warm_max")]
    pub(crate) warm_min: Option<u32>,
    /// Containers that wait on each agent at most, when tasks come often; 0: none
    #[arg(long, value_name = "N")]
    pub(crate) warm_max: Option<u32>,
}
