//! One layer of an image: an archive of what it adds, with marks for what it removes.

use std::io::{self, Read};

use bytes::Bytes;
use tar::{Archive, Entry, EntryType, PaxExtensions};
use tokio::sync::mpsc;

/// Bytes that a layer may have unpacked.
const UNPACKED_MAX: u64 = 2 << 30;
/// Largest file that is read, in bytes.
const FILE_MAX: u64 = 256 << 10;
/// Longest name of a file, and longest header with one, in bytes.
const NAME_MAX: u64 = 64 << 10;
/// Memory that a layer may want for its compression, as a power of two of bytes.
const WINDOW_MAX: u32 = 27;
/// How a layer says that a file of older ones is removed, or all of a directory's.
const REMOVED: &[u8] = b".wh.";
const ALL_REMOVED: &[u8] = b".wh..wh..opq";

/// What a layer has to say about a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Scanned {
    Found(String),
    /// It is there and can't be read, in words that follow its name.
    Bad(String),
    /// Whatever older layers have is removed.
    Gone,
    Absent,
}

/// The parts of a path; `None`: it names no file.
pub(super) fn path(text: &str) -> Option<Vec<Vec<u8>>> {
    let parts = parts(text.as_bytes());
    let is_file = !parts.is_empty() && !text.ends_with('/') && text.len() <= 4096;
    let climbs = parts.iter().any(|part| part == b"..");
    (is_file && !climbs).then_some(parts)
}

fn parts(path: &[u8]) -> Vec<Vec<u8>> {
    let parts = path.split(|byte| *byte == b'/');
    let parts = parts.filter(|part| !part.is_empty() && *part != b".");
    parts.map(<[u8]>::to_vec).collect()
}

/// Looks a whole layer through. What is no archive is `Bad`.
pub(super) fn scan(packed: impl Read, wanted: &[Vec<u8>]) -> Scanned {
    let scanned = unpacked(packed).and_then(|reader| {
        let bounded = Bounded {
            reader,
            left: UNPACKED_MAX,
        };
        scan_archive(bounded, wanted)
    });
    scanned.unwrap_or_else(|error| {
        Scanned::Bad(format!(
            "could not be looked for: a layer can't be read: {error}"
        ))
    })
}

/// By the first bytes: registries are told all sorts of media types.
fn unpacked<'a>(mut packed: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let mut magic = Vec::new();
    packed.by_ref().take(4).read_to_end(&mut magic)?;
    let kind = magic.clone();
    let whole = io::Cursor::new(magic).chain(packed);
    Ok(match kind[..] {
        [0x1f, 0x8b, ..] => Box::new(flate2::read::MultiGzDecoder::new(whole)),
        [0x28, 0xb5, 0x2f, 0xfd] => {
            let mut decoder = zstd::stream::read::Decoder::new(whole)?;
            decoder.window_log_max(WINDOW_MAX)?;
            Box::new(decoder)
        }
        _ => Box::new(whole),
    })
}

fn scan_archive(reader: impl Read, wanted: &[Vec<u8>]) -> io::Result<Scanned> {
    let mut archive = Archive::new(reader);
    let (mut found, mut gone) = (None, false);
    let mut long_name = None;
    // Raw, because names are only read into memory as far as our own bound goes.
    for entry in archive.entries()?.raw(true) {
        let mut entry = entry?;
        match entry.header().entry_type() {
            EntryType::GNULongName => {
                let mut name = read_name(&mut entry)?;
                name.truncate(
                    name.iter()
                        .position(|byte| *byte == 0)
                        .unwrap_or(name.len()),
                );
                long_name = Some(name);
                continue;
            }
            EntryType::XHeader => {
                long_name = pax_name(&read_name(&mut entry)?)?.or(long_name);
                continue;
            }
            EntryType::GNULongLink | EntryType::XGlobalHeader => continue,
            _ => {}
        }
        let name = long_name.take();
        let name = parts(&name.unwrap_or_else(|| entry.header().path_bytes().into_owned()));
        if name == wanted {
            found = Some(read_file(&mut entry)?);
        } else {
            gone |= hides(&name, entry.header().entry_type(), wanted);
        }
    }
    Ok(found.unwrap_or(if gone { Scanned::Gone } else { Scanned::Absent }))
}

fn read_name(entry: &mut Entry<'_, impl Read>) -> io::Result<Vec<u8>> {
    if entry.size() > NAME_MAX {
        return Err(io::Error::other("it has a name that is too long"));
    }
    let mut name = Vec::new();
    entry.read_to_end(&mut name)?;
    Ok(name)
}

fn pax_name(records: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let mut name = None;
    for record in PaxExtensions::new(records) {
        let record = record?;
        if record.key_bytes() == b"path" {
            name = Some(record.value_bytes().to_vec());
        }
    }
    Ok(name)
}

fn read_file(entry: &mut Entry<'_, impl Read>) -> io::Result<Scanned> {
    if !entry.header().entry_type().is_file() {
        return Ok(Scanned::Bad("is no regular file".to_owned()));
    }
    if entry.size() > FILE_MAX {
        let what = format!("is {} bytes long; at most {FILE_MAX}", entry.size());
        return Ok(Scanned::Bad(what));
    }
    let mut text = Vec::new();
    entry.read_to_end(&mut text)?;
    Ok(String::from_utf8(text)
        .map_or_else(|_| Scanned::Bad("is no UTF-8".to_owned()), Scanned::Found))
}

/// Whether an entry of the archive keeps what older layers have under `wanted` from being seen.
fn hides(name: &[Vec<u8>], kind: EntryType, wanted: &[Vec<u8>]) -> bool {
    let Some((last, above)) = name.split_last() else {
        return false;
    };
    let Some(next) = wanted.strip_prefix(above).and_then(<[_]>::first) else {
        return false;
    };
    // A link or a file in place of a directory, too.
    let replaced = last == next && name.len() < wanted.len() && !kind.is_dir();
    let removed = last.strip_prefix(REMOVED) == Some(&next[..]);
    removed || replaced || last == ALL_REMOVED
}

/// Ends in an error where there is more than there may be.
struct Bounded<R> {
    reader: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        let read = u64::try_from(count).unwrap_or(u64::MAX);
        self.left = self.left.checked_sub(read).ok_or_else(|| {
            let what = format!("it has more than {} MiB unpacked", UNPACKED_MAX >> 20);
            io::Error::other(what)
        })?;
        Ok(count)
    }
}

/// A download, as its pieces come. Only for threads that may wait.
pub(super) struct ChunkReader {
    chunks: mpsc::Receiver<Bytes>,
    rest: Bytes,
}

impl ChunkReader {
    pub(super) fn new(chunks: mpsc::Receiver<Bytes>) -> Self {
        Self {
            chunks,
            rest: Bytes::new(),
        }
    }
}

impl Read for ChunkReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            match self.chunks.blocking_recv() {
                Some(chunk) => self.rest = chunk,
                None => return Ok(0),
            }
        }
        let count = self.rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&self.rest.split_to(count));
        Ok(count)
    }
}

#[cfg(test)]
mod tests;
