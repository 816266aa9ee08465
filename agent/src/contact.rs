//! When the coordinator was last known to hear this agent, on disk for whoever runs when the agent
//! doesn't: the agent's next process, and the init processes of containers with a lease.
//!
//! It counts from when the message was *sent* that the coordinator answered, by the clock that also runs
//! while the host sleeps. So the coordinator, which counts from when it got the message, never counts from
//! earlier.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

use muster_core::time::Millis;

use crate::journal::Heard;
use crate::lease::Contacts;

/// In the data directory. Below it is one directory for this start of the host: that clock begins anew
/// with each.
const DIR: &str = "lease";
pub(crate) const FILE: &str = "renewed";
/// Heartbeats whose answers are waited for; older ones are forgotten.
const UNANSWERED: usize = 64;
#[derive(Debug)]
pub(crate) struct Contact {
    dir: PathBuf,
    known: Mutex<Contacts>,
    file: Mutex<Option<File>>,
}

impl Contact {
    /// Takes up what an earlier process wrote during this start of the host. A disk that takes nothing
    /// leaves it to memory, and then no task may depend on it.
    pub(crate) fn open(data_dir: &Path, boot_id: &str) -> Self {
        let dir = data_dir.join(DIR).join(boot_id);
        let file = open_file(&data_dir.join(DIR), &dir)
            .inspect_err(|error| tracing::warn!(%error, "the last contact can't be kept on disk"));
        let last = fs::read_to_string(dir.join(FILE)).ok();
        let contact = Self {
            known: Mutex::new(Contacts::resume(
                last.and_then(|text| read(&text)).unwrap_or(0),
            )),
            dir,
            file: Mutex::new(file.ok()),
        };
        contact.write();
        contact
    }

    /// What containers get to see of it.
    pub(crate) fn dir(&self) -> PathBuf {
        self.dir.clone()
    }

    /// Whether it is on the disk.
    pub(crate) fn is_kept(&self) -> bool {
        self.file.lock().is_ok_and(|file| file.is_some())
    }

    fn known(&self) -> MutexGuard<'_, Contacts> {
        self.known.lock().expect("no holder of the lock panics")
    }

    /// As [`Contacts::last`].
    pub(crate) fn last(&self) -> u64 {
        self.known().last()
    }

    /// A message that was sent then was answered.
    pub(crate) fn note(&self, sent: u64) {
        self.known().note(sent);
        self.write();
    }

    /// The last one, for a journal.
    pub(crate) fn heard(&self, boot_id: &str) -> Heard {
        Heard {
            boot_id: boot_id.to_owned(),
            at: self.last(),
        }
    }

    /// As [`Contacts::since`].
    pub(crate) fn since(&self, accepted: Option<u64>, limit: Millis) -> Option<u64> {
        self.known().since(accepted, limit)
    }

    /// As [`Contacts::left`].
    pub(crate) fn left(&self, now: u64, limit: Millis) -> Millis {
        self.known().left(now, limit)
    }

    /// As [`Contacts::is_cut_off`].
    pub(crate) fn is_cut_off(&self, now: u64, limit: Millis, since: Option<u64>) -> bool {
        self.known().is_cut_off(now, limit, since)
    }

    /// In place and always as long: that needs no room on a disk that is full. It does not wait for the
    /// disk, because after a loss of power nobody asks.
    fn write(&self) {
        let Ok(mut file) = self.file.lock() else {
            return;
        };
        let last = self.last();
        let line = format!("{last:020} {last:020}\n");
        let written = file
            .as_ref()
            .map(|file| file.write_all_at(line.as_bytes(), 0));
        if let Some(Err(error)) = written {
            tracing::warn!(%error, "the last contact can't be written down");
            *file = None;
        }
    }
}

fn open_file(all: &Path, dir: &Path) -> io::Result<File> {
    fs::create_dir_all(dir)?;
    for entry in fs::read_dir(all)? {
        let path = entry?.path();
        if path != dir {
            fs::remove_dir_all(path)?;
        }
    }
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(dir.join(FILE))
}

/// The number stands there twice: one that is read while it is written differs.
fn read(text: &str) -> Option<u64> {
    let (first, second) = text.trim().split_once(' ')?;
    (first == second).then(|| first.parse().ok())?
}

/// The heartbeats of one stream that were not answered yet.
#[derive(Debug, Default)]
pub(crate) struct Beats {
    last: u64,
    /// Their numbers, and when they were sent.
    sent: VecDeque<(u64, u64)>,
}

impl Beats {
    /// The number of the heartbeat that is sent now.
    pub(crate) fn next(&mut self, now: u64) -> u64 {
        self.last += 1;
        if self.sent.len() == UNANSWERED {
            self.sent.pop_front();
        }
        self.sent.push_back((self.last, now));
        self.last
    }

    /// When the heartbeat was sent that is answered now, if it is one that waits for that.
    pub(crate) fn heard(&mut self, number: u64) -> Option<u64> {
        let place = self.sent.iter().position(|(sent, _)| *sent == number)?;
        self.sent.drain(..=place).next_back().map(|(_, at)| at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_process_of_the_agent_goes_on_and_the_next_start_of_the_host_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let first = Contact::open(dir.path(), "boot-1");
        assert_eq!((first.last(), first.is_kept()), (0, true));
        first.note(7_000);
        first.note(6_000);
        assert_eq!(Contact::open(dir.path(), "boot-1").last(), 7_000);
        assert_eq!(Contact::open(dir.path(), "boot-2").last(), 0);
        assert!(!first.dir().exists());
    }

    #[test]
    fn what_is_half_written_is_no_contact() {
        for (text, expected) in [
            ("00000000000000000012 00000000000000000012\n", Some(12)),
            ("00000000000000000099 00000000000000000012\n", None),
            ("00000000000000000012", None),
            ("", None),
        ] {
            assert_eq!(read(text), expected, "{text:?}");
        }
    }

    #[test]
    fn an_answer_counts_from_when_its_heartbeat_was_sent() {
        let mut beats = Beats::default();
        let numbers: Vec<u64> = [100, 200, 300].map(|at| beats.next(at)).into();
        assert_eq!(beats.heard(numbers[1]), Some(200));
        assert_eq!(beats.heard(numbers[0]), None);
        assert_eq!(beats.heard(numbers[1]), None);
        assert_eq!(beats.heard(numbers[2]), Some(300));
        assert_eq!(beats.heard(9), None);
    }
}
