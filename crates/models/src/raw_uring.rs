//! The ceiling of the rings: a plain TCP echo by io_uring, without any protocol.
//!
//! As `raw`, over a ring: whatever arrives is sent back. No server that speaks a protocol over this loop can be cheaper.
//!
//! - Calls of one message: `io_uring_enter`, shared by all that is done and to be done at the time.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use io_uring::types::Fd;
use io_uring::{opcode, squeue};
use nix::libc;
use slab::Slab;
use switchboard_proto::App;

use crate::buffers::GROUP;
use crate::ring::{self, Done, Patience, Ring};
use crate::{Family, Listener, Mechanism, Model, Shutdown, Tally, Workers, completion};

/// The registry's entry.
pub const MODEL: Model = Model {
    name: "raw-uring",
    family: Family::Completion,
    after: Some("raw"),
    about: "plain TCP echo by io_uring, no protocol at all: the ceiling",
    waits_with: "io_uring_enter(2)",
    runs_as: "1 process, 1 thread",
    calls: &["io_uring_enter"],
    broadcast: "nothing: it has none",
    serves: &[Mechanism::Together, Mechanism::TcpEcho],
    limits: &[
        "speaks no protocol: only `switchboard load tcp://…` understands it",
        "cannot refuse: at the descriptor limit new connections wait until another one ends",
    ],
    failure_ends: "the whole server",
    workers: Workers::None,
    reuses_port: false,
    busy_polls: true,
    hidden: true,
    source: include_str!("raw_uring.rs"),
    obstacle: ring::obstacle,
    serve,
};

const LISTENER: u64 = 1 << 60;
const SHUTDOWN: u64 = LISTENER + 1;
const CANCEL: u64 = LISTENER + 2;
/// Set in the number of a send; the rest is the connection's key.
const SEND: u64 = 1 << 61;

/// Unsent bytes above which nothing more is received.
const HIGH_WATER_BYTES: usize = 1 << 20;

/// A connection, what is being sent, and what is to be sent after that.
struct Line {
    fd: OwnedFd,
    sending: Vec<u8>,
    sent: usize,
    unsent: Vec<u8>,
    is_receiving: bool,
    is_cancelled: bool,
    has_ended: bool,
}

struct Server {
    // Dropped first: the kernel gives up what was begun before the lines are gone.
    ring: Ring,
    lines: Slab<Line>,
    /// Connections to be looked after when all that is done has been taken note of.
    touched: Vec<usize>,
}

fn serve(listener: Listener, app: Arc<App>, shutdown: Shutdown) -> io::Result<Tally> {
    let listener = listener.into_tcp()?;
    let mut server = Server { ring: completion::ring()?, lines: Slab::new(), touched: Vec::new() };
    let stop = opcode::PollAdd::new(Fd(shutdown.as_fd().as_raw_fd()), libc::POLLIN as u32).build();
    server.push(stop, SHUTDOWN)?;
    let accept = || opcode::AcceptMulti::new(Fd(listener.as_raw_fd())).flags(libc::SOCK_CLOEXEC).build();
    server.push(accept(), LISTENER)?;
    let mut tally = Tally::default();
    let mut done = Vec::new();
    let mut retry = None;
    loop {
        server.ring.wait(retry, app.busy_poll)?;
        server.ring.done(&mut done);
        if retry.take().is_some() {
            server.push(accept(), LISTENER)?;
        }
        for done in done.drain(..) {
            match done.number {
                SHUTDOWN => return Ok(tally),
                CANCEL => {}
                LISTENER => {
                    if done.result >= 0 {
                        tally.connections += 1;
                        // SAFETY: the kernel made this descriptor for us just now, and nobody else knows of it.
                        server.begin(unsafe { OwnedFd::from_raw_fd(done.result) })?;
                    }
                    if !done.has_more() {
                        // No descriptor left, most likely: those who wait are looked at again in a while.
                        retry = Some(Duration::from_millis(20));
                    }
                }
                number if number & SEND != 0 => server.sent((number & !SEND) as usize, done.result)?,
                key => tally.bytes += server.received(key as usize, &done, &app),
            }
        }
        server.settle_touched()?;
    }
}

