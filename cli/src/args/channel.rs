//! Channels, their releases and the way back.

use clap::Subcommand;

#[derive(Debug, clap::Args)]
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
    },
    /// Ask the registry now, as a webhook would
    Refresh { channel: String },
}

#[derive(Debug, clap::Args)]
pub(crate) struct RolloutArgs {
    #[command(subcommand)]
    pub(crate) verb: RolloutVerb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RolloutVerb {
    /// A channel's releases, newest first
    History {
        channel: String,
        #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
    },
    /// Make the release before the current one current again
    #[command(visible_alias = "undo")]
    Rollback(RollbackArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct RollbackArgs {
    pub(crate) channel: String,
    /// Another release than the one before [default: the one before]
    #[arg(
        long,
        value_name = "RELEASE",
        default_value_t = 0,
        hide_default_value = true
    )]
    pub(crate) to: u64,
    #[arg(long, default_value = "", value_name = "TEXT")]
    pub(crate) reason: String,
}
