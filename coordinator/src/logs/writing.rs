//! Appending and completing.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use muster_core::ids::AttemptId;
use muster_failpoint::{self as failpoint, Point};
use tokio::runtime::Handle;

use super::small::{SMALL, SmallLogs};
use super::sync::Syncs;
use super::{Inner, Paths, Stored, make_directory};

/// Files that stay open; the one that was not used for longest is closed for the next.
const OPEN: usize = 256;
const SYNC_EVERY: Duration = Duration::from_secs(1);
/// Bytes read at a time for a checksum.
const BUFFER: usize = 256 << 10;

/// The logs that grow.
#[derive(Debug)]
pub(super) struct OpenLogs {
    table: Mutex<Table>,
    syncs: Arc<Syncs>,
}

#[derive(Debug, Default)]
struct Table {
    logs: BTreeMap<AttemptId, Slot>,
    /// Counts uses, to know which slot was used when.
    clock: u64,
}

#[derive(Debug)]
struct Slot {
    log: Arc<Mutex<OpenLog>>,
    used: u64,
}

#[derive(Debug)]
struct OpenLog {
    file: File,
    stored: Stored,
    synced: Instant,
    /// Appended to since `synced`.
    dirty: bool,
    syncs: Arc<Syncs>,
}

impl Inner {
    pub(super) fn append(
        &self,
        attempt: AttemptId,
        offset: u64,
        data: &[u8],
    ) -> io::Result<Stored> {
        let paths = self.paths(attempt);
        let stored = self.stored(attempt)?;
        // Asking where to go on makes no file.
        if stored.complete || offset != stored.length || data.is_empty() {
            return Ok(stored);
        }
        let Some(log) = self.open.get(attempt, &paths, &self.small)? else {
            return self.stored(attempt);
        };
        let mut log = lock(&log);
        // Somebody else, with an older stream of the same agent, may have been faster.
        if log.stored.complete || log.stored.length != offset {
            return Ok(log.stored);
        }
        log.append(data)?;
        Ok(log.stored)
    }

    pub(super) fn finish(&self, attempt: AttemptId, crc32: u32, length: u64) -> io::Result<Stored> {
        let paths = self.paths(attempt);
        let stored = self.stored(attempt)?;
        if stored.complete || stored.length < length {
            return Ok(stored);
        }
        let Some(log) = self.open.get(attempt, &paths, &self.small)? else {
            return self.stored(attempt);
        };
        let mut log = lock(&log);
        if log.stored.complete {
            return Ok(log.stored);
        }
        if log.stored.length != length || log.checksum()? != crc32 {
            log.forget()?;
            return Ok(log.stored);
        }
        match usize::try_from(length) {
            Ok(size) if size <= SMALL => self.complete_small(attempt, &paths, &mut log)?,
            Ok(_) | Err(_) => log.complete_file(&paths)?,
        }
        log.stored.complete = true;
        self.open.close(attempt);
        Ok(log.stored)
    }
}

impl Inner {
    fn complete_small(
        &self,
        attempt: AttemptId,
        paths: &Paths,
        log: &mut OpenLog,
    ) -> io::Result<()> {
        let mut frames = Vec::new();
        log.file.seek(SeekFrom::Start(0))?;
        log.file.read_to_end(&mut frames)?;
        failpoint::hit(Point::LogBeforeFinal);
        Handle::current().block_on(self.small.put(attempt, frames.into()))?;
        failpoint::hit(Point::LogFinal);
        // The row counts, also beside a file.
        let _ = std::fs::remove_file(&paths.part);
        Ok(())
    }
}

impl OpenLogs {
    pub(super) fn new(syncs: Arc<Syncs>) -> Self {
        Self {
            table: Mutex::default(),
            syncs,
        }
    }

    /// The open log; `None`: it is complete. Until `close` says so its slot is there, and says it too, so
    /// a complete log never gets a second beginning.
    fn get(
        &self,
        attempt: AttemptId,
        paths: &Paths,
        small: &SmallLogs,
    ) -> io::Result<Option<Arc<Mutex<OpenLog>>>> {
        let mut table = lock(&self.table);
        table.clock += 1;
        let used = table.clock;
        if let Some(slot) = table.logs.get_mut(&attempt) {
            slot.used = used;
            return Ok(Some(slot.log.clone()));
        }
        if paths.complete.try_exists()? || small.length(attempt)?.is_some() {
            return Ok(None);
        }
        let closed = table.make_room();
        let log = Arc::new(Mutex::new(OpenLog::open(paths, &self.syncs)?));
        table.logs.insert(
            attempt,
            Slot {
                log: log.clone(),
                used,
            },
        );
        drop(table);
        if let Some(closed) = closed {
            lock(&closed).sync()?;
        }
        Ok(Some(log))
    }

    fn close(&self, attempt: AttemptId) {
        lock(&self.table).logs.remove(&attempt);
    }
}

impl Table {
    /// Takes out the log that was not used for longest. One that is in use stays, so that a log never
    /// has two writers; there are never more of those than requests at a time.
    fn make_room(&mut self) -> Option<Arc<Mutex<OpenLog>>> {
        if self.logs.len() < OPEN {
            return None;
        }
        let idle = self
            .logs
            .iter()
            .filter(|(_, slot)| Arc::strong_count(&slot.log) == 1);
        let oldest = *idle.min_by_key(|(_, slot)| slot.used)?.0;
        self.logs.remove(&oldest).map(|slot| slot.log)
    }
}

impl OpenLog {
    fn open(paths: &Paths, syncs: &Arc<Syncs>) -> io::Result<Self> {
        make_directory(&paths.directory)?;
        let mut options = OpenOptions::new();
        let options = options.read(true).append(true).create(true).mode(0o600);
        let file = options.open(&paths.part)?;
        let length = file.metadata()?.len();
        let stored = Stored {
            length,
            complete: false,
        };
        Ok(Self {
            file,
            stored,
            synced: Instant::now(),
            dirty: false,
            syncs: Arc::clone(syncs),
        })
    }

    fn append(&mut self, data: &[u8]) -> io::Result<()> {
        if let Err(error) = self.file.write_all(data) {
            // Half a chunk would shift everything after it.
            self.file.set_len(self.stored.length)?;
            return Err(error);
        }
        self.stored.length += u64::try_from(data.len()).expect("a length in memory fits 64 bits");
        self.dirty = true;
        if self.synced.elapsed() >= SYNC_EVERY {
            self.sync()?;
        }
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        if self.dirty {
            self.syncs.ended(self.file.sync_data())?;
            self.dirty = false;
        }
        self.synced = Instant::now();
        Ok(())
    }

    fn complete_file(&self, paths: &Paths) -> io::Result<()> {
        self.syncs.ended(self.file.sync_all())?;
        failpoint::hit(Point::LogBeforeFinal);
        std::fs::rename(&paths.part, &paths.complete)?;
        let directory = File::open(&paths.directory)?;
        self.syncs.ended(directory.sync_all())?;
        failpoint::hit(Point::LogFinal);
        Ok(())
    }

    /// Of what the file really holds, not of what was sent.
    fn checksum(&mut self) -> io::Result<u32> {
        self.file.seek(SeekFrom::Start(0))?;
        let mut hasher = crc32fast::Hasher::new();
        let size = usize::try_from(self.stored.length).unwrap_or(BUFFER);
        let mut buffer = vec![0; size.clamp(1, BUFFER)];
        loop {
            match self.file.read(&mut buffer)? {
                0 => return Ok(hasher.finalize()),
                count => hasher.update(&buffer[..count]),
            }
        }
    }

    fn forget(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.stored.length = 0;
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
