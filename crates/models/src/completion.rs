//! The loop over a ring, for `uring` and `uring-reactors`: what the roster's sessions want becomes operations, what is done goes to the sessions.
//!
//! Where a loop that is told who is *ready* reads and writes itself, this one only asks: receive on this connection, again and again, until
//! I say stop; send these bytes. An operation outlives the wish for it, so a connection that has ended stays until the kernel has
//! given up all that was begun for it.

use std::io;
use std::net::{Shutdown as Direction, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use io_uring::types::Fd;
use io_uring::{opcode, squeue};
use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use switchboard_proto::{App, Lent, Wants};

use crate::accept::{Acceptor, address_of};
use crate::buffers::GROUP;
use crate::crew::Crew;
use crate::readiness::{Heard, Key, earliest};
use crate::ring::{Done, Patience, Ring};
use crate::roster::{Piece, Roster};
use crate::{Shutdown, Tally};

/// Receive buffers of a ring. Small messages share one, as far as the kernel can do that; what is longer than what is left of one comes in pieces, so
/// that few large ones cut fewer messages.
const BUFFERS: u16 = 8;
const BUFFER_BYTES: usize = 128 << 10;

/// What the kernel looks after at the least when it is asked to: it may leave more for the next time (IO_LOCAL_TW_DEFAULT_MAX).
const AT_ONCE: usize = 20;

/// A connection's socket, and what was begun on it and is not done yet.
struct Socket {
    stream: TcpStream,
    is_receiving: bool,
    /// The receive is to end.
    is_cancelled: bool,
    /// What is being sent, in a box of its own, since a silent connection has nothing.
    sending: Option<Box<Lent>>,
    /// What is being sent is told only with what is done next, whatever that is.
    is_silent: bool,
    /// Nothing more can be done for this peer.
    is_broken: bool,
}

/// What an operation was for; with a key it makes the number by which its completion is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
enum Kind {
    Accept,
    Shutdown,
    Crew,
    Receive,
    Send,
    /// A send of what was published, of which only a failure is told.
    Spread,
    Cancel,
}

const KINDS: [Kind; 7] =
    [Kind::Accept, Kind::Shutdown, Kind::Crew, Kind::Receive, Kind::Send, Kind::Spread, Kind::Cancel];

fn number(kind: Kind, key: Key) -> u64 {
    (key as u64) << 3 | kind as u64
}

fn parse(number: u64) -> (Kind, Key) {
    (KINDS[(number & 7) as usize], (number >> 3) as Key)
}

/// A ring that has room for what connections receive. It serves on the thread that makes it.
pub(crate) fn ring() -> io::Result<Ring> {
    Ring::new(BUFFERS, BUFFER_BYTES)
}

/// Serves with one ring on the thread that calls this.
pub(crate) fn serve(
    ring: Ring,
    listener: TcpListener,
    app: &Arc<App>,
    shutdown: &Shutdown,
    crew: Crew,
) -> io::Result<Tally> {
    let mut acceptor = Acceptor::new(listener, app, None)?;
    acceptor.share(crew.seat.clone());
    // The kernel does not wait on behalf of a descriptor that says of itself that it never waits.
    let listening = acceptor.as_fd().as_raw_fd();
    socket2::SockRef::from(&acceptor).set_nonblocking(false)?;
    let mut server = Loop {
        ring,
        roster: Roster::new(app, crew),
        app: app.clone(),
        spread: Vec::new(),
        is_short_of_buffers: false,
    };
    server.poll(Kind::Shutdown, shutdown.as_fd().as_raw_fd(), false)?;
    server.watch_crew()?;
    let mut is_accepting = false;
    let mut is_stopping = false;
    let mut done = Vec::new();
    let mut heard = Heard::default();
    while !is_stopping {
        if !is_accepting && !acceptor.is_resting() {
            server.push(
                opcode::AcceptMulti::new(Fd(listening)).flags(libc::SOCK_CLOEXEC).build(),
                Kind::Accept,
                0,
            )?;
            is_accepting = true;
        }
        let due = earliest(acceptor.poll_timeout(), server.roster.poll_timeout());
        let asked = due.map(|_| Instant::now());
        let timeout = due.zip(asked).map(|(due, asked)| due.saturating_duration_since(asked));
        let (now, is_all) = server.wait(timeout, app.busy_poll, &mut done)?;
        let mut is_called = false;
        for done in done.drain(..) {
            match parse(done.number) {
                (Kind::Accept, _) => {
                    is_accepting &= done.has_more();
                    match accepted(&done) {
                        Ok(stream) => server.take_in(acceptor.admit(stream, server.roster.len(), now), now),
                        Err(error) => acceptor.failed(&error, now),
                    }
                }
                (Kind::Shutdown, _) => is_stopping = true,
                (Kind::Crew, _) => {
                    is_called = true;
                    if !done.has_more() {
                        server.watch_crew()?;
                    }
                }
                (kind, key) => server.handle(kind, key, &done, now)?,
            }
        }
        acceptor.tend(now);
        if std::mem::take(&mut server.is_short_of_buffers) {
            // What found none is still to come.
            heard = Heard::default();
        }
        let read = asked.and_then(|asked| heard.looked(asked, is_all, AT_ONCE, 2 * server.roster.len()));
        server.turn(is_called, now, read, &mut done)?;
    }
    server.cancel(Kind::Accept, 0)?;
    let refused = acceptor.refused;
    drop(acceptor);
    server.say_goodbye(app, done)?;
    let tally = server.roster.tally();
    Ok(Tally { refused: tally.refused + refused, ..tally })
}

/// The connection that an accept brought.
fn accepted(done: &Done) -> io::Result<TcpStream> {
    match done.result {
        // SAFETY: the kernel made this descriptor for us just now, and nobody else knows of it.
        fd @ 0.. => Ok(unsafe { TcpStream::from_raw_fd(fd) }),
        error => Err(io::Error::from_raw_os_error(-error)),
    }
}

struct Loop {
    // Dropped first: the kernel gives up what was begun before the sockets and what is being sent are gone.
    ring: Ring,
    roster: Roster<Socket>,
    app: Arc<App>,
    /// What was published last.
    spread: Vec<Piece>,
    /// In this turn something has come for which there was no buffer.
    is_short_of_buffers: bool,
}

impl Loop {
    /// Waits until something is done, if nothing is in `done` already, and looks after those who did not take all that was published. True: nothing was
    /// done, though the kernel had looked everywhere.
    fn wait(
        &mut self,
        timeout: Option<Duration>,
        busy_poll: Duration,
        done: &mut Vec<Done>,
    ) -> io::Result<(Instant, bool)> {
        let timeout = if done.is_empty() { timeout } else { Some(Duration::ZERO) };
        let has_looked = self.ring.wait(timeout, busy_poll)?;
        self.ring.done(done);
        let is_all = has_looked && done.is_empty();
        self.mend(done);
        Ok((Instant::now(), is_all))
    }

    /// Looks after those who did not take all that was published, before anything else is said to them.
    fn mend(&mut self, done: &mut Vec<Done>) {
        for done in done.iter() {
            if let (Kind::Spread, key) = parse(done.number)
                && let Some(member) = self.roster.get(key)
            {
                let piece = self.spread.iter().find(|piece| piece.is_for(&member.session));
                match (usize::try_from(done.result), piece) {
                    (Ok(written), Some(piece)) => member.session.output().begun(piece.bytes(), written),
                    (Err(_), Some(piece)) if is_passing(done.result) => {
                        member.session.output().begun(piece.bytes(), 0);
                    }
                    _ => member.socket.is_broken = true,
                }
                self.roster.touch(key);
            }
        }
        done.retain(|done| parse(done.number).0 != Kind::Spread);
    }

    fn take_in(&mut self, stream: Option<TcpStream>, now: Instant) {
        if let Some(stream) = stream {
            let address = address_of(&stream, &self.app);
            let socket = Socket {
                stream,
                is_receiving: false,
                is_cancelled: false,
                sending: None,
                is_silent: false,
                is_broken: false,
            };
            self.roster.insert(socket, address, now);
        }
    }

    /// Gives to a session what was done for it.
    fn handle(&mut self, kind: Kind, key: Key, done: &Done, now: Instant) -> io::Result<()> {
        let Some(member) = self.roster.get(key) else { return Ok(()) };
        let (socket, session) = (&mut member.socket, &mut member.session);
        let result = done.result;
        socket.is_silent &= kind != Kind::Send;
        match kind {
            Kind::Receive => {
                if !done.has_more() {
                    socket.is_receiving = false;
                    socket.is_cancelled = false;
                }
                let received = self.ring.received(done, |bytes| session.receive(bytes, now));
                match (received, result) {
                    (Some(()), 1..) => {}
                    (_, 0) => session.receive_eof(now),
                    // It found no buffer, or was told to stop; it is begun again when the session wants to read.
                    (_, error) if is_passing(error) => self.is_short_of_buffers |= error == -libc::ENOBUFS,
                    _ => socket.is_broken = true,
                }
                self.roster.handle_events(key, now);
            }
            Kind::Send => match usize::try_from(result) {
                Ok(sent) => {
                    session.output().returned(sent);
                    if let Some(lent) = socket.sending.take_if(|lent| !lent.consume(sent)) {
                        drop(lent);
                    } else {
                        session.output().stalled();
                        return self.send(key, Patience::Waits);
                    }
                }
                // The peer does not read as fast as it asks.
                Err(_) if result == -libc::EAGAIN => {
                    session.output().stalled();
                    return self.send(key, Patience::Waits);
                }
                Err(_) => {
                    socket.sending = None;
                    socket.is_broken = true;
                }
            },
            _ => return Ok(()),
        }
        self.roster.touch(key);
        Ok(())
    }

    /// Does what is due at the end of a turn. `heard`: as [`Roster::expire_exchange`] has it.
    fn turn(
        &mut self,
        is_called: bool,
        now: Instant,
        heard: Option<Instant>,
        done: &mut Vec<Done>,
    ) -> io::Result<()> {
        self.roster.receive_published(is_called, now);
        self.expire(now, heard);
        loop {
            // Before the others are settled: a send of which no completion will tell must be the last of what there is to say.
            self.spread(now, done)?;
            self.roster.handle_asked(now);
            while let Some(key) = self.roster.next_touched() {
                self.settle(key)?;
            }
            // A long poll that has been answered may have another request behind it, and so on.
            self.roster.receive_published(false, now);
            if self.roster.is_settled() {
                return Ok(());
            }
        }
    }

    /// Does what is due, but leaves alone whoever has sent something that the ring has not brought yet, or has made room for what is to be sent: that
    /// comes first, however late this loop is.
    fn expire(&mut self, now: Instant, heard: Option<Instant>) {
        let mut moving = Vec::new();
        while let Some(key) = self.roster.next_due(now) {
            match self.roster.get(key) {
                Some(member) if member.is_due(now) && is_moving(&member.socket, member.session.wants()) => {
                    moving.push(key);
                }
                _ => self.roster.time_out(key, now),
            }
        }
        moving.into_iter().for_each(|key| self.roster.note_deadline(key));
        self.roster.expire_exchange(now, heard);
    }

    /// Sends what was published to all who have nothing else to wait for, by one call for all of them.
    fn spread(&mut self, now: Instant, done: &mut Vec<Done>) -> io::Result<()> {
        let Loop { ring, roster, .. } = self;
        let mut result = Ok(());
        let pieces = roster.spread(now, |key, socket, _, piece| {
            let fd = socket.stream.as_raw_fd();
            if result.is_ok() {
                // SAFETY: the piece is kept until it is handed over, below. If that fails nothing more is ever handed over.
                result = unsafe { ring.send_at_once(fd, piece, number(Kind::Spread, key)) };
            }
            true
        });
        result?;
        if !pieces.is_empty() {
            self.spread = pieces;
            self.ring.hand_over(done)?;
            self.ring.done(done);
            self.mend(done);
        }
        Ok(())
    }

    /// Begins what a session wants now.
    fn settle(&mut self, key: Key) -> io::Result<()> {
        let Some(member) = self.roster.get(key) else { return Ok(()) };
        let (socket, session) = (&mut member.socket, &mut member.session);
        if socket.sending.is_none() && !socket.is_broken {
            socket.sending = session.output().lend().map(Box::new);
            if let Some(lent) = &socket.sending {
                let is_all = lent.as_slice().len() == session.output().len() && session.only_listens();
                socket.is_silent = is_all;
                self.send(key, if is_all { Patience::None } else { Patience::Waits })?;
                return self.settle(key);
            }
        }
        let sending_bytes = socket.sending.as_ref().map_or(0, |lent| lent.as_slice().len());
        if socket.is_silent && session.output().len() > sending_bytes {
            // In the same turn there came more to say: nothing at all is done next, and the send told with it.
            socket.is_silent = false;
            self.push(opcode::Nop::new().build(), Kind::Cancel, key)?;
            return self.settle(key);
        }
        if session.poll_finish() {
            // It fails when the peer is gone, and then the next receive says so.
            let _ = socket.stream.shutdown(Direction::Write);
        }
        let wants = session.wants();
        let has_ended = socket.is_broken || session.is_over();
        let (is_receiving, is_cancelled) = (socket.is_receiving, socket.is_cancelled);
        if has_ended && !is_receiving && socket.sending.is_none() {
            drop(self.roster.remove(key));
            return Ok(());
        }
        if is_receiving && !is_cancelled && (has_ended || !wants.read) {
            socket.is_cancelled = true;
            self.cancel(Kind::Receive, key)?;
        } else if !is_receiving && wants.read && !has_ended {
            let fd = Fd(socket.stream.as_raw_fd());
            socket.is_receiving = true;
            self.push(opcode::RecvMulti::new(fd, GROUP).build(), Kind::Receive, key)?;
        }
        if has_ended && self.roster.get(key).is_some_and(|member| member.socket.sending.is_some()) {
            self.cancel(Kind::Send, key)?;
        }
        self.roster.note_deadline(key);
        Ok(())
    }

    /// Begins to send what was lent.
    fn send(&mut self, key: Key, patience: Patience) -> io::Result<()> {
        let Some(member) = self.roster.get(key) else { return Ok(()) };
        let Some(lent) = &member.socket.sending else { return Ok(()) };
        let fd = member.socket.stream.as_raw_fd();
        // SAFETY: as in `push`.
        unsafe { self.ring.send(fd, lent.as_slice(), number(Kind::Send, key), patience) }
    }

    fn cancel(&mut self, kind: Kind, key: Key) -> io::Result<()> {
        self.push(opcode::AsyncCancel::new(number(kind, key)).build(), Kind::Cancel, key)
    }

    fn watch_crew(&mut self) -> io::Result<()> {
        match self.roster.elsewhere().map(|elsewhere| elsewhere.as_fd().as_raw_fd()) {
            Some(fd) => self.poll(Kind::Crew, fd, true),
            None => Ok(()),
        }
    }

    fn poll(&mut self, kind: Kind, fd: RawFd, is_repeated: bool) -> io::Result<()> {
        let poll = opcode::PollAdd::new(Fd(fd), libc::POLLIN as u32).multi(is_repeated);
        self.push(poll.build(), kind, 0)
    }

    fn push(&mut self, entry: squeue::Entry, kind: Kind, key: Key) -> io::Result<()> {
        // SAFETY: descriptors are kept open and what is sent is kept in `sending` until the completion has come; a `Lent` stays where
        // it is in memory though the roster may move it. If the loop ends before that, the ring is dropped before the roster.
        unsafe { self.ring.push(entry, number(kind, key)) }
    }

    /// Delivers all that was published, closes every WebSocket with 1001 and waits for the answers, as long as the grace lasts.
    fn say_goodbye(&mut self, app: &App, mut done: Vec<Done>) -> io::Result<()> {
        // Who did not take all that was published last has to get the rest of it before the goodbye.
        let (mut now, _) = self.wait(Some(Duration::ZERO), Duration::ZERO, &mut done)?;
        let patience = now + app.grace;
        // The rings that share an exchange are threads: what was published is here at once.
        self.roster.stop_publishing(now);
        self.turn(false, now, None, &mut done)?;
        (now, _) = self.wait(Some(Duration::ZERO), Duration::ZERO, &mut done)?;
        self.roster.close_all(now);
        self.turn(false, now, None, &mut done)?;
        while self.roster.len() > 0 && now < patience {
            let due = earliest(Some(patience), self.roster.poll_timeout());
            let timeout = due.map(|due| due.saturating_duration_since(now));
            let asked = now;
            let is_all;
            (now, is_all) = self.wait(timeout, app.busy_poll, &mut done)?;
            let mut is_called = false;
            for done in done.drain(..) {
                match parse(done.number) {
                    // It came too late, and is closed by being dropped.
                    (Kind::Accept, _) => drop(accepted(&done)),
                    (Kind::Crew, _) => {
                        is_called = true;
                        if !done.has_more() {
                            self.watch_crew()?;
                        }
                    }
                    (kind, key) => self.handle(kind, key, &done, now)?,
                }
            }
            self.turn(is_called, now, is_all.then_some(asked), &mut done)?;
        }
        self.roster.hang_up();
        Ok(())
    }
}

/// Whether there is something to be received or room to send, as far as that is wanted, though the ring has not said so yet.
fn is_moving(socket: &Socket, wants: Wants) -> bool {
    let mut events = PollFlags::empty();
    events.set(PollFlags::POLLIN, wants.read && !socket.is_broken);
    events.set(PollFlags::POLLOUT, socket.sending.is_some() && !socket.is_broken);
    let mut fds = [PollFd::new(socket.stream.as_fd(), events)];
    poll(&mut fds, PollTimeout::ZERO).is_ok()
        && fds[0].revents().is_some_and(|revents| revents.intersects(events))
}

fn is_passing(result: i32) -> bool {
    matches!(Errno::from_raw(-result), Errno::ENOBUFS | Errno::ECANCELED | Errno::EINTR | Errno::EAGAIN)
}
