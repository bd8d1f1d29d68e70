//! One connection served by blocking calls: what `fork` and `threads` have in common.
//!
//! A blocking read cannot wait for a timer, so the socket gets a read timeout (SO_RCVTIMEO) that ends before the
//! session's next deadline. A blocking write cannot notice that the connection has become hopeless, so it gets a
//! write timeout and looks up now and then.

use std::io::{self, ErrorKind, Read};
use std::net::{Shutdown as Direction, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crossbeam::channel::Receiver;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, recv, send};
use switchboard_proto::{App, CloseReason, Counts, Effect, LINGER, Lookout, Request, Session};

use crate::accept::address_of;
use crate::limits::Limit;
use crate::write::write_some;

/// Each connection has a read buffer of its own here; pages that are never read into cost nothing.
const SCRATCH_BYTES: usize = 16 << 10;

/// How long a blocked write goes on before it looks up.
const WRITE_SLICE: Duration = Duration::from_millis(250);

/// One connection. Several threads may write to it, one at a time; one reads.
pub(crate) struct Line {
    stream: TcpStream,
    session: Mutex<Session>,
    /// Held while what the session asks is passed on, so that two threads do not change the order.
    asking: Mutex<()>,
    /// Whether the reader waits for another thread to bring what it has asked for, before it reads on.
    is_waiting: AtomicBool,
    has_changed: Condvar,
}

/// A line's way to the exchange.
pub(crate) trait Way {
    /// Passes on what the session asks. The answer may be given to the line before this returns, or by another thread later.
    fn ask(&self, request: Request);

    /// Whether so much is on its way back to this connection that no more should be read from it: a client that says more than it reads
    /// is held, or it would be closed for being behind with its own words.
    fn is_behind(&self) -> bool {
        false
    }

    /// Whether the server is to stop. Asked when a signal interrupts a call.
    fn is_stopping(&self) -> bool {
        false
    }
}

impl Line {
    pub(crate) fn new(stream: TcpStream, app: &Arc<App>) -> io::Result<Line> {
        stream.set_nonblocking(false)?;
        stream.set_write_timeout(Some(WRITE_SLICE))?;
        let now = Instant::now();
        let mut session = Session::server(app, now);
        address_of(&stream, app).into_iter().for_each(|address| session.came_from(address, now));
        let session = Mutex::new(session);
        let (is_waiting, has_changed) = (AtomicBool::new(false), Condvar::new());
        Ok(Line { stream, session, asking: Mutex::new(()), is_waiting, has_changed })
    }

    /// Gives the socket back, for an answer by somebody else.
    pub(crate) fn into_stream(self) -> TcpStream {
        self.stream
    }

    /// What the session counted.
    pub(crate) fn counts(&self) -> Counts {
        self.session().counts()
    }

