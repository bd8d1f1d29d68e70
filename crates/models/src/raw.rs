//! The ceiling: a plain TCP echo by edge-triggered epoll, without any protocol.
//!
//! Whatever arrives is written back, from the buffer it was read into. There is no session, no timer, no limit and no
//! answer to anybody; what a peer does not take at once is kept and written later. No server that speaks a protocol
//! over this loop can be cheaper, so the distance to it is the price of the protocol.
//!
//! With `--app broadcast` whatever arrives is written to every connection, one after the other: the bare loop over all sockets that no
//! broadcast by system calls of one socket each can be cheaper than.
//!
//! - Calls of one message: `epoll_wait` (shared by all that are ready), `recvfrom`, `sendto`; of a broadcast a `sendto` for each connection.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::sync::Arc;

use mio::net::{TcpListener, TcpStream};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token};
use slab::Slab;
use switchboard_proto::{App, PlainApp, Work};

use crate::{Family, Listener, Mechanism, Model, Shutdown, Tally, Workers};

/// The registry's entry.
pub const MODEL: Model = Model {
    name: "raw",
    family: Family::Told,
    after: Some("epoll"),
    about: "plain TCP echo by edge-triggered epoll, no protocol at all: the ceiling",
    waits_with: "epoll_wait(2)",
    runs_as: "1 process, 1 thread",
    calls: &["epoll_wait", "recvfrom", "sendto"],
    broadcast: "--app broadcast: a write to every connection",
    serves: &[Mechanism::Together, Mechanism::TcpEcho, Mechanism::TcpBroadcast],
    limits: &[
        "speaks no protocol: only `switchboard load tcp://…` understands it",
        "cannot refuse: at the descriptor limit new connections wait until another one ends",
    ],
    failure_ends: "the whole server",
    workers: Workers::None,
    reuses_port: false,
    busy_polls: true,
    hidden: true,
    source: include_str!("raw.rs"),
    obstacle: Model::no_obstacle,
    serve,
};

const LISTENER: Token = Token(usize::MAX);
const SHUTDOWN: Token = Token(usize::MAX - 1);

/// A connection, and what its peer has not taken yet.
struct Line {
    stream: TcpStream,
    unsent: Vec<u8>,
}

impl Line {
    /// Writes what was left, and behind it `bytes`, as far as the peer takes it.
    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.flush()?;
        let written = if self.unsent.is_empty() { write(&mut self.stream, bytes)? } else { 0 };
        self.unsent.extend_from_slice(&bytes[written..]);
        Ok(())
    }

    /// Writes what was left, as far as the peer takes it.
    fn flush(&mut self) -> io::Result<()> {
        if !self.unsent.is_empty() {
            let written = write(&mut self.stream, &self.unsent)?;
            self.unsent.drain(..written);
        }
        Ok(())
    }
}

fn serve(listener: Listener, app: Arc<App>, shutdown: Shutdown) -> io::Result<Tally> {
    let listener = listener.into_tcp()?;
    listener.set_nonblocking(true)?;
    let mut listener = TcpListener::from_std(listener);
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(1024);
    let mut lines = Slab::new();
    let mut scratch = vec![0; 64 << 10];
    let mut tally = Tally::default();
    // Connections that were held when the last one could not be accepted: who waits is looked at again when there are fewer.
    let mut full_at = None;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let stop = std::os::fd::AsFd::as_fd(&shutdown).as_raw_fd();
    poll.registry().register(&mut SourceFd(&stop), SHUTDOWN, Interest::READABLE)?;
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        let is_broadcast = app.plain == PlainApp::Broadcast;
        if is_broadcast {
            // Who is connected is a receiver, though the event that tells of it may stand behind the message.
            tally.connections += accept(&listener, &mut lines, poll.registry(), &mut full_at)?;
        }
        for event in &events {
            match event.token() {
                SHUTDOWN => return Ok(tally),
                LISTENER => {
                    tally.connections += accept(&listener, &mut lines, poll.registry(), &mut full_at)?
                }
                Token(key) if is_broadcast => tally.bytes += pass_on(&mut lines, key, &mut scratch),
                Token(key) => {
                    let Some(line) = lines.get_mut(key) else { continue };
                    let reads_short = event.is_read_closed() || event.is_priority();
                    match echo(line, &mut scratch, reads_short, app.work) {
                        Ok(bytes) => tally.bytes += bytes,
                        Err(_) => drop(lines.remove(key)),
                    }
                }
            }
        }
        if full_at.is_some_and(|full_at| lines.len() < full_at) {
            tally.connections += accept(&listener, &mut lines, poll.registry(), &mut full_at)?;
        }
    }
}

fn accept(
    listener: &TcpListener,
    lines: &mut Slab<Line>,
    registry: &Registry,
    full_at: &mut Option<usize>,
) -> io::Result<u64> {
    let mut accepted = 0;
    *full_at = None;
    loop {
        match listener.accept() {
            Ok((mut stream, _)) => {
                let entry = lines.vacant_entry();
                let token = Token(entry.key());
                registry.register(
                    &mut stream,
                    token,
                    Interest::READABLE | Interest::WRITABLE | Interest::PRIORITY,
                )?;
                entry.insert(Line { stream, unsent: Vec::new() });
                accepted += 1;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(accepted),
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
            // No descriptor left, most likely.
            Err(error) => {
                switchboard_console::log!("cannot accept: {error}");
                *full_at = Some(lines.len());
                return Ok(accepted);
            }
        }
    }
}

/// Reads what there is and writes it back; `reads_short`: a short read does not mean that there is no more (see `line.rs`). An error is the end of the connection.
fn echo(line: &mut Line, scratch: &mut [u8], reads_short: bool, work: Work) -> io::Result<u64> {
    let mut echoed = 0;
    line.flush()?;
    // Nothing is read while something is unsent; the event that says it can be written comes back here.
    while line.unsent.is_empty() {
        let read = match line.stream.read(scratch) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        };
        // There are no messages here; what was read at once is taken for one.
        work.perform();
        line.send(&scratch[..read])?;
        echoed += read as u64;
        if read < scratch.len() && !reads_short {
            break;
        }
    }
    Ok(echoed)
}

/// Reads what there is and writes it to every connection; returns the bytes that were read. One that has ended is forgotten.
fn pass_on(lines: &mut Slab<Line>, key: usize, scratch: &mut [u8]) -> u64 {
    let mut passed = 0;
    if lines.get_mut(key).is_some_and(|line| line.flush().is_err()) {
        drop(lines.remove(key));
    }
    while let Some(line) = lines.get_mut(key) {
        let read = match line.stream.read(scratch) {
            Ok(read @ 1..) => read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Ok(_) | Err(_) => {
                drop(lines.remove(key));
                break;
            }
        };
        lines.retain(|_, line| line.send(&scratch[..read]).is_ok());
        passed += read as u64;
    }
    passed
}

/// Writes as much as the peer takes.
fn write(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<usize> {
    let mut written = 0;
    while written < bytes.len() {
        match stream.write(&bytes[written..]) {
            Ok(n) => written += n,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    Ok(written)
}
