//! Bytes of a stream become lines with a time: frames as the whole of muster knows them.

use crate::sys;

/// Stream, time, length.
const HEADER: usize = 1 + 8 + 4;
/// Of a frame's data, in bytes. A longer line comes in parts.
const PART: usize = 16 << 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stream {
    Out,
    Err,
}

/// As the format writes it.
const OUT: u8 = 1;
const ERR: u8 = 2;
const NOTE: u8 = 3;

/// A line whose end has not come yet.
#[derive(Debug, Default)]
struct Open {
    /// Of the whole line; 0: there is none.
    at_micros: u64,
    bytes: Vec<u8>,
}

/// Frames in the order in which their lines began.
#[derive(Debug, Default)]
pub(super) struct Frames {
    ready: Vec<u8>,
    taken: Vec<u8>,
    open: [Open; 2],
    /// Times only grow, so that every line has its own.
    last_micros: u64,
}

impl Frames {
    /// Takes in what was read from a stream.
    pub(super) fn add(&mut self, stream: Stream, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.add_piece(stream, piece);
        }
    }

    /// A line's end, or a part of a line.
    fn add_piece(&mut self, stream: Stream, piece: &[u8]) {
        let (place, kind) = match stream {
            Stream::Out => (0, OUT),
            Stream::Err => (1, ERR),
        };
        let fresh = self.last_micros.saturating_add(1).max(sys::wall_micros());
        let open = &mut self.open[place];
        if open.at_micros == 0 {
            open.at_micros = fresh;
            self.last_micros = fresh;
        }
        let mut rest = piece;
        while !rest.is_empty() {
            let (part, more) = rest.split_at(rest.len().min(PART - open.bytes.len()));
            open.bytes.extend_from_slice(part);
            rest = more;
            if open.bytes.len() == PART {
                encode(kind, open.at_micros, &open.bytes, &mut self.ready);
                open.bytes.clear();
            }
        }
        if piece.ends_with(b"\n") {
            if !open.bytes.is_empty() {
                encode(kind, open.at_micros, &open.bytes, &mut self.ready);
            }
            open.bytes.clear();
            open.at_micros = 0;
        }
    }

    pub(super) fn has_open_lines(&self) -> bool {
        self.open.iter().any(|open| !open.bytes.is_empty())
    }

    /// Writes down what there is of lines without an end. More of the same line may follow.
    pub(super) fn flush_open_lines(&mut self) {
        for (open, kind) in self.open.iter_mut().zip([OUT, ERR]) {
            if !open.bytes.is_empty() {
                encode(kind, open.at_micros, &open.bytes, &mut self.ready);
                open.bytes.clear();
            }
        }
    }

    /// All frames since the last time.
    pub(super) fn take(&mut self) -> &[u8] {
        self.taken.clear();
        std::mem::swap(&mut self.taken, &mut self.ready);
        &self.taken
    }
}

fn encode(kind: u8, at_micros: u64, data: &[u8], frames: &mut Vec<u8>) {
    let length = u32::try_from(data.len()).expect("a part is at most 16 KiB");
    frames.push(kind);
    frames.extend_from_slice(&at_micros.to_le_bytes());
    frames.extend_from_slice(&length.to_le_bytes());
    frames.extend_from_slice(data);
}

/// The length of the data of the frame at the beginning of `frames`.
fn data_length(frames: &[u8]) -> usize {
    let bytes = frames[9..HEADER].try_into().expect("four bytes");
    usize::try_from(u32::from_le_bytes(bytes)).expect("this machine has 64 bits")
}

/// Removes whole frames from the beginning until at most `most` bytes are left, and returns how many bytes of
/// output were in them.
pub(super) fn cut_to(frames: &mut Vec<u8>, most: usize) -> u64 {
    let (mut from, mut dropped) = (0, 0);
    while frames.len() - from > most {
        let length = data_length(&frames[from..]);
        from += HEADER + length;
        dropped += u64::try_from(length).unwrap_or(u64::MAX);
    }
    frames.drain(..from);
    dropped
}

/// Says that output is missing before the first of the frames `next`.
pub(super) fn note_dropped(bytes: u64, next: &[u8], into: &mut Vec<u8>) {
    let at = next[1..9].try_into().expect("eight bytes");
    let text =
        format!("{bytes} bytes of output are missing here: the agent did not take them in time\n");
    encode(NOTE, u64::from_le_bytes(at), text.as_bytes(), into);
}
