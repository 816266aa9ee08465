//! The log of one attempt on this host's disk: whole frames, appended.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use muster_core::ids::AttemptId;
use muster_core::logframe::{self, LogStream};
use muster_failpoint::{self as failpoint, Point};
use tokio::sync::watch;

use super::Logs;
use crate::files;
use crate::host;
use crate::metrics::AgentMetrics;
use crate::runtime::Output;

/// What the spool may grow to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Bytes of one attempt's log.
    pub attempt: u64,
    /// Bytes of one attempt's log that the coordinator doesn't have.
    pub attempt_unsent: u64,
    /// Bytes on this host that the coordinator doesn't have.
    pub unsent: u64,
}

impl Bounds {
    pub(crate) const HOST: Self = Self {
        attempt: 1 << 30,
        attempt_unsent: 64 << 20,
        unsent: 256 << 20,
    };
}

/// More than is ever written at once, with the frames around it.
const BATCH_MAX: u64 = 1 << 20;
/// Bytes of the newest output that are kept while there is no room for any, so that a task's last words are
/// not what is missing.
const TAIL: usize = 64 << 10;

/// A log as its shipper sees it: bytes that only grow, until they are final.
#[derive(Debug)]
pub(crate) struct LogFile {
    attempt: AttemptId,
    file: File,
    written: AtomicU64,
    /// Length the coordinator was last known to have.
    sent: AtomicU64,
    /// CRC-32 of the whole log, once nothing will be added.
    finished: OnceLock<u32>,
    complete: watch::Sender<bool>,
    /// Whether some of it may have been sent on an earlier stream.
    shipped: AtomicBool,
}

impl LogFile {
    pub(crate) fn attempt(&self) -> AttemptId {
        self.attempt
    }

    pub(crate) fn written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    pub(crate) fn unsent(&self) -> u64 {
        self.written()
            .saturating_sub(self.sent.load(Ordering::Relaxed))
    }

    pub(crate) fn note_sent(&self, length: u64) {
        self.sent.store(length, Ordering::Relaxed);
    }

    pub(crate) fn finished(&self) -> Option<u32> {
        self.finished.get().copied()
    }

    /// Whether the coordinator may have some of it already.
    pub(crate) fn was_shipped(&self) -> bool {
        self.shipped.load(Ordering::Relaxed)
    }

    pub(crate) fn note_shipping(&self) {
        self.shipped.store(true, Ordering::Relaxed);
    }

    /// The coordinator has it all, or wants nothing of it.
    pub(crate) fn complete(&self) {
        self.complete.send_replace(true);
    }

    pub(crate) fn is_complete(&self) -> bool {
        *self.complete.borrow()
    }

    pub(crate) async fn until_complete(&self) {
        let mut complete = self.complete.subscribe();
        // The sender lives as long as `self`.
        let _ = complete.wait_for(|done| *done).await;
    }

    /// Up to `most` bytes from `offset`.
    ///
    /// # Errors
    /// If the disk fails.
    pub(crate) fn read(&self, offset: u64, most: usize) -> io::Result<Vec<u8>> {
        let left = self.written().saturating_sub(offset);
        let size = usize::try_from(left).unwrap_or(most).min(most);
        let mut bytes = vec![0; size];
        self.file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    }
}

/// How far the output of one stream is in the spool: bytes are told apart by their time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Mark {
    at_micros: u64,
    /// Bytes with exactly this time.
    bytes: u64,
}

/// While known output comes again: what is left to skip of the mark's bytes.
#[derive(Debug, Clone, Copy)]
struct Skip {
    mark: Mark,
    left: u64,
}

/// The writer's side.
pub(crate) struct Spool {
    log: Arc<LogFile>,
    logs: Arc<Logs>,
    metrics: Arc<AgentMetrics>,
    bounds: Bounds,
    crc: crc32fast::Hasher,
    /// Of stdout and stderr.
    marks: [Mark; 2],
    skips: [Option<Skip>; 2],
    /// Time of the last piece of each stream, if that piece did not end its line.
    open_lines: [Option<u64>; 2],
    /// The newest output that found no room.
    tail: VecDeque<Output>,
    tail_bytes: usize,
    /// Bytes before the tail that found none.
    dropped: u64,
}

fn index(stream: LogStream) -> usize {
    match stream {
        LogStream::Stdout | LogStream::Gap => 0,
        LogStream::Stderr => 1,
    }
}

