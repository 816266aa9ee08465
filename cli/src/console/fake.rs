//! A console that remembers what was written.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use super::Console;
use crate::args::Format;

/// Bytes written so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sink(Arc<Mutex<Vec<u8>>>);

impl Sink {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A console without any terminal, and its two outputs.
pub(crate) fn console(format: Format) -> (Console, Sink, Sink) {
    let (out, err) = (Sink::default(), Sink::default());
    let console = Console {
        out: Box::new(out.clone()),
        err: Box::new(err.clone()),
        out_is_terminal: false,
        err_is_terminal: false,
        in_is_terminal: false,
        format,
        headers: true,
        quiet: false,
        color: false,
        out_closed: false,
    };
    (console, out, err)
}