    /// Serves the connection to its end.
    pub(crate) fn serve(&self, way: &impl Way) {
        let mut scratch = vec![0; SCRATCH_BYTES];
        let mut read_timeout = None;
        while self.flush(|| way.is_stopping().then_some(CloseReason::GoingAway)).is_ok() {
            let (deadline, reads) = {
                let session = self.session();
                if session.is_over() {
                    break;
                }
                (session.poll_timeout(), session.wants().read)
            };
            let is_behind = way.is_behind();
            if !reads || is_behind {
                // No call is interrupted that does not read.
                if is_behind && way.is_stopping() {
                    self.session().close(CloseReason::GoingAway, Instant::now());
                }
                // Something may be due all the same: what came before waits only for room.
                match deadline.is_some_and(|due| due <= Instant::now()) {
                    true => {
                        self.session().handle_timeout(Instant::now());
                        self.pass_on(way);
                    }
                    false => self.wait_for_change(way),
                }
                continue;
            }
            if self.set_read_timeout(deadline, &mut read_timeout).is_err() {
                break;
            }
            let read = (&self.stream).read(&mut scratch);
            let now = Instant::now();
            let mut session = self.session();
            match read {
                Ok(0) => session.receive_eof(now),
                Ok(n) => session.receive(&mut scratch[..n], now),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if self.expire_unless_heard(&mut session, &mut scratch, now).is_err() {
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {
                    if way.is_stopping() {
                        session.close(CloseReason::GoingAway, now);
                    }
                }
                Err(_) => break,
            }
            drop(session);
            self.pass_on(way);
        }
        let farewell = self.session().poll_farewell();
        farewell.into_iter().for_each(|farewell| way.ask(farewell));
    }

    /// Does what is due at `now`, unless something has come meanwhile: this process may have been stopped since the read gave up.
    fn expire_unless_heard(&self, session: &mut Session, scratch: &mut [u8], now: Instant) -> io::Result<()> {
        match recv(self.stream.as_raw_fd(), scratch, MsgFlags::MSG_DONTWAIT) {
            Ok(0) => session.receive_eof(now),
            Ok(n) => session.receive(&mut scratch[..n], now),
            Err(Errno::EAGAIN | Errno::EINTR) => session.handle_timeout(now),
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Passes on what the session asks. Not while it is locked: the answer goes to the session, and what is published to others.
    pub(crate) fn pass_on(&self, way: &impl Way) {
        let _asking = self.asking.lock().expect("no thread panics while it asks");
        loop {
            let Some(request) = self.session().poll_event() else { return };
            way.ask(request);
        }
    }

    /// Waits while nothing is to be read: what the session has asked for is on its way. Not for ever, since a signal interrupts no such wait.
    fn wait_for_change(&self, way: &impl Way) {
        let session = self.session();
        let wants = session.wants();
        // What is to be written is written first, whoever has brought it.
        if (!wants.read || way.is_behind()) && !wants.write && !session.is_over() {
            self.is_waiting.store(true, Ordering::Relaxed);
            let waited = self.has_changed.wait_timeout(session, WRITE_SLICE);
            drop(waited.expect("no thread panics while it holds a session"));
            self.is_waiting.store(false, Ordering::Relaxed);
        }
    }

    /// To be called with the session that was changed by another thread than the reader.
    fn note_change(&self, _session: &Session) {
        if self.is_waiting.load(Ordering::Relaxed) {
            self.has_changed.notify_one();
        }
    }

    /// Takes what the exchange has for this line.
    pub(crate) fn take(&self, effect: Effect) {
        let now = Instant::now();
        let mut session = self.session();
        match effect {
            Effect::Publish(message) => session.deliver(&message, now),
            Effect::Reply(_, reply) => session.reply(reply, now),
        }
        self.note_change(&session);
    }

    /// When [`expire`](Line::expire) has something to do.
    pub(crate) fn poll_timeout(&self, lookout: &Lookout) -> Option<Instant> {
        let session = self.session();
        match lookout.poll_timeout() {
            Some(pause) if !session.has_room() => Some(pause),
            _ => session.poll_timeout(),
        }
    }

    /// Does what is due, on behalf of the reader, which may be blocked for longer than that; but lets it read first what has come in time.
    pub(crate) fn expire(&self, lookout: &mut Lookout) {
        let now = Instant::now();
        let mut session = self.session();
        if session.has_room() {
            return session.use_room(now);
        }
        let overdue = session.poll_timeout().filter(|due| *due <= now);
        if let Some(heard) = lookout.judge(overdue, now)
            && !self.has_unread()
        {
            session.handle_timeout(heard);
        }
    }

    /// Whether something lies in the socket that the reader will take.
    fn has_unread(&self) -> bool {
        let mut fds = [PollFd::new(self.stream.as_fd(), PollFlags::POLLIN)];
        matches!(poll(&mut fds, PollTimeout::ZERO), Ok(1..))
    }

    /// Lets the reader go if nothing is left to be read.
    pub(crate) fn end_if_over(&self) {
        self.end_session_if_over(&self.session());
    }

    /// Writes until nothing is left or the session gives up. `hopeless` is asked whenever a write had to wait
    /// for long, or was interrupted: its answer closes the session.
    pub(crate) fn flush(&self, hopeless: impl Fn() -> Option<CloseReason>) -> io::Result<()> {
        // When the write began that had to wait.
        let mut blocked_since = None;
        loop {
            let mut session = self.session();
            if session.poll_finish() {
                self.stream.shutdown(Direction::Write)?;
            }
            // Written while it is locked, or two threads' frames would mix.
            if !session.wants().write {
                return Ok(());
            }
            match write_some(&self.stream, session.output()) {
                Ok(()) => blocked_since = None,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                    let now = Instant::now();
                    // Up to when it began, the peer had taken all that it would: after a stop it may have taken more than was ever tried.
                    if error.kind() == ErrorKind::WouldBlock {
                        session.output().stalled();
                        let began = blocked_since.replace(now);
                        began.into_iter().for_each(|began| session.handle_timeout(began));
                    }
                    if let Some(reason) = hopeless() {
                        session.close(reason, now);
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Begins to close. What is to be written for that is left to the thread that calls this.
    pub(crate) fn close(&self, reason: CloseReason) {
        let mut session = self.session();
        session.close(reason, Instant::now());
        self.note_change(&session);
    }

    /// Begins to close, without waiting for the line or for its peer. False: somebody is writing, or asks something whose answer is to come
    /// first; try again.
    pub(crate) fn try_close(&self, reason: CloseReason) -> bool {
        let Ok(_asking) = self.asking.try_lock() else { return false };
        let Ok(mut session) = self.session.try_lock() else { return false };
        session.close(reason, Instant::now());
        let output = session.output();
        if let Some(bytes) = output.single()
            && let Ok(n) =
                send(self.stream.as_raw_fd(), bytes, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL)
        {
            output.consume(n);
        }
        if session.poll_finish() {
            // The reader, blocked as it is, hears of it when the peer ends in turn.
            let _ = self.stream.shutdown(Direction::Write);
        }
        self.end_session_if_over(&session);
        true
    }

    /// Does what is due on a line whose reader may be blocked for longer than that.
    pub(crate) fn tend(&self, now: Instant) {
        if let Ok(mut session) = self.session.try_lock() {
            session.handle_timeout(now);
            self.end_session_if_over(&session);
        }
    }

    fn end_session_if_over(&self, session: &Session) {
        if session.is_over() {
            self.hang_up();
        }
        self.note_change(session);
    }

    /// Closes because the peer is too slow, and gives it a while to take that in. `ended` is disconnected when
    /// the reader of this line returns.
    pub(crate) fn close_slow(&self, ended: &Receiver<()>) {
        self.session().close(CloseReason::TooSlow, Instant::now());
        if self.flush(|| None).is_ok() {
            let _ = ended.recv_timeout(LINGER);
        }
        self.hang_up();
    }

    /// Answers a subscription with a refusal, because no writer can be had for it.
    pub(crate) fn refuse(&self, limit: Limit) {
        let sentence = limit.sentence(self.stream.as_raw_fd());
        self.session().refuse(limit.word(), &sentence, Instant::now());
    }

    /// Ends both directions: whoever is blocked on this line returns.
    pub(crate) fn hang_up(&self) {
        // It fails when the peer has ended it already.
        let _ = self.stream.shutdown(Direction::Both);
    }

    fn session(&self) -> MutexGuard<'_, Session> {
        self.session.lock().expect("no thread panics while it holds a session")
    }

    /// Lets reads end before `deadline`, and changes the socket only where it must: a deadline that moves back
    /// with every message would cost a system call a message, so a timeout that is a little late is kept.
    fn set_read_timeout(&self, deadline: Option<Instant>, current: &mut Option<Duration>) -> io::Result<()> {
        let left =
            deadline.map(|due| due.saturating_duration_since(Instant::now()).max(Duration::from_millis(1)));
        let is_right = match (*current, left) {
            (None, None) => true,
            (Some(current), Some(left)) => current <= left + left / 16,
            _ => false,
        };
        if !is_right {
            self.stream.set_read_timeout(left)?;
            *current = left;
        }
        Ok(())
    }
}
