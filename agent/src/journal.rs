//! What the engine cannot know about an attempt: one small append-only file of JSON lines.
//!
//! A line is on disk before the step it announces is taken. A last line that was cut short by a
//! crash announces nothing: its step was not taken.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use muster_core::time::Timestamp;
use muster_failpoint::{self as failpoint, Point};
use muster_proto::v1 as pb;
use prost::Message as _;
use serde::{Deserialize, Serialize};

use crate::files;
use crate::outcome::Kill;
use crate::plan::Journaled;

const FILE: &str = "journal";
const DAMAGED: &str = "journal.damaged";
/// At the end of the name of a directory that does not count any more.
const GONE: &str = "gone";

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Entry {
    Accepted {
        /// The offer's protobuf bytes.
        #[serde(with = "as_base64")]
        offer: Vec<u8>,
        /// The container's name, as it was when the attempt was accepted.
        container: String,
        cluster: String,
        term: u64,
        /// What the container's init process signs its record with.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        init_key: Option<String>,
        /// An earlier journal of it was lost while its container was there.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        adopted: bool,
        /// The last contact with the coordinator before; journals of older agents have none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        heard: Option<Heard>,
    },
    StartIntent(Intent),
    Started {
        /// Milliseconds since the Unix epoch.
        at: u64,
    },
    Kill(Kill),
    Ended {
        /// The report's protobuf bytes.
        #[serde(with = "as_base64")]
        report: Vec<u8>,
    },
}

/// A contact with the coordinator, by the clock that begins anew with each start of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Heard {
    pub boot_id: String,
    /// In milliseconds.
    pub at: u64,
}

/// Written before the one start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Intent {
    /// Milliseconds since the Unix epoch.
    pub at: u64,
    pub boot_id: String,
    /// When the engine's daemon started, in ticks since the host's boot, if that can be told. A time would
    /// move when somebody sets the clock.
    pub engine_ticks: Option<u64>,
    /// Reading of the clock that also runs while the host sleeps, in milliseconds.
    pub boot_clock: u64,
    /// The name of the parked container that the task is started in, instead of one of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warm: Option<String>,
}

mod as_base64 {
    use base64::Engine as _;
    use base64::prelude::BASE64_STANDARD;
    use serde::Deserialize as _;
    use serde::de::Error as _;

    pub(super) fn serialize<S: serde::Serializer>(
        bytes: &[u8],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64_STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        BASE64_STANDARD.decode(text).map_err(D::Error::custom)
    }
}

/// The open journal of one attempt.
#[derive(Debug, Clone)]
pub(crate) struct Journal {
    file: Arc<File>,
}

impl Journal {
    /// Makes the attempt's directory and writes the first line; on disk when this returns.
    ///
    /// # Errors
    /// If the disk does not take it.
    pub(crate) async fn create(dir: PathBuf, first: Entry) -> io::Result<Self> {
        run_blocking(move || {
            fs::create_dir_all(&dir)?;
            let file = OpenOptions::new()
                .create(true)
                .append(true)
                .open(dir.join(FILE))?;
            write_line(&file, &first)?;
            file.sync_data()?;
            File::open(&dir)?.sync_all()?;
            if let Some(parent) = dir.parent() {
                File::open(parent)?.sync_all()?;
            }
            Ok(Self {
                file: Arc::new(file),
            })
        })
        .await
    }

    /// # Errors
    /// If the file can't be opened.
    pub(crate) fn reopen(dir: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).open(dir.join(FILE))?;
        Ok(Self {
            file: Arc::new(file),
        })
    }

    /// Appends a line; on disk when this returns.
    ///
    /// # Errors
    /// If the disk does not take it: the step must not be taken then.
    pub(crate) async fn append_durably(&self, entry: Entry) -> io::Result<()> {
        let file = Arc::clone(&self.file);
        run_blocking(move || {
            write_line(&file, &entry)?;
            file.sync_data()
        })
        .await
    }

    /// Appends that it started, which survives the death of this process but not of the host: of no use
    /// then.
    ///
    /// # Errors
    /// If the disk does not take it.
    pub(crate) fn note_started(&self, at: Timestamp) -> io::Result<()> {
        write_line(&self.file, &Entry::Started { at: at.0 })
    }
}

fn write_line(mut file: &File, entry: &Entry) -> io::Result<()> {
    let mut line = serde_json::to_vec(entry)?;
    line.push(b'\n');
    file.write_all(&line)
}

async fn run_blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    files::spawn(work)
        .await
        .unwrap_or_else(|stopped| Err(io::Error::other(stopped)))
}

