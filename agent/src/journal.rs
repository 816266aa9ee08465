//! What the engine cannot know about an attempt: one small append-only file of JSON lines.
//!
//! A line is on disk before the step it announces is taken. A last line that was cut short by a
//! crash announces nothing: its step was not taken.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use muster_core::time::Timestamp;
use muster_proto::v1 as pb;
use prost::Message as _;
use serde::{Deserialize, Serialize};

use crate::outcome::Kill;
use crate::plan::Journaled;

const FILE: &str = "journal";

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

/// Written before the one start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Intent {
    /// Milliseconds since the Unix epoch.
    pub at: u64,
    pub boot_id: String,
    /// When the engine's daemon started, in milliseconds since the Unix epoch, if that can be told.
    pub engine_started: Option<u64>,
    /// Reading of the clock that also runs while the host sleeps, in milliseconds.
    pub boot_clock: u64,
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
    tokio::task::spawn_blocking(work)
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
        } else if self.intent.is_some() {
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
    } = entry
    {
        *history = Some(History {
            offer: pb::Offer::decode(offer.as_slice()).ok()?,
            container,
            cluster,
            term,
            init_key,
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
