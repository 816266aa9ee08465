//! Rollouts and the way back.

use clap::Subcommand;

#[derive(Debug, clap::Args)]
pub(crate) struct RolloutArgs {
    #[command(subcommand)]
    pub(crate) verb: RolloutVerb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RolloutVerb {
    /// Begin a rollout, by the channel's policy; what is under way is superseded
    Start {
        channel: String,
        /// A tag or a digest of the channel's repository, or a whole reference [default: the tag that the
        /// channel follows]
        #[arg(default_value = "", hide_default_value = true)]
        image: String,
        #[arg(long, default_value = "", value_name = "TEXT")]
        reason: String,
        /// Stay until it has ended; exits with 0 only if the release was promoted
        #[arg(short, long)]
        watch: bool,
    },
    /// Where the rollout is and why: its timeline, its gates, the agents that hold the image
    #[command(visible_alias = "why")]
    Status {
        channel: String,
        /// The release that it leads to [default: the newest rollout]
        #[arg(
            long,
            value_name = "RELEASE",
            default_value_t = 0,
            hide_default_value = true
        )]
        release: u64,
        /// Stay until it has ended; exits with 0 only if the release was promoted
        #[arg(short, long)]
        watch: bool,
    },
    /// A channel's rollouts, newest first
    List {
        channel: String,
        #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
    },
    /// A channel's releases, newest first
    History(HistoryArgs),
    /// Let time stand still for it, and try nothing more on the new image
    Pause { channel: String },
    /// Go on after a pause
    Resume { channel: String },
    /// Skip what is left before the promotion
    Promote {
        channel: String,
        /// Also skip what comes after the promotion
        #[arg(long)]
        now: bool,
    },
    /// End it: every later attempt runs what was current before
    Abort {
        channel: String,
        #[arg(long, default_value = "", value_name = "TEXT")]
        reason: String,
    },
    /// End what is under way, or make the release before the current one current again
    #[command(visible_alias = "undo")]
    Rollback(RollbackArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct HistoryArgs {
    pub(crate) channel: String,
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) limit: u32,
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