/// What a journal says, read back.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct History {
    pub offer: pb::Offer,
    pub container: String,
    pub cluster: String,
    pub term: u64,
    /// `None`: the container has the engine's init process.
    pub init_key: Option<String>,
    pub adopted: bool,
    pub heard: Option<Heard>,
    pub intent: Option<Intent>,
    pub started: Option<u64>,
    pub kills: Vec<Kill>,
    pub ended: Option<pb::Report>,
}

impl History {
    pub(crate) fn reached(&self) -> Journaled {
        if self.ended.is_some() {
            Journaled::Ended
        } else if self.started.is_some() {
            Journaled::Started
        } else if self.intent.is_some() || self.adopted {
            // The lost journal may have had an intent.
            Journaled::StartIntent
        } else {
            Journaled::Accepted
        }
    }
}

/// Why a journal can't be used. The attempt was then never acknowledged, or its disk is broken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadJournal {
    #[error("can't read the journal")]
    Read { source: io::Error },
    #[error("line {line} of the journal is damaged")]
    Line { line: usize },
    #[error("the journal does not begin with an accepted offer")]
    NoOffer,
}

/// Whether there is a journal in an attempt's directory.
pub(crate) fn exists(dir: &Path) -> bool {
    dir.join(FILE).exists()
}

/// Removes an attempt's directory with its journal. The attempt is forgotten at once, also if the process dies
/// meanwhile: [`clear`] removes the rest.
///
/// # Errors
/// If the disk does not take it.
pub(crate) fn forget(dir: &Path) -> io::Result<()> {
    let gone = dir.with_added_extension(GONE);
    fs::rename(dir, &gone)?;
    failpoint::hit(Point::AgentAfterForget);
    fs::remove_dir_all(gone)
}

/// Removes what a process that died left of attempts that were forgotten, or that never were accepted. `dir` has
/// the attempts' directories.
pub(crate) fn clear(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        let removed = if path.extension().is_some_and(|extension| extension == GONE) {
            fs::remove_dir_all(&path)
        } else {
            // Only an empty one goes. It was made for a journal that was not begun.
            fs::remove_dir(&path).or(Ok(()))
        };
        if let Err(error) = removed {
            tracing::warn!(path = %path.display(), %error, "what is left of an attempt can't be removed");
        }
    }
}

/// Puts a journal that can't be used out of the way, for people to look at: its attempt is then one without
/// a journal.
///
/// # Errors
/// If the disk does not take it.
pub(crate) fn set_aside(dir: &Path) -> io::Result<()> {
    fs::rename(dir.join(FILE), dir.join(DAMAGED))
}

/// Reads the journal in an attempt's directory.
///
/// # Errors
/// See [`BadJournal`]; a cut last line is not an error.
pub(crate) fn read(dir: &Path) -> Result<History, BadJournal> {
    let bytes = fs::read(dir.join(FILE)).map_err(|source| BadJournal::Read { source })?;
    let whole = bytes.iter().rposition(|byte| *byte == b'\n');
    let whole = whole.map_or(0, |end| end + 1);
    let mut history: Option<History> = None;
    for (index, line) in bytes[..whole].split(|byte| *byte == b'\n').enumerate() {
        if line.is_empty() {
            continue;
        }
        let bad = || BadJournal::Line { line: index + 1 };
        let entry: Entry = serde_json::from_slice(line).map_err(|_| bad())?;
        apply(&mut history, entry).ok_or_else(bad)?;
    }
    history.ok_or(BadJournal::NoOffer)
}

fn apply(history: &mut Option<History>, entry: Entry) -> Option<()> {
    if let Entry::Accepted {
        offer,
        container,
        cluster,
        term,
        init_key,
        adopted,
        heard,
    } = entry
    {
        *history = Some(History {
            offer: pb::Offer::decode(offer.as_slice()).ok()?,
            container,
            cluster,
            term,
            init_key,
            adopted,
            heard,
            intent: None,
            started: None,
            kills: Vec::new(),
            ended: None,
        });
        return Some(());
    }
    let known = history.as_mut()?;
    match entry {
        Entry::Accepted { .. } => {}
        Entry::StartIntent(intent) => known.intent = Some(intent),
        Entry::Started { at } => known.started = Some(at),
        Entry::Kill(kill) => known.kills.push(kill),
        Entry::Ended { report } => {
            known.ended = Some(pb::Report::decode(report.as_slice()).ok()?);
        }
    }
    Some(())
}

#[cfg(test)]
mod tests;
