//! What a command writes: data to stdout, everything else to stderr.

mod clean;

use std::io::{self, BufRead, IsTerminal, Write};

use crate::args::{ColorChoice, Format};
use crate::exit::Failure;

pub(crate) use clean::{Cleaner, clean};

/// The two outputs, and how to write to them.
pub(crate) struct Console {
    out: Box<dyn Write + Send>,
    err: Box<dyn Write + Send>,
    pub(crate) out_is_terminal: bool,
    pub(crate) err_is_terminal: bool,
    /// Questions are only asked on a terminal.
    pub(crate) in_is_terminal: bool,
    pub(crate) format: Format,
    pub(crate) headers: bool,
    /// Ids only, and no notes.
    pub(crate) quiet: bool,
    /// Whether tables on stdout are coloured.
    pub(crate) color: bool,
    /// Somebody closed stdout, as `head` does.
    pub(crate) out_closed: bool,
}

impl Console {
    /// The process's own outputs.
    pub(crate) fn of_process(
        format: Format,
        headers: bool,
        quiet: bool,
        color: ColorChoice,
    ) -> Self {
        let out_is_terminal = io::stdout().is_terminal();
        Self {
            out: Box::new(io::stdout()),
            err: Box::new(io::stderr()),
            out_is_terminal,
            err_is_terminal: io::stderr().is_terminal(),
            in_is_terminal: io::stdin().is_terminal(),
            format,
            headers,
            quiet,
            color: match color {
                ColorChoice::Always => true,
                ColorChoice::Never => false,
                ColorChoice::Auto => out_is_terminal,
            },
            out_closed: false,
        }
    }

    /// Writes bytes to stdout and flushes. A closed pipe is remembered and is no error.
    pub(crate) fn out_bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        if self.out_closed {
            return Ok(());
        }
        match self.out.write_all(bytes).and_then(|()| self.out.flush()) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.out_closed = true;
                Ok(())
            }
            Err(source) => Err(Failure::Write { source }),
        }
    }

    /// Writes bytes to stderr. There is nowhere to say that it failed, so it says nothing.
    pub(crate) fn err_bytes(&mut self, bytes: &[u8]) {
        if self.err.write_all(bytes).is_ok() {
            self.err.flush().ok();
        }
    }

    /// Writes lines of data, without control characters if a terminal shows them. The caller's own
    /// colours stay: they are added by `paint`, after the values were cleaned.
    pub(crate) fn data(&mut self, text: &str) -> Result<(), Failure> {
        let mut text = text.to_owned();
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        self.out_bytes(text.as_bytes())
    }

    /// Whether a person reads what is listed, and may like to hear more about it.
    pub(crate) const fn is_for_people(&self) -> bool {
        !self.quiet && !self.format.is_for_programs()
    }

    /// A line for people on stderr; nothing with `--quiet`.
    pub(crate) fn note(&mut self, text: &str) {
        if !self.quiet {
            self.say(text);
        }
    }

    /// A line for people on stderr, always.
    pub(crate) fn say(&mut self, text: &str) {
        let mut line = if self.err_is_terminal {
            clean(text)
        } else {
            text.to_owned()
        };
        line.push('\n');
        self.err_bytes(line.as_bytes());
    }

    /// Asks on the terminal. Without one the answer is yes: nothing ever asks a script.
    pub(crate) fn confirm(&mut self, question: &str) -> bool {
        if !self.in_is_terminal {
            return true;
        }
        self.err_bytes(format!("{question} [y/N] ").as_bytes());
        let mut answer = String::new();
        let read = io::stdin().lock().read_line(&mut answer);
        read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes")
    }

    /// `text` fit for stdout: without control characters if that is a terminal.
    pub(crate) fn fit(&self, text: &str) -> String {
        if self.out_is_terminal {
            clean(text)
        } else {
            text.to_owned()
        }
    }
}

#[cfg(test)]
pub(crate) mod fake;