impl Server {
    fn begin(&mut self, fd: OwnedFd) -> io::Result<()> {
        let key = self.lines.insert(Line {
            fd,
            sending: Vec::new(),
            sent: 0,
            unsent: Vec::new(),
            is_receiving: false,
            is_cancelled: false,
            has_ended: false,
        });
        self.settle(key)
    }

    fn received(&mut self, key: usize, done: &Done, app: &App) -> u64 {
        let line = &mut self.lines[key];
        if !done.has_more() {
            line.is_receiving = false;
            line.is_cancelled = false;
        }
        self.ring.received(done, |bytes| line.unsent.extend_from_slice(bytes));
        let bytes = u64::try_from(done.result).unwrap_or(0);
        if bytes > 0 {
            // There are no messages here; what was received at once is taken for one.
            app.work.perform();
        }
        let passing = [-libc::ENOBUFS, -libc::ECANCELED, -libc::EINTR, -libc::EAGAIN];
        line.has_ended |= bytes == 0 && !passing.contains(&done.result);
        self.touched.push(key);
        bytes
    }

    fn sent(&mut self, key: usize, result: i32) -> io::Result<()> {
        let line = &mut self.lines[key];
        match usize::try_from(result) {
            Ok(sent) => line.sent += sent,
            Err(_) if result == -libc::EAGAIN => {}
            Err(_) => {
                line.has_ended = true;
                line.unsent.clear();
                line.sent = line.sending.len();
            }
        }
        if line.sent == line.sending.len() {
            line.sending.clear();
            line.sent = 0;
        } else {
            // The peer does not read as fast as it writes: this one waits until it does.
            self.send(key, Patience::Waits)?;
        }
        self.touched.push(key);
        Ok(())
    }

    fn settle_touched(&mut self) -> io::Result<()> {
        while let Some(key) = self.touched.pop() {
            self.settle(key)?;
        }
        Ok(())
    }

    /// Begins what is to be done next for a connection, or ends it.
    fn settle(&mut self, key: usize) -> io::Result<()> {
        let Some(line) = self.lines.get_mut(key) else { return Ok(()) };
        let (fd, is_sending) = (Fd(line.fd.as_raw_fd()), !line.sending.is_empty());
        if !is_sending && !line.unsent.is_empty() {
            std::mem::swap(&mut line.sending, &mut line.unsent);
            // One that has sent its last is ended when this is sent, and that must be known.
            let patience = if line.has_ended { Patience::Waits } else { Patience::None };
            return self.send(key, patience).and_then(|()| self.settle(key));
        }
        let may_receive = !line.has_ended && line.unsent.len() <= HIGH_WATER_BYTES;
        if line.has_ended && !line.is_receiving && !is_sending {
            drop(self.lines.remove(key));
        } else if may_receive && !line.is_receiving {
            line.is_receiving = true;
            self.push(opcode::RecvMulti::new(fd, GROUP).build(), key as u64)?;
        } else if !may_receive && line.is_receiving && !line.is_cancelled {
            line.is_cancelled = true;
            self.push(opcode::AsyncCancel::new(key as u64).build(), CANCEL)?;
        }
        Ok(())
    }

    fn send(&mut self, key: usize, patience: Patience) -> io::Result<()> {
        let line = &self.lines[key];
        let bytes = &line.sending[line.sent..];
        let fd = line.fd.as_raw_fd();
        // SAFETY: as in `push`.
        unsafe { self.ring.send(fd, bytes, SEND | key as u64, patience) }
    }

    fn push(&mut self, entry: squeue::Entry, number: u64) -> io::Result<()> {
        // SAFETY: a line and the bytes in `sending` stay until its operations are done; the heap that they are in does not move. If the
        // server ends before that, the ring is dropped before the lines.
        unsafe { self.ring.push(entry, number) }
    }
}