impl Spool {
    /// Opens the log in `path`, with what an earlier life wrote. A frame that was cut short is cut off.
    ///
    /// # Errors
    /// If the disk fails.
    pub(crate) async fn open(
        attempt: AttemptId,
        path: &Path,
        logs: Arc<Logs>,
        metrics: Arc<AgentMetrics>,
        bounds: Bounds,
    ) -> io::Result<Self> {
        let path = path.to_owned();
        let read = files::spawn(move || read_back(&path));
        let (file, past) = read.await.map_err(io::Error::other)??;
        let log = Arc::new(LogFile {
            attempt,
            file,
            written: AtomicU64::new(past.length),
            sent: AtomicU64::new(0),
            finished: OnceLock::new(),
            complete: watch::Sender::new(false),
            shipped: AtomicBool::new(past.length > 0),
        });
        logs.add(Arc::clone(&log));
        Ok(Self {
            log,
            logs,
            metrics,
            bounds,
            crc: past.crc,
            marks: past.marks,
            skips: [None; 2],
            open_lines: [None; 2],
            tail: VecDeque::new(),
            tail_bytes: 0,
            dropped: 0,
        })
    }

    pub(crate) fn log(&self) -> Arc<LogFile> {
        Arc::clone(&self.log)
    }

    /// From now on output comes that may be in the spool already.
    pub(crate) fn skip_known(&mut self) {
        self.open_lines = [None; 2];
        self.skips = self.marks.map(|mark| {
            Some(Skip {
                mark,
                left: mark.bytes,
            })
        });
    }

    /// Reading again from this second of Unix time on misses nothing. `None`: from the start.
    pub(crate) fn resume_second(&self) -> Option<i64> {
        let newest = self.marks.iter().map(|mark| mark.at_micros).max()?;
        // The two streams are not in strict order.
        let second = (newest / 1_000_000).checked_sub(2)?;
        i64::try_from(second).ok()
    }

    /// Appends pieces. Never fails: what the disk or the bounds don't take is counted and declared.
    pub(crate) async fn write(&mut self, pieces: &[Output]) {
        let mut frames = Vec::new();
        for piece in pieces {
            if let Some(end) = self.lost_line_end(piece) {
                self.add(&end, &mut frames);
            }
            self.add(piece, &mut frames);
        }
        self.append(frames).await;
    }

    /// Docker's `local` log driver loses the end of a line that is longer than 16 KiB. The parts of one
    /// line have one time, so a part without an end before another time was the last of its line.
    fn lost_line_end(&mut self, piece: &Output) -> Option<Output> {
        let open = &mut self.open_lines[index(piece.stream)];
        let lost = open.filter(|at| *at != piece.at_micros);
        *open = (piece.data.last() != Some(&b'\n')).then_some(piece.at_micros);
        lost.map(|at_micros| Output {
            stream: piece.stream,
            at_micros,
            data: Bytes::from_static(b"\n"),
        })
    }

    fn add(&mut self, piece: &Output, frames: &mut Vec<u8>) {
        let Some(new) = self.unknown_part(piece) else {
            return;
        };
        let size = u64::try_from(frames.len() + self.tail_bytes + new.len() + logframe::HEADER);
        if self.has_room(size.unwrap_or(u64::MAX)) {
            self.put_tail(frames);
            logframe::encode(piece.stream, piece.at_micros, new, frames);
        } else {
            let data = piece.data.slice_ref(new);
            self.keep_in_tail(Output {
                data,
                ..piece.clone()
            });
        }
    }

    fn keep_in_tail(&mut self, piece: Output) {
        self.tail_bytes += piece.data.len();
        self.tail.push_back(piece);
        while self.tail_bytes > TAIL {
            let Some(oldest) = self.tail.pop_front() else {
                return;
            };
            self.tail_bytes -= oldest.data.len();
            self.drop_bytes(oldest.data.len());
        }
    }

    /// What found no room before: a note of how much is missing, then the newest of it.
    fn put_tail(&mut self, frames: &mut Vec<u8>) {
        let first = self.tail.front().map(|piece| piece.at_micros);
        let at_micros = first.unwrap_or_else(|| host::now().0 * 1000);
        self.declare_gap(at_micros, frames);
        for piece in self.tail.drain(..) {
            logframe::encode(piece.stream, piece.at_micros, &piece.data, frames);
        }
        self.tail_bytes = 0;
    }

    /// Adds a note of muster's own about missing output.
    pub(crate) fn note(&mut self, text: &str) {
        let mut frame = Vec::new();
        let at = host::now().0 * 1000;
        logframe::encode(LogStream::Gap, at, text.as_bytes(), &mut frame);
        if (&self.log.file).write_all(&frame).is_ok() {
            self.advance(&frame);
        }
    }

    /// Nothing more will be added.
    pub(crate) async fn finish(mut self) {
        let mut frames = Vec::new();
        self.put_tail(&mut frames);
        self.append(frames).await;
        let sum = self.crc.clone().finalize();
        self.log
            .finished
            .set(sum)
            .expect("finish consumes the only spool");
        self.logs.touch(self.log.attempt);
    }

