//! The process's last log lines, for whoever asks what happened.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

use tracing_subscriber::fmt::MakeWriter;

/// Lines that are kept, and bytes of one; together at most 2 MiB.
const LINES: usize = 2_000;
const LINE_MAX: usize = 1_024;

/// A logger is of a whole process, and so are its lines.
static RECENT: Recent = Recent::new();

/// The last lines, oldest first; empty in a process whose logger was never set up.
#[must_use]
pub fn recent_lines() -> Vec<String> {
    RECENT.lines()
}

#[derive(Debug)]
pub(super) struct Recent(Mutex<VecDeque<String>>);

/// One event on its way into the ring.
#[derive(Debug)]
pub(super) struct Line<'a> {
    recent: &'a Recent,
    bytes: Vec<u8>,
}

/// Makes writers into the process's ring.
#[derive(Debug, Clone, Copy)]
pub(super) struct IntoRecent;

impl Recent {
    const fn new() -> Self {
        Self(Mutex::new(VecDeque::new()))
    }

    fn lines(&self) -> Vec<String> {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().cloned().collect()
    }

    fn push(&self, bytes: &[u8]) {
        let shown = &bytes[..bytes.len().min(LINE_MAX)];
        let line = String::from_utf8_lossy(shown).trim_end().to_owned();
        if line.is_empty() {
            return;
        }
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == LINES {
            lines.pop_front();
        }
        lines.push_back(line);
    }
}

impl MakeWriter<'_> for IntoRecent {
    type Writer = Line<'static>;

    fn make_writer(&self) -> Self::Writer {
        Line {
            recent: &RECENT,
            bytes: Vec::new(),
        }
    }
}

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = LINE_MAX.saturating_sub(self.bytes.len());
        self.bytes
            .extend_from_slice(&bytes[..bytes.len().min(room)]);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        self.recent.push(&self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_kept_and_long_ones_cut() {
        let recent = Recent::new();
        for number in 0..LINES + 5 {
            let mut line = Line {
                recent: &recent,
                bytes: Vec::new(),
            };
            writeln!(line, "line {number}").unwrap();
        }
        let lines = recent.lines();
        assert_eq!((lines.len(), lines[0].as_str()), (LINES, "line 5"));
        recent.push("é".repeat(LINE_MAX).as_bytes());
        recent.push(b"\n");
        let last = recent.lines().pop().unwrap();
        assert!(last.starts_with('é') && last.len() <= LINE_MAX + 2);
    }
}
