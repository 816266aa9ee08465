//! Manifests: channels, rollouts and what images carry, as YAML. A manifest is read in two steps: YAML becomes a tree in which
//! each node knows its place, and the tree is held against the tables in `fields`, from which the JSON Schema
//! comes, too. Every problem of a file is found at once, unless the text is no YAML.

use std::collections::BTreeSet;

use muster_core::channel::{ChannelId, Following, Warm};
use muster_core::ids::TeamName;
use muster_core::image::{Digest, Repository, Tag};
use muster_core::rollout::policy::Policy;

mod check;
mod fields;
mod read;
mod schema;
mod show;
mod tree;

pub use schema::schema;
pub(crate) use show::{policy_fields, span};

#[cfg(test)]
mod tests;

/// A text to read, and its name for messages.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source<'a> {
    pub(crate) name: &'a str,
    pub(crate) text: &'a str,
}

/// A place in a file; both are counted from 1, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Place {
    pub(crate) line: u32,
    pub(crate) column: u32,
}

/// What is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) file: String,
    pub(crate) place: Place,
    pub(crate) what: String,
}

impl Problem {
    /// `channels.yaml:7:3`.
    pub(crate) fn location(&self) -> String {
        let Place { line, column } = self.place;
        format!("{}:{line}:{column}", self.file)
    }
}

/// One document, and where it begins.
#[derive(Debug, Clone)]
pub(crate) struct Document {
    pub(crate) file: String,
    pub(crate) place: Place,
    pub(crate) channel: ChannelId,
    pub(crate) body: Body,
}

#[derive(Debug, Clone)]
pub(crate) enum Body {
    Channel(Box<ChannelBody>),
    Rollout(RolloutBody),
}

impl Body {
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::Channel(_) => fields::CHANNEL,
            Self::Rollout(_) => fields::ROLLOUT,
        }
    }
}

/// The whole truth about a channel: what it does not say has its default.
#[derive(Debug, Clone)]
pub(crate) struct ChannelBody {
    /// Where the repository is named.
    pub(crate) named_at: Place,
    pub(crate) repository: Repository,
    pub(crate) tag: Tag,
    pub(crate) policy: Policy,
    pub(crate) warm: Warm,
    pub(crate) following: Following,
    /// Where the credentials are named.
    pub(crate) credentials_at: Place,
}

#[derive(Debug, Clone)]
pub(crate) struct RolloutBody {
    /// Where the channel is named.
    pub(crate) named_at: Place,
    pub(crate) from: Option<(From, Place)>,
    /// A tag, a digest, or a whole reference.
    pub(crate) to: (String, Place),
    pub(crate) reason: String,
}

/// Where a rollout begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum From {
    Release(u64),
    Digest(Digest),
}

/// Reads every document of every file: channels first, and otherwise in their order.
///
/// # Errors
/// Everything that is wrong in any of them.
pub(crate) fn read(files: &[Source<'_>], team: &TeamName) -> Result<Vec<Document>, Vec<Problem>> {
    let mut found = Vec::new();
    let mut problems = Vec::new();
    for file in files {
        match tree::parse(file.text) {
            Ok(nodes) => {
                for node in nodes {
                    let mut bad = check::Problems::default();
                    let document = read::document(file, &node, team, &mut bad);
                    found.extend(document);
                    problems.extend(bad.of_file(file.name));
                }
            }
            Err((place, what)) => problems.push(problem(file.name, place, what)),
        }
    }
    let mut seen = BTreeSet::new();
    for document in &found {
        let Document {
            file,
            place,
            channel,
            body,
        } = document;
        if !seen.insert((body.kind(), channel)) {
            let what = format!(
                "there is another {} of {} of team {} before it",
                body.kind(),
                channel.name,
                channel.team
            );
            problems.push(problem(file, *place, what));
        }
    }
    if problems.is_empty() {
        found.sort_by_key(|document| matches!(document.body, Body::Rollout(_)));
        Ok(found)
    } else {
        Err(problems)
    }
}

/// Reads the file that an image carries: at most one document, of kind `Image`.
///
/// # Errors
/// Everything that is wrong in it.
pub(crate) fn carried(file: Source<'_>) -> Result<Option<Policy>, Vec<Problem>> {
    let nodes =
        tree::parse(file.text).map_err(|(place, what)| vec![problem(file.name, place, what)])?;
    let mut bad = check::Problems::default();
    let mut policy = None;
    for (count, node) in nodes.iter().enumerate() {
        if count == 1 {
            bad.add(node.place, "there is another document before it");
        }
        policy = read::carried(node, &mut bad);
    }
    let problems: Vec<Problem> = bad.of_file(file.name).collect();
    if problems.is_empty() {
        Ok(policy)
    } else {
        Err(problems)
    }
}

fn problem(file: &str, place: Place, what: String) -> Problem {
    Problem {
        file: file.to_owned(),
        place,
        what,
    }
}
