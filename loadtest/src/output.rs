//! Where a command writes: results to one stream, notes and warnings to another.

use std::io::{self, Write};

/// The two streams of a command; tests put buffers in their place.
pub struct Output<'a> {
    results: &'a mut dyn Write,
    notes: &'a mut dyn Write,
    is_quiet: bool,
}

impl std::fmt::Debug for Output<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Output").field("is_quiet", &self.is_quiet).finish_non_exhaustive()
    }
}

impl<'a> Output<'a> {
    /// `results` is standard output as a rule, `notes` standard error.
    pub fn new(results: &'a mut dyn Write, notes: &'a mut dyn Write) -> Self {
        Self { results, notes, is_quiet: false }
    }

    /// Leaves out notes from here on; warnings and results stay.
    pub(crate) fn be_quiet(&mut self) {
        self.is_quiet = true;
    }

    pub(crate) fn is_quiet(&self) -> bool {
        self.is_quiet
    }

    /// A line of the result.
    pub(crate) fn result(&mut self, line: &str) -> io::Result<()> {
        writeln!(self.results, "{line}")
    }

    /// A line on what goes on; left out when quiet.
    pub(crate) fn note(&mut self, line: &str) -> io::Result<()> {
        if self.is_quiet {
            return Ok(());
        }
        writeln!(self.notes, "{line}")
    }

    /// A line that changes how the result is to be read.
    pub(crate) fn warn(&mut self, line: &str) -> io::Result<()> {
        writeln!(self.notes, "warning: {line}")
    }
}
