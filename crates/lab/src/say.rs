//! What a run says beside its results, on stderr.
//!
//! A line that nobody can read any more (the reader of a pipe has gone, the disk under a log is full) is lost, and the run goes on:
//! `eprintln!` would end it and its results with it.

use std::fmt::Display;
use std::io::{self, Write};

use crate::text;

/// Writes a line, or several, to stderr if that is possible. Text of others in it cannot steer the terminal.
pub(crate) fn say(words: impl Display) {
    let words = words.to_string();
    let _ = writeln!(io::stderr().lock(), "{}", text::lines(&words));
}
