//! Reading, page by page.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use bytes::Bytes;
use futures_util::Stream;
use futures_util::stream::try_unfold;
use muster_core::ids::AttemptId;
use muster_core::logframe::{self, Frame, LogStream};
use muster_core::time::Timestamp;

use super::following::Follower;
use super::{Entry, Inner, LogPage, LogStore, Paths, ReadError, ReadOptions};

/// Bytes of log read at a time: several of the largest frames.
const PAGE: u64 = 256 << 10;

pub(super) fn pages(
    store: LogStore,
    attempt: AttemptId,
    options: ReadOptions,
) -> impl Stream<Item = Result<LogPage, ReadError>> + Send + use<> {
    try_unfold(
        Reading::Before(store, attempt, options),
        |reading| async move {
            let mut reader = match reading {
                Reading::Before(store, attempt, options) => {
                    Reader::start(store, attempt, options).await?
                }
                Reading::Within(reader) => *reader,
                Reading::After => return Ok(None),
            };
            let Some(page) = reader.next().await? else {
                return Ok(None);
            };
            let rest = if page.complete {
                Reading::After
            } else {
                Reading::Within(Box::new(reader))
            };
            Ok(Some((page, rest)))
        },
    )
}

enum Reading {
    Before(LogStore, AttemptId, ReadOptions),
    Within(Box<Reader>),
    After,
}

struct Reader {
    store: LogStore,
    attempt: AttemptId,
    options: ReadOptions,
    follower: Option<Follower>,
    filter: Filter,
    position: u64,
}

impl Reader {
    async fn start(
        store: LogStore,
        attempt: AttemptId,
        options: ReadOptions,
    ) -> Result<Self, ReadError> {
        let follower = options
            .follow
            .then(|| store.0.followers.follow(attempt))
            .transpose()?;
        let filter = Filter::new(&options);
        let mut reader = Self {
            store,
            attempt,
            options,
            follower,
            filter,
            position: 0,
        };
        if let Some(tail) = reader.options.tail {
            let lines = reader.count_lines().await?;
            reader.filter = Filter {
                skip: lines.saturating_sub(tail),
                ..Filter::new(&reader.options)
            };
            reader.position = 0;
        }
        Ok(reader)
    }

    /// The lines that pass the filter, in what there is now.
    async fn count_lines(&mut self) -> Result<u64, ReadError> {
        let end = self.store.stored(self.attempt).await?.length;
        loop {
            let Chunk { bytes, complete: _ } = self.chunk(end).await?;
            let before = self.position;
            self.take_frames(&bytes)?;
            if self.position == before {
                return Ok(self.filter.lines);
            }
        }
    }

    /// The next page with something on it; `None`: the end, and the log is not whole.
    async fn next(&mut self) -> Result<Option<LogPage>, ReadError> {
        loop {
            // Before the log is read, so that what comes after is noticed.
            let stopped = self.options.stop.is_cancelled();
            if let Some(follower) = &mut self.follower {
                follower.look();
            }
            let Chunk { bytes, complete } = self.chunk(u64::MAX).await?;
            let before = self.position;
            let entries = self.take_frames(&bytes)?;
            let at_end = self.position == before;
            if !entries.is_empty() {
                return Ok(Some(LogPage {
                    entries,
                    complete: false,
                }));
            }
            match &mut self.follower {
                _ if !at_end => {}
                _ if complete => return Ok(Some(LogPage { entries, complete })),
                Some(follower) if !stopped => {
                    tokio::select! {
                        () = follower.changed() => {}
                        () = self.options.stop.cancelled() => {}
                    }
                }
                Some(_) | None => return Ok(None),
            }
        }
    }

    async fn chunk(&self, end: u64) -> Result<Chunk, ReadError> {
        let (attempt, position) = (self.attempt, self.position);
        let most = PAGE.min(end.saturating_sub(position));
        let read = self
            .store
            .blocking(move |inner| inner.read(attempt, position, most))
            .await;
        read.map_err(|undone| undone.of_read(attempt))
    }