    /// The part of a piece that isn't in the spool, and moves the marks over it.
    fn unknown_part<'a>(&mut self, piece: &'a Output) -> Option<&'a [u8]> {
        let place = index(piece.stream);
        let mut data = &piece.data[..];
        if let Some(skip) = &mut self.skips[place] {
            if piece.at_micros < skip.mark.at_micros {
                return None;
            }
            if piece.at_micros == skip.mark.at_micros {
                let known = usize::try_from(skip.left).unwrap_or(usize::MAX);
                let known = known.min(data.len());
                skip.left -= u64::try_from(known).expect("a length fits 64 bits");
                data = &data[known..];
            } else {
                self.skips[place] = None;
            }
        }
        if data.is_empty() {
            return None;
        }
        let bytes = u64::try_from(data.len()).expect("a length fits 64 bits");
        let mark = &mut self.marks[place];
        if piece.at_micros > mark.at_micros {
            *mark = Mark {
                at_micros: piece.at_micros,
                bytes,
            };
        } else if piece.at_micros == mark.at_micros {
            mark.bytes += bytes;
        }
        Some(data)
    }

    /// At the end, a note and the tail always fit.
    fn has_room(&self, more: u64) -> bool {
        self.log.written() + more <= self.bounds.attempt && !self.is_crowded_by(more)
    }

    fn is_crowded_by(&self, more: u64) -> bool {
        self.log.unsent() + more > self.bounds.attempt_unsent
            || self.logs.sizes().1 + more > self.bounds.unsent
    }

    /// There is no room for more until the coordinator has taken some of it.
    pub(crate) fn is_crowded(&self) -> bool {
        !self.is_full() && self.is_crowded_by(BATCH_MAX)
    }

    /// There will be no room for more at all.
    pub(crate) fn is_full(&self) -> bool {
        self.log.written() + BATCH_MAX > self.bounds.attempt
    }

    fn drop_bytes(&mut self, length: usize) {
        let length = u64::try_from(length).unwrap_or(u64::MAX);
        self.dropped += length;
        self.metrics.log_dropped_bytes.inc_by(length);
    }

    fn declare_gap(&mut self, at_micros: u64, frames: &mut Vec<u8>) {
        if self.dropped > 0 {
            let dropped = std::mem::take(&mut self.dropped);
            let text = format!(
                "{dropped} bytes of output are missing here: the agent's log space was full\n"
            );
            logframe::encode(LogStream::Gap, at_micros, text.as_bytes(), frames);
        }
    }

    async fn append(&mut self, frames: Vec<u8>) {
        if frames.is_empty() {
            return;
        }
        let log = Arc::clone(&self.log);
        let before = self.log.written();
        let work = files::spawn(move || {
            let result = (&log.file).write_all(&frames);
            if result.is_err() {
                // Half a frame must not stay between whole ones.
                let _ = log.file.set_len(before);
                let _ = (&log.file).seek(SeekFrom::Start(before));
            }
            (frames, result)
        });
        match work.await {
            Ok((frames, Ok(()))) => {
                failpoint::hit(Point::AgentLogSpooled);
                self.advance(&frames);
            }
            Ok((frames, Err(error))) => {
                tracing::warn!(%error, "output not written to the disk");
                self.drop_bytes(frames.len());
            }
            Err(error) => tracing::warn!(%error, "output not written to the disk"),
        }
    }

    fn advance(&mut self, frames: &[u8]) {
        self.crc.update(frames);
        let length = u64::try_from(frames.len()).expect("a length fits 64 bits");
        self.log.written.fetch_add(length, Ordering::Release);
        self.logs.touch(self.log.attempt);
    }
}

/// What is in a log already.
struct Past {
    length: u64,
    crc: crc32fast::Hasher,
    marks: [Mark; 2],
}

fn read_back(path: &Path) -> io::Result<(File, Past)> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(path)?;
    let mut past = Past {
        length: 0,
        crc: crc32fast::Hasher::new(),
        marks: [Mark::default(); 2],
    };
    if file.metadata()?.len() == 0 {
        return Ok((file, past)); // a new one, as most are
    }
    let mut reader = BufReader::with_capacity(1 << 18, &file);
    let mut frame = Vec::new();
    loop {
        frame.clear();
        let header = u64::try_from(logframe::HEADER).expect("a small number");
        reader.by_ref().take(header).read_to_end(&mut frame)?;
        let Some(length) = frame.get(9..logframe::HEADER) else {
            break;
        };
        let length = u32::from_le_bytes(length.try_into().expect("four bytes"));
        reader
            .by_ref()
            .take(u64::from(length))
            .read_to_end(&mut frame)?;
        let Some(Ok(whole)) = logframe::decode(&frame).next() else {
            break;
        };
        let bytes = u64::from(length);
        if whole.stream != LogStream::Gap {
            let mark = &mut past.marks[index(whole.stream)];
            if whole.at_micros > mark.at_micros {
                *mark = Mark {
                    at_micros: whole.at_micros,
                    bytes,
                };
            } else if whole.at_micros == mark.at_micros {
                mark.bytes += bytes;
            }
        }
        past.crc.update(&frame);
        past.length += u64::try_from(frame.len()).expect("a length fits 64 bits");
    }
    file.set_len(past.length)?;
    (&file).seek(SeekFrom::Start(past.length))?;
    Ok((file, past))
}
