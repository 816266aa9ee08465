//! Reads what muster's init process wrote down of a container's output into the attempt's spool.
//!
//! The init process writes numbered segments of frames; see `init/src/output.rs`. A segment is read while it
//! grows, is over when the next one is there, and is removed once all of it is in the spool. Neither side
//! waits for the other.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use muster_core::logframe::{self, LogStream};
use tokio_util::sync::CancellationToken;

use super::Begin;
use super::spool::Spool;
use crate::files;
use crate::host;
use crate::runtime::Output;

/// Bytes read at a time.
const CHUNK: usize = 256 << 10;
/// Between looks while output comes.
const LOOK: Duration = Duration::from_millis(20);
/// Between looks while none comes.
const LOOK_MAX: Duration = Duration::from_millis(200);

/// The directory of an attempt's segments, and what says that nothing is missing at the end.
#[derive(Debug, Clone)]
pub(crate) struct Captured {
    pub dir: PathBuf,
    /// The init process makes this file when the task begins,
    pub begun: PathBuf,
    /// and this one when everything is written down.
    pub whole: PathBuf,
}

/// Reads until `exited` fires and everything is in the spool, then closes the spool.
pub(crate) async fn follow(
    captured: Captured,
    mut spool: Spool,
    begin: Begin,
    exited: CancellationToken,
) {
    match begin {
        Begin::Again | Begin::Gone => {
            spool.skip_known();
            if spool.is_full() {
                spool.note(
                    "output may be missing here: the log was full when the agent started again\n",
                );
            }
        }
        Begin::Fresh => {}
    }
    let Captured { dir, begun, whole } = captured;
    let mut segments = Segments { dir, open: None };
    let mut pause = LOOK;
    loop {
        // In this order: what is there after the end is all there is.
        let over = exited.is_cancelled();
        if spool.is_crowded() {
            // The segments hold more, and if they are full too, the init process says what is missing.
            tokio::time::sleep(LOOK_MAX).await;
            continue;
        }
        let (returned, read) = segments.read().await;
        segments = returned;
        match read {
            Ok(Some(pieces)) => {
                spool.write(&pieces).await;
                pause = LOOK;
                continue;
            }
            Ok(None) if over => break,
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(%error, "captured output can't be read");
                if over {
                    spool.note("output is missing here: this host's disk does not give it back\n");
                    break;
                }
            }
        }
        tokio::select! {
            () = exited.cancelled() => {}
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(LOOK_MAX),
        }
    }
    if begun.exists() && !whole.exists() {
        spool.note("output may be missing here: the container was killed as a whole\n");
    }
    spool.finish().await;
}

/// Where reading stands.
struct Segments {
    dir: PathBuf,
    open: Option<Segment>,
}

struct Segment {
    number: u32,
    path: PathBuf,
    file: File,
    /// What was read and is no whole frame yet.
    rest: Vec<u8>,
    /// There is something in it that is no frame, and what follows that means nothing.
    spoiled: bool,
}

impl Segments {
    /// The next pieces, without waiting for any. `None`: there are none yet. All that came before has to be in the
    /// spool when this is called.
    async fn read(mut self) -> (Self, io::Result<Option<Vec<Output>>>) {
        let dir = self.dir.clone();
        let work = files::spawn(move || {
            let read = self.read_now();
            (self, read)
        });
        work.await
            .unwrap_or_else(|error| (Self { dir, open: None }, Err(io::Error::other(error))))
    }

    fn read_now(&mut self) -> io::Result<Option<Vec<Output>>> {
        loop {
            let open = match &mut self.open {
                Some(open) => open,
                None => match first(&self.dir)? {
                    Some(segment) => self.open.insert(segment),
                    None => return Ok(None),
                },
            };
            // In this order: a segment does not grow once the next one is there.
            let is_over = self.dir.join(name(open.number + 1)).exists();
            let pieces = open.read()?;
            if !pieces.is_empty() {
                return Ok(Some(pieces));
            }
            if !is_over {
                return Ok(None);
            }
            let Some(over) = self.open.take() else {
                return Ok(None);
            };
            fs::remove_file(&over.path)?;
            if over.spoiled {
                return Ok(Some(vec![note(
                    "the task wrote into the files of its output",
                )]));
            }
        }
    }
}

/// The segment with the lowest number.
fn first(dir: &Path) -> io::Result<Option<Segment>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        numbers.extend(name.to_str().and_then(|name| name.parse::<u32>().ok()));
    }
    let Some(number) = numbers.into_iter().min() else {
        return Ok(None);
    };
    let path = dir.join(name(number));
    Ok(Some(Segment {
        number,
        file: host::open_plain(&path)?,
        path,
        rest: Vec::new(),
        spoiled: false,
    }))
}

fn name(number: u32) -> String {
    format!("{number:08}")
}

impl Segment {
    /// The whole frames among the next bytes; none at the end of what is there.
    fn read(&mut self) -> io::Result<Vec<Output>> {
        loop {
            let limit = u64::try_from(CHUNK).expect("a small number");
            let read = (&self.file).take(limit).read_to_end(&mut self.rest)?;
            if self.spoiled {
                self.rest.clear(); // to its end, without a use for it
            }
            if read == 0 {
                return Ok(Vec::new());
            }
            let pieces = self.whole_frames();
            if !pieces.is_empty() {
                return Ok(pieces);
            }
        }
    }

    fn whole_frames(&mut self) -> Vec<Output> {
        let bytes = Bytes::from(std::mem::take(&mut self.rest));
        let mut frames = logframe::decode(&bytes);
        let mut pieces = Vec::new();
        for frame in frames.by_ref() {
            match frame {
                Ok(frame) => pieces.push(Output {
                    stream: frame.stream,
                    at_micros: frame.at_micros,
                    data: bytes.slice_ref(frame.data),
                }),
                Err(_) => self.spoiled = true,
            }
        }
        if !self.spoiled {
            self.rest = bytes[frames.position()..].to_vec();
        }
        pieces
    }
}

fn note(text: &str) -> Output {
    Output {
        stream: LogStream::Gap,
        at_micros: host::now().0 * 1000,
        data: Bytes::from(format!("output is missing here: {text}\n")),
    }
}

#[cfg(test)]
mod tests;
