//! Output of tasks, byte for byte: stdout to stdout, stderr to stderr.

use muster_proto::v1;
use serde::Serialize;

use crate::args::Format;
use crate::console::{Cleaner, Console};
use crate::exit::Failure;
use crate::render::{json, span, words};

/// Writes log entries. Knows where each stream stands in its line.
#[derive(Debug, Default)]
pub(crate) struct Printer {
    timestamps: bool,
    raw: bool,
    out: Place,
    err: Place,
}

#[derive(Debug, Default)]
struct Place {
    inside_line: bool,
    cleaner: Cleaner,
}

/// One entry as `-o json` and `-o jsonl` write it.
#[derive(Debug, Serialize)]
struct EntryJson<'a> {
    stream: &'static str,
    at: Option<String>,
    /// Bytes that are not UTF-8 are replaced.
    text: std::borrow::Cow<'a, str>,
}

impl Printer {
    /// With `timestamps` each line begins with its time; with `raw` control characters reach a
    /// terminal as they are.
    pub(crate) fn new(timestamps: bool, raw: bool) -> Self {
        Self {
            timestamps,
            raw,
            ..Self::default()
        }
    }

    pub(crate) fn print(
        &mut self,
        console: &mut Console,
        entry: &v1::LogEntry,
    ) -> Result<(), Failure> {
        if matches!(console.format, Format::Json | Format::Jsonl) {
            return console.data(&json::text(&EntryJson {
                stream: words::stream(entry.stream()),
                at: span::rfc3339(entry.at),
                text: String::from_utf8_lossy(&entry.data),
            }));
        }
        match entry.stream() {
            v1::LogStream::Stdout => {
                let clean = console.out_is_terminal && !self.raw;
                let bytes = self.out.bytes(entry, self.timestamps, clean);
                console.out_bytes(&bytes)
            }
            v1::LogStream::Stderr => {
                let clean = console.err_is_terminal && !self.raw;
                let bytes = self.err.bytes(entry, self.timestamps, clean);
                console.err_bytes(&bytes);
                Ok(())
            }
            v1::LogStream::Gap | v1::LogStream::Unspecified => {
                self.end_line(console);
                console.say(String::from_utf8_lossy(&entry.data).trim_end());
                Ok(())
            }
        }
    }

    /// Ends an open line of the task's on stderr, so that a note of ours begins a line. What goes
    /// to stdout stays as the task wrote it.
    pub(crate) fn end_line(&mut self, console: &mut Console) {
        let beside = console.out_is_terminal && console.err_is_terminal;
        if self.err.inside_line || (self.out.inside_line && beside) {
            console.err_bytes(b"\n");
            self.err.inside_line = false;
        }
    }
}

impl Place {
    fn bytes(&mut self, entry: &v1::LogEntry, timestamps: bool, clean: bool) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(entry.data.len() + 32);
        let stamp = timestamps.then(|| span::rfc3339(entry.at)).flatten();
        for line in entry.data.split_inclusive(|byte| *byte == b'\n') {
            if let (Some(stamp), false) = (&stamp, self.inside_line) {
                bytes.extend_from_slice(stamp.as_bytes());
                bytes.push(b' ');
            }
            if clean {
                bytes.extend_from_slice(self.cleaner.push(line).as_bytes());
            } else {
                bytes.extend_from_slice(line);
            }
            self.inside_line = !line.ends_with(b"\n");
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::fake;

    fn entry(stream: v1::LogStream, data: &'static [u8]) -> v1::LogEntry {
        v1::LogEntry {
            stream: stream.into(),
            at: Some(prost_types::Timestamp {
                seconds: 1_787_320_920,
                nanos: 5_000_000,
            }),
            data: data.into(),
        }
    }

    #[test]
    fn bytes_arrive_as_they_are() {
        let (mut console, out, err) = fake::console(Format::Table);
        let mut printer = Printer::default();
        for data in [&b"a\x1b["[..], b"31m\xe2", b"\x82\xac\n"] {
            printer
                .print(&mut console, &entry(v1::LogStream::Stdout, data))
                .unwrap();
        }
        printer
            .print(&mut console, &entry(v1::LogStream::Stderr, b"oh"))
            .unwrap();
        printer.end_line(&mut console);
        assert_eq!(out.text(), "a\x1b[31m€\n");
        assert_eq!(err.text(), "oh\n");
    }

    #[test]
    fn a_terminal_gets_no_escapes() {
        let (mut console, out, _) = fake::console(Format::Table);
        console.out_is_terminal = true;
        let mut printer = Printer::default();
        printer
            .print(
                &mut console,
                &entry(v1::LogStream::Stdout, b"\x1b]0;x\x07\n"),
            )
            .unwrap();
        assert_eq!(out.text(), "^[]0;x^G\n");
    }

    #[test]
    fn each_line_has_its_time_once() {
        let (mut console, out, _) = fake::console(Format::Table);
        let mut printer = Printer::new(true, false);
        for data in [&b"one\ntw"[..], b"o\n"] {
            printer
                .print(&mut console, &entry(v1::LogStream::Stdout, data))
                .unwrap();
        }
        let at = "2026-08-21T14:02:00.005Z";
        assert_eq!(out.text(), format!("{at} one\n{at} two\n"));
    }

    #[test]
    fn json_is_one_object_an_entry() {
        let (mut console, out, _) = fake::console(Format::Jsonl);
        let mut printer = Printer::default();
        printer
            .print(&mut console, &entry(v1::LogStream::Stderr, b"x\n"))
            .unwrap();
        let at = "2026-08-21T14:02:00.005Z";
        assert_eq!(
            out.text(),
            format!("{{\"stream\":\"stderr\",\"at\":\"{at}\",\"text\":\"x\\n\"}}\n")
        );
    }
}
