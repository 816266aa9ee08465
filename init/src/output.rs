//! What the task prints, in files for the agent: nothing else stands between them, so output does not
//! depend on an engine that is slow, restarts, or throws old output away.
//!
//! The files are numbered segments of frames (`docs/logs.md`). The agent reads them while they grow and removes
//! those it has read. When it has not come by for long the segments reach their bound; what is printed then is
//! left out and counted, but for the newest, and a note says so at its place. The task never waits.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{ChildStderr, ChildStdout};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::sys;

mod frames;

use frames::{Frames, Stream};

/// Bytes of one segment before the next is begun.
const SEGMENT: u64 = 4 << 20;
/// Segments that may be there at a time.
const SEGMENTS: u32 = 16;
/// Of a read.
const CHUNK: usize = 64 << 10;
/// Of the newest output, while there is no room for any.
const TAIL: usize = 64 << 10;
/// The beginning of a line is written down when its end does not come for so long.
const LINE_PAUSE: Duration = Duration::from_millis(200);

/// After the end of the task and of everything it started, what was printed is only a pipe away.
const DRAIN: Duration = Duration::from_secs(5);
const STACK: usize = 256 << 10;

/// A thread that writes the output down.
pub(crate) struct Writer {
    streams: mpsc::Sender<Streams>,
    over: mpsc::Receiver<()>,
}

struct Streams {
    out: Option<ChildStdout>,
    err: Option<ChildStderr>,
}

impl Writer {
    /// `None`: the container may not have one thread more. The output goes to the engine then.
    pub(crate) fn start(dir: &Path) -> Option<Self> {
        let (streams, given) = mpsc::channel::<Streams>();
        let (finished, over) = mpsc::channel();
        let dir = dir.to_owned();
        let write = move || {
            if let Ok(streams) = given.recv() {
                copy(streams, &dir);
            }
            drop(finished);
        };
        let thread = thread::Builder::new().stack_size(STACK);
        thread.spawn(write).ok()?;
        Some(Self { streams, over })
    }

    /// Called once.
    pub(crate) fn write_from(&self, out: Option<ChildStdout>, err: Option<ChildStderr>) {
        // The thread ends only after it got them.
        let _ = self.streams.send(Streams { out, err });
    }

    /// Returns when everything is written down.
    pub(crate) fn finish(self) {
        let Self { streams, over } = self;
        drop(streams);
        // Nothing is ever sent: it returns when the other end is gone.
        let _ = over.recv_timeout(DRAIN);
    }
}

/// Writes words of this program's own where the task's errors go.
pub(crate) fn say(dir: &Path, text: &str) {
    let mut frames = Frames::default();
    frames.add(Stream::Err, text.as_bytes());
    let mut segments = Segments::new(dir);
    segments.write(frames.take());
    segments.finish();
}

/// Writes everything down until nobody can print any more.
fn copy(streams: Streams, dir: &Path) {
    let Streams { mut out, mut err } = streams;
    let mut frames = Frames::default();
    let mut segments = Segments::new(dir);
    let mut buffer = vec![0; CHUNK];
    while out.is_some() || err.is_some() {
        let pause = frames.has_open_lines().then_some(LINE_PAUSE);
        let files = [out.as_ref().map(AsFd::as_fd), err.as_ref().map(AsFd::as_fd)];
        let Ok([from_out, from_err]) = sys::poll(files, pause) else {
            break; // nothing but its arguments could make waiting fail
        };
        if from_out {
            take(&mut out, Stream::Out, &mut buffer, &mut frames);
        }
        if from_err {
            take(&mut err, Stream::Err, &mut buffer, &mut frames);
        }
        if !from_out && !from_err {
            frames.flush_open_lines();
        }
        segments.write(frames.take());
    }
    frames.flush_open_lines();
    segments.write(frames.take());
    segments.finish();
}

/// Reads once. A stream at its end is closed.
fn take<R: Read>(from: &mut Option<R>, stream: Stream, buffer: &mut [u8], frames: &mut Frames) {
    let Some(reader) = from else { return };
    match reader.read(buffer) {
        Ok(0) => *from = None,
        Ok(count) => frames.add(stream, &buffer[..count]),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
        Err(_) => *from = None,
    }
}

/// The files.
struct Segments {
    dir: PathBuf,
    number: u32,
    /// `None`: the next write begins a new one.
    file: Option<File>,
    length: u64,
    /// Whole frames that found no room, the newest.
    tail: Vec<u8>,
    /// Bytes of output before the tail that found none.
    dropped: u64,
}

impl Segments {
    fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            number: 0,
            file: None,
            length: 0,
            tail: Vec::new(),
            dropped: 0,
        }
    }

    fn write(&mut self, frames: &[u8]) {
        if frames.is_empty() {
            return;
        }
        let kept = self.has_room() && self.put_tail() && self.put(frames);
        if !kept {
            self.tail.extend_from_slice(frames);
            self.dropped += frames::cut_to(&mut self.tail, TAIL);
        }
    }

    /// The tail goes into the last segment, whatever its length, so that the end of the output is never what is
    /// missing.
    fn finish(&mut self) {
        if !self.tail.is_empty() {
            // On a disk that is full even this may fail. Then the agent sees a segment less than there were.
            self.put_tail();
        }
    }

    /// Whether the current segment takes more, or a new one may be begun.
    fn has_room(&mut self) -> bool {
        if self.file.is_some() && self.length < SEGMENT {
            return true;
        }
        let oldest = self.number.saturating_sub(SEGMENTS - 1);
        if oldest > 0 && self.path(oldest).exists() {
            return false;
        }
        self.file = None;
        true
    }

    /// Puts what was left out back: a note, then the newest.
    fn put_tail(&mut self) -> bool {
        if self.tail.is_empty() {
            return true;
        }
        let mut bytes = Vec::new();
        if self.dropped > 0 {
            frames::note_dropped(self.dropped, &self.tail, &mut bytes);
        }
        bytes.extend_from_slice(&self.tail);
        let put = self.put(&bytes);
        if put {
            self.tail.clear();
            self.dropped = 0;
        }
        put
    }

    fn put(&mut self, bytes: &[u8]) -> bool {
        let written = self.append(bytes);
        if written.is_err() {
            // Half a frame may be there. The agent leaves it out when it sees the next segment.
            self.file = None;
        }
        written.is_ok()
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            None => {
                let number = self.number + 1;
                let path = self.path(number);
                let file = OpenOptions::new().write(true).create_new(true).open(path)?;
                self.number = number;
                self.length = 0;
                self.file.insert(file)
            }
        };
        file.write_all_at(bytes, self.length)?;
        self.length += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        Ok(())
    }

    fn path(&self, number: u32) -> PathBuf {
        self.dir.join(format!("{number:08}"))
    }
}

#[cfg(test)]
mod tests;
