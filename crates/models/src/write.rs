//! One write call for as much of a session's output as one call takes.

use std::io::{self, IoSlice, Write};
use std::net::TcpStream;

use switchboard_proto::Output;

/// Pieces of output that leave in one gathered write.
const SLICES: usize = 32;

/// Hands the kernel what it takes in one call, and forgets that much.
pub(crate) fn write_some(stream: &TcpStream, output: &mut Output) -> io::Result<()> {
    gather(output, |bytes| (&mut &*stream).write(bytes), |slices| (&mut &*stream).write_vectored(slices))
}

/// The same for any way to write: `write` for output that stands in one piece, `write_vectored` for several.
pub(crate) fn gather(
    output: &mut Output,
    write: impl FnOnce(&[u8]) -> io::Result<usize>,
    write_vectored: impl FnOnce(&[IoSlice<'_>]) -> io::Result<usize>,
) -> io::Result<()> {
    let written = match output.single() {
        Some(bytes) => write(bytes)?,
        None => {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let used = output.slices(&mut slices);
            write_vectored(&slices[..used])?
        }
    };
    output.consume(written);
    Ok(())
}
