//! What happened, as a hash that two equal histories share and, on demand, as lines to read.

use std::fmt::{self, Write as _};

use muster_core::time::Timestamp;

/// When the clock of every history begins.
pub(crate) const BEGIN: Timestamp = Timestamp(1_700_000_000_000);

/// A named invariant that did not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Violation {
    pub(crate) invariant: &'static str,
    pub(crate) what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.invariant, self.what)
    }
}

#[derive(Debug)]
pub(crate) struct Trace {
    hash: u64,
    printed: bool,
    violation: Option<Violation>,
}

impl Trace {
    pub(crate) const fn new(printed: bool) -> Self {
        Self {
            hash: 0xcbf2_9ce4_8422_2325,
            printed,
            violation: None,
        }
    }

    pub(crate) fn note(&mut self, now: Timestamp, what: fmt::Arguments<'_>) {
        let at = now.since(BEGIN).0;
        // Writing into a hash cannot fail.
        let _ = write!(self, "{at} {what}");
        if self.printed {
            println!("{:>9}.{:03}  {what}", at / 1000, at % 1000);
        }
    }

    /// Keeps the first violation: what follows is often only its consequence.
    pub(crate) fn violate(&mut self, violation: Violation) {
        if self.printed {
            println!("           !! {violation}");
        }
        self.violation.get_or_insert(violation);
    }

    pub(crate) const fn violation(&self) -> Option<&Violation> {
        self.violation.as_ref()
    }

    pub(crate) const fn hash(&self) -> u64 {
        self.hash
    }
}

impl fmt::Write for Trace {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        Ok(())
    }
}
