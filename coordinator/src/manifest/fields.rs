//! The fields of manifests: what reading and the JSON Schema are made from. Those of the policy are named as on the wire.

use muster_core::channel::Warm;
use muster_core::rollout::policy::limits;
use muster_core::spec::limits as spec_limits;

pub(super) const CHANNEL: &str = "Channel";
pub(super) const ROLLOUT: &str = "Rollout";
pub(super) const IMAGE: &str = "Image";

/// One field of an object.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) required: bool,
    pub(super) shape: Shape,
    /// For the schema.
    pub(super) about: &'static str,
}

#[derive(Debug)]
pub(super) enum Shape {
    /// The kind of the document.
    Kind(&'static str),
    Text,
    Words(&'static [&'static str]),
    Flag,
    Count {
        least: u32,
        most: u32,
    },
    /// With or without its sign.
    Percent {
        /// 0 is allowed beside what is between the bounds.
        zero: bool,
        least: u32,
        most: u32,
    },
    /// Up to seven days.
    Span,
    /// So many texts at most.
    Texts(usize),
    Object(&'static [Field]),
}

const fn field(name: &'static str, shape: Shape, about: &'static str) -> Field {
    Field {
        name,
        required: false,
        shape,
        about,
    }
}

const fn required(name: &'static str, shape: Shape, about: &'static str) -> Field {
    Field {
        name,
        required: true,
        shape,
        about,
    }
}

pub(super) static CHANNEL_FIELDS: [Field; 9] = [
    required("kind", Shape::Kind(CHANNEL), "A channel."),
    required(
        "name",
        Shape::Text,
        "1 to 63 of a-z, 0-9, '.', '_' and '-'.",
    ),
    field(
        "team",
        Shape::Text,
        "Default: the team of whoever applies it.",
    ),
    required(
        "repository",
        Shape::Text,
        "registry/repository without tag.",
    ),
    field(
        "tag",
        Shape::Text,
        "What the channel follows. Default: latest.",
    ),
    field(
        "poll_interval",
        Shape::Span,
        "How often the tag is looked at when no webhook comes, 10s to 7d. Default: as the coordinator is set.",
    ),
    field(
        "credentials",
        Shape::Text,
        "The name of a file in the coordinator's --credentials-dir, without .json; never a secret. Default: the coordinator's own.",
    ),
    field(
        "policy",
        Shape::Object(&POLICY),
        "What rollouts have to pass. Phases that are absent are left out; without any, a push is promoted at once.",
    ),
    field(
        "warm",
        Shape::Object(&WARM),
        "Containers that wait for the channel's tasks on each agent. Default: none.",
    ),
];

static WARM: [Field; 2] = [
    field(
        "min",
        Shape::Count {
            least: 0,
            most: Warm::MOST,
        },
        "How many wait also when no task has come for long. Default: 0.",
    ),
    required(
        "max",
        Shape::Count {
            least: 0,
            most: Warm::MOST,
        },
        "As many wait as tasks came in the last minute, and at most this.",
    ),
];

pub(super) static ROLLOUT_FIELDS: [Field; 6] = [
    required("kind", Shape::Kind(ROLLOUT), "A rollout of a channel."),
    required("channel", Shape::Text, "The channel's name."),
    field(
        "team",
        Shape::Text,
        "Default: the team of whoever applies it.",
    ),
    field(
        "from",
        Shape::Text,
        "A digest or the number of a release: the channel has to be there. Default: wherever it is.",
    ),
    required(
        "to",
        Shape::Text,
        "A tag or a digest of the channel's repository, or a whole reference.",
    ),
    field("reason", Shape::Text, "For the history; up to 1024 bytes."),
];

/// Nothing in it names a channel, a team or a repository: an image speaks for whoever follows it.
pub(super) static IMAGE_FIELDS: [Field; 2] = [
    required(
        "kind",
        Shape::Kind(IMAGE),
        "What an image carries, in the file that its label muster.manifests names.",
    ),
    field(
        "policy",
        Shape::Object(&POLICY),
        "What the channel's rollouts have to pass while this image is current, if nobody set the channel's policy.",
    ),
];

static POLICY: [Field; 7] = [
    field(
        "prefetch",
        Shape::Object(&PREFETCH),
        "Has agents fetch the image before any task asks for it.",
    ),
    field(
        "validate",
        Shape::Object(&VALIDATE),
        "Runs one task on the new image that has to succeed.",
    ),
    field(
        "canary",
        Shape::Object(&CANARY),
        "Lets some real tasks run on the new image. Needs one of first and percent.",
    ),
    field(
        "restart",
        Shape::Object(&RESTART),
        "Stops what runs on older images when the new one is promoted, and waits for the new attempts.",
    ),
    field(
        "bake",
        Shape::Object(&BAKE),
        "Watches real tasks for a while after the promotion.",
    ),
    field(
        "gates",
        Shape::Object(&GATES),
        "What attempts of the new image are held against: the last 50 attempts of the same job name.",
    ),
    field(
        "newer",
        Shape::Words(&["supersede", "queue"]),
        "What a push does while a rollout is under way. Default: supersede.",
    ),
];

static PREFETCH: [Field; 3] = [
    field(
        "enough_percent",
        Shape::Percent {
            zero: false,
            least: 1,
            most: 100,
        },
        "How many of the agents must hold it before the rollout goes on. Default: 80%.",
    ),
    field(
        "at_a_time",
        Shape::Count {
            least: 1,
            most: limits::AT_A_TIME,
        },
        "Agents that fetch at the same time. Default: 4.",
    ),
    field(
        "patience",
        Shape::Span,
        "After that the rollout is rolled back. Default: 15m.",
    ),
];

static VALIDATE: [Field; 4] = [
    field(
        "command",
        Shape::Texts(spec_limits::ARGS),
        "Default: the image's label muster.validate.",
    ),
    field(
        "timeout",
        Shape::Span,
        "Of its wait and of its run, each. Default: 10m.",
    ),
    field(
        "exit_code",
        Shape::Count {
            least: 0,
            most: 255,
        },
        "The code it has to exit with. Default: 0.",
    ),
    field("pool", Shape::Text, "Where it runs. Default: default."),
];

static CANARY: [Field; 6] = [
    field(
        "first",
        Shape::Count {
            least: 1,
            most: limits::ATTEMPTS,
        },
        "So many attempts.",
    ),
    field(
        "percent",
        Shape::Percent {
            zero: false,
            least: 1,
            most: 100,
        },
        "So many of the tasks, chosen by their id.",
    ),
    field(
        "jobs",
        Shape::Texts(limits::JOBS),
        "Only jobs of these names. Default: all.",
    ),
    field(
        "sample",
        Shape::Count {
            least: 1,
            most: limits::ATTEMPTS,
        },
        "So many attempts have to be judged. Default: 30, or first if that is less.",
    ),
    field(
        "patience",
        Shape::Span,
        "How long to wait for the sample. Default: 1h.",
    ),
    field(
        "roll_back_after_patience",
        Shape::Flag,
        "The sample is too small in the end: roll back, instead of promoting if what was judged is good.",
    ),
];

static RESTART: [Field; 3] = [
    field(
        "jobs",
        Shape::Texts(limits::JOBS),
        "Only jobs of these names. Default: all.",
    ),
    field(
        "healthy_after",
        Shape::Span,
        "A new attempt that has run for so long is healthy. Default: 30s.",
    ),
    field(
        "patience",
        Shape::Span,
        "After that the rollout is rolled back. Default: 15m.",
    ),
];

static BAKE: [Field; 1] = [field("lasts", Shape::Span, "Default: 1h.")];

static GATES: [Field; 4] = [
    field(
        "failures",
        Shape::Count {
            least: 1,
            most: limits::ATTEMPTS,
        },
        "Fewer failures than this break nothing. Default: 3.",
    ),
    field(
        "failure_points",
        Shape::Count {
            least: 0,
            most: 100,
        },
        "How many more of a hundred may fail than before. Default: 5.",
    ),
    field(
        "duration_percent",
        Shape::Percent {
            zero: true,
            least: 100,
            most: limits::PERCENT_OF_BEFORE,
        },
        "95th percentile of the run time, of before; 0: not looked at. Default: 200%.",
    ),
    field(
        "memory_percent",
        Shape::Percent {
            zero: true,
            least: 100,
            most: limits::PERCENT_OF_BEFORE,
        },
        "95th percentile of the peak memory, of before; 0: not looked at. Default: 150%.",
    ),
];
