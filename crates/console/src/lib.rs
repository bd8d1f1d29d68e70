//! What a command says to people and to other programs: log lines on stderr, results on stdout.
//!
//! `eprintln!` and `println!` end the process when they cannot write: the reader of a pipe has gone (`2>&1 | head -2`), a terminal was closed,
//! a disk is full. A server must outlive the reader of its log, and a measurement must not be lost with it. So `clippy.toml` forbids those macros,
//! and everything that this workspace prints goes through here:
//!
//! - [`log!`]: one line on stderr. A line that cannot be written is lost.
//! - [`Status`]: a line on stderr that the next one replaces, on terminals only.
//! - [`result`]: what the command was asked for, on stdout. That it cannot be written is an error; that its reader has gone is none.

use std::fmt::{Arguments, Display};
use std::io::{self, ErrorKind, IsTerminal, Write};

/// Writes one line to stderr, formatted as by `eprintln!`. A line that cannot be written is lost.
#[macro_export]
macro_rules! log {
    ($($format:tt)*) => {
        $crate::log_line(format_args!($($format)*))
    };
}

/// What [`log!`] calls.
pub fn log_line(text: Arguments<'_>) {
    // One write(2) for each line, so that lines of several processes do not mix.
    let _ = io::stderr().write_all(format!("{text}\n").as_bytes());
}

/// Writes a result to stdout, all of it before this returns. A reader that has seen enough and gone, such as `head`, is no failure.
///
/// # Errors
/// The system's, such as that of a full disk.
pub fn result(text: impl Display) -> io::Result<()> {
    write_result(&mut io::stdout().lock(), text)
}

fn write_result(output: &mut impl Write, text: impl Display) -> io::Result<()> {
    match write!(output, "{text}").and_then(|()| output.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome,
    }
}

/// A line on stderr that says where something is, until the next one replaces it. Elsewhere than on a terminal it says nothing: a file or a pipe
/// keeps every line, and the codes that replace one.
#[derive(Debug)]
pub struct Status {
    is_shown: bool,
}

impl Status {
    /// Nothing is said yet.
    #[must_use]
    pub fn new() -> Status {
        // A terminal that calls itself `dumb` prints control codes as they are.
        let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Status { is_shown: io::stderr().is_terminal() && !is_dumb }
    }

    /// Replaces the line. One that cannot be written is lost.
    pub fn show(&mut self, text: impl Display) {
        if self.is_shown {
            // Back to the first column, and erase the line (ECMA-48, EL).
            let _ = io::stderr().write_all(format!("\r\x1b[K{text}").as_bytes());
        }
    }
}

impl Default for Status {
    fn default() -> Status {
        Status::new()
    }
}

/// Takes the line away.
impl Drop for Status {
    fn drop(&mut self) {
        self.show("");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fails with this error, at once or when it is flushed.
    struct Broken(ErrorKind, bool);

    impl Write for Broken {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.1 { Ok(bytes.len()) } else { Err(self.0.into()) }
        }

        fn flush(&mut self) -> io::Result<()> {
            Err(self.0.into())
        }
    }

    #[test]
    fn a_result_that_cannot_be_written_is_an_error_and_a_reader_that_has_gone_is_none() {
        for buffers in [false, true] {
            let written = |kind| write_result(&mut Broken(kind, buffers), "result");
            assert_eq!(written(ErrorKind::StorageFull).unwrap_err().kind(), ErrorKind::StorageFull);
            assert!(written(ErrorKind::BrokenPipe).is_ok());
        }
    }
}