    /// The entries of all whole frames that pass the filter. A cut frame at the end is left for later.
    fn take_frames(&mut self, bytes: &Bytes) -> Result<Vec<Entry>, ReadError> {
        let mut frames = logframe::decode(bytes);
        let mut entries = Vec::new();
        while let Some(frame) = frames.next() {
            let frame = frame.map_err(|source| ReadError::Damaged {
                attempt: self.attempt,
                position: self.position + to_u64(frames.position()),
                source,
            })?;
            if self.filter.passes(&frame) {
                let Frame {
                    stream,
                    at_micros,
                    data,
                } = frame;
                entries.push(Entry {
                    stream,
                    at_micros,
                    data: bytes.slice_ref(data),
                });
            }
        }
        self.position += to_u64(frames.position());
        Ok(entries)
    }
}

struct Chunk {
    bytes: Bytes,
    /// The log was complete before these bytes were read.
    complete: bool,
}

impl Inner {
    /// Up to `most` bytes from `position`. A log that isn't there is empty.
    fn read(&self, attempt: AttemptId, position: u64, most: u64) -> io::Result<Chunk> {
        // In this order: a file that is gone has become a row.
        let file = self.paths(attempt).read(position, most)?;
        if file.complete {
            return Ok(file);
        }
        let Some(frames) = self.small.frames(attempt)? else {
            return Ok(file);
        };
        let frames = Bytes::from(frames);
        let within = |place: u64| {
            usize::try_from(place)
                .unwrap_or(usize::MAX)
                .min(frames.len())
        };
        let bytes = frames.slice(within(position)..within(position.saturating_add(most)));
        Ok(Chunk {
            bytes,
            complete: true,
        })
    }
}

impl Paths {
    /// Up to `most` bytes from `position`. A log that isn't there is empty.
    fn read(&self, position: u64, most: u64) -> io::Result<Chunk> {
        for (path, complete) in [
            (&self.complete, true),
            (&self.part, false),
            (&self.complete, true),
        ] {
            match File::open(path) {
                Ok(mut file) => {
                    file.seek(SeekFrom::Start(position))?;
                    let mut bytes = Vec::new();
                    file.take(most).read_to_end(&mut bytes)?;
                    return Ok(Chunk {
                        bytes: bytes.into(),
                        complete,
                    });
                }
                // It may become complete between the first two looks.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Chunk {
            bytes: Bytes::new(),
            complete: false,
        })
    }
}

/// Which entries are wanted. Counts lines, to find the last ones.
#[derive(Debug)]
struct Filter {
    since_micros: u64,
    streams: Vec<LogStream>,
    /// Lines to leave out at the beginning.
    skip: u64,
    /// Lines that have begun.
    lines: u64,
    /// By stream: the line that the stream is in the middle of.
    within: [Option<u64>; 3],
}

impl Filter {
    fn new(options: &ReadOptions) -> Self {
        let since = options.since.unwrap_or(Timestamp(0));
        Self {
            since_micros: since.0.saturating_mul(1_000),
            streams: options.streams.clone(),
            skip: 0,
            lines: 0,
            within: [None; 3],
        }
    }

    fn passes(&mut self, frame: &Frame<'_>) -> bool {
        let wanted = frame.stream == LogStream::Gap
            || self.streams.is_empty()
            || self.streams.contains(&frame.stream);
        if !wanted || frame.at_micros < self.since_micros {
            return false;
        }
        let within = &mut self.within[usize::from(frame.stream.code() - 1)];
        let line = *within.get_or_insert_with(|| {
            self.lines += 1;
            self.lines
        });
        if frame.data.ends_with(b"\n") || frame.stream == LogStream::Gap {
            *within = None;
        }
        line > self.skip
    }
}

fn to_u64(size: usize) -> u64 {
    u64::try_from(size).expect("a size in memory fits 64 bits")
}
