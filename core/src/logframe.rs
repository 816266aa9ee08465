//! The frames that an attempt's log is made of: on the agent's disk, on the wire and in the
//! coordinator's log store alike, so that an offset means the same everywhere. See `docs/logs.md`.
//!
//! A frame is one byte for the stream, the time as 8 bytes (microseconds since the Unix epoch,
//! little-endian), the length of the data as 4 bytes (little-endian), and the data.

/// Bytes before a frame's data.
pub const HEADER: usize = 13;
/// Most data of one frame, in bytes.
pub const DATA_MAX: usize = 64 << 10;

/// Where a piece of output came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LogStream {
    Stdout,
    Stderr,
    /// A note of muster's own, one line of text: output is missing here, and how much.
    Gap,
}

impl LogStream {
    /// The byte a frame begins with.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Stdout => 1,
            Self::Stderr => 2,
            Self::Gap => 3,
        }
    }

    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Stdout),
            2 => Some(Self::Stderr),
            3 => Some(Self::Gap),
            _ => None,
        }
    }
}

/// One frame, borrowed from the bytes it was read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    pub stream: LogStream,
    /// Microseconds since the Unix epoch, UTC.
    pub at_micros: u64,
    /// A line with its end, or a part of a line; at most `DATA_MAX` bytes.
    pub data: &'a [u8],
}

impl Frame<'_> {
    /// Bytes of the whole frame.
    #[must_use]
    pub const fn size(&self) -> usize {
        HEADER + self.data.len()
    }
}

/// Appends `data` to `out`, as several frames if it is longer than one frame may be.
pub fn encode(stream: LogStream, at_micros: u64, data: &[u8], out: &mut Vec<u8>) {
    for piece in data.chunks(DATA_MAX) {
        let length = u32::try_from(piece.len()).expect("a piece is no longer than DATA_MAX");
        out.push(stream.code());
        out.extend_from_slice(&at_micros.to_le_bytes());
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(piece);
    }
}

/// The frames of `bytes`. Ends before a frame that is cut short; what isn't a frame is an error,
/// after which nothing more comes.
#[must_use]
pub const fn decode(bytes: &[u8]) -> Frames<'_> {
    Frames {
        bytes,
        position: 0,
        failed: false,
    }
}

/// Iterator over frames; see [`decode`].
#[derive(Debug, Clone)]
pub struct Frames<'a> {
    bytes: &'a [u8],
    position: usize,
    failed: bool,
}

impl Frames<'_> {
    /// Where the next frame begins. After the last one: where the whole frames end, so that a
    /// reader knows what of a cut frame to keep for later.
    #[must_use]
    pub const fn position(&self) -> usize {
        self.position
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Result<Frame<'a>, BadFrame>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let (header, rest) = self
            .bytes
            .get(self.position..)?
            .split_first_chunk::<HEADER>()?;
        let (at, length) = split_header(header);
        let Some(stream) = LogStream::from_code(header[0]) else {
            self.failed = true;
            return Some(Err(BadFrame::Stream {
                position: self.position,
                code: header[0],
            }));
        };
        if length > DATA_MAX {
            self.failed = true;
            return Some(Err(BadFrame::Length {
                position: self.position,
                length,
            }));
        }
        let data = rest.get(..length)?;
        self.position += HEADER + length;
        Some(Ok(Frame {
            stream,
            at_micros: at,
            data,
        }))
    }
}

fn split_header(header: &[u8; HEADER]) -> (u64, usize) {
    let mut at = [0; 8];
    at.copy_from_slice(&header[1..9]);
    let mut length = [0; 4];
    length.copy_from_slice(&header[9..]);
    let length = usize::try_from(u32::from_le_bytes(length)).expect("32 bits fit any usize");
    (u64::from_le_bytes(at), length)
}

/// Why bytes are no log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadFrame {
    #[error("the frame at {position} is of the unknown stream {code}")]
    Stream { position: usize, code: u8 },
    #[error("the frame at {position} claims {length} bytes; at most {DATA_MAX}")]
    Length { position: usize, length: usize },
}

#[cfg(test)]
mod tests;
