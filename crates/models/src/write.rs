//! One write call for as much of a session's output as one call takes.

use std::io::{self, IoSlice, Write};
use std::net::TcpStream;

use switchboard_proto::Output;

/// Pieces of output that leave in one gathered write.
const SLICES: usize = 32;

/// Hands the kernel what it takes in one call, and forgets that much.
pub(crate) fn write_some(mut stream: &TcpStream, output: &mut Output) -> io::Result<()> {
    let written = match output.single() {
        Some(bytes) => stream.write(bytes)?,
        None => {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let used = output.slices(&mut slices);
            stream.write_vectored(&slices[..used])?
        }
    };
    output.consume(written);
    Ok(())
}
