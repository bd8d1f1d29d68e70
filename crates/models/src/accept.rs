//! Taking connections from the listener, and refusing those that a limit forbids with an answer.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown as Direction, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use switchboard_proto::{Address, App, LINGER, http};

use crate::crew::Seat;
use crate::limits::{Limit, RepeatedLog, descriptor_ceiling, refusing_ceiling};
use crate::{Shutdown, readiness};

/// Connections taken in one turn, so that those which are open already get theirs.
const BATCH: usize = 128;

/// Refused connections that are drained at the same time; beyond that the oldest ends early.
const MAX_LINGERING: usize = 1024;

/// Reads from one refused connection each time it is looked after.
const READS_PER_LOOK: usize = 16;

/// How often refused connections are looked after, and how long a listener rests when accept fails.
const TEND_EVERY: Duration = Duration::from_millis(20);

/// What is known of those who wait to be let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Newcomers {
    /// Nobody waited.
    None,
    /// All who waited were let in or refused.
    LetIn,
    /// Others may wait.
    Waiting,
}

/// Takes connections from a listener.
pub(crate) struct Acceptor {
    listener: TcpListener,
    /// Connections taken in one turn.
    pub(crate) batch: usize,
    max_connections: Option<usize>,
    /// In place of `max_connections`, when several workers share the limit.
    seat: Option<Seat>,
    /// The first descriptor that is one too many, and the limit that this is.
    ceiling: (RawFd, Limit),
    /// The first descriptor that no refused connection may keep: those above it are for refusing the next ones.
    refusing_ceiling: RawFd,
    /// The descriptor of the connection that was let in last.
    newest: RawFd,
    lingering: Lingering,
    /// Set when there is more to do than readiness will tell: a batch was used up, or accept failed.
    retry: Option<Instant>,
    /// Refused so far.
    pub(crate) refused: u64,
    failures: RepeatedLog,
    refusals: RepeatedLog,
}

impl Acceptor {
    /// `watchable`: the first descriptor that the model cannot watch, if there is one.
    pub(crate) fn new(
        listener: TcpListener,
        app: &App,
        watchable: Option<RawFd>,
    ) -> std::io::Result<Acceptor> {
        listener.set_nonblocking(true)?;
        Ok(Acceptor {
            listener,
            batch: BATCH,
            max_connections: app.max_connections,
            seat: None,
            ceiling: descriptor_ceiling(watchable),
            refusing_ceiling: refusing_ceiling(),
            newest: 0,
            lingering: Lingering::default(),
            retry: None,
            refused: 0,
            failures: RepeatedLog::default(),
            refusals: RepeatedLog::default(),
        })
    }

    /// Shares `--max-connections` with other workers. Whoever ends a connection gives its place back.
    pub(crate) fn share(&mut self, seat: Option<Seat>) {
        self.seat = seat;
    }

    /// Takes what is waiting and gives each connection to `take`; `open` is the number of those open already.
    /// `take` may hand a connection back with the limit that it met.
    pub(crate) fn accept(
        &mut self,
        mut open: usize,
        now: Instant,
        mut take: impl FnMut(TcpStream) -> Result<(), (TcpStream, Limit)>,
    ) -> Newcomers {
        self.retry = None;
        self.lingering.tend(now);
        let mut newcomers = Newcomers::None;
        for _ in 0..self.batch {
            if self.leaves_it_to_others() {
                self.retry = Some(now + TEND_EVERY);
                return Newcomers::Waiting;
            }
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return newcomers,
                // It went away before its turn, or a signal came.
                Err(error) if is_passing(&error) => continue,
                Err(error) => {
                    self.failed(&error, now);
                    // Who cannot be let in cannot be heard.
                    return if self.retry == Some(now) { Newcomers::Waiting } else { newcomers };
                }
            };
            newcomers = Newcomers::LetIn;
            if let Some(stream) = self.admit(stream, open, now) {
                self.newest = stream.as_raw_fd();
                match take(stream) {
                    Ok(()) => open += 1,
                    Err((stream, limit)) => self.refuse(stream, limit, now),
                }
            }
        }
        self.retry = Some(now);
        Newcomers::Waiting
    }

    /// Lets a connection in that was just accepted, or refuses it.
    pub(crate) fn admit(&mut self, stream: TcpStream, open: usize, now: Instant) -> Option<TcpStream> {
        match self.limit(&stream, open) {
            Some(limit) => {
                self.refuse(stream, limit, now);
                None
            }
            None => Some(stream),
        }
    }

    /// Takes note that accept failed. It is tried again at once if that was for want of a descriptor and one can be had, and else in a while.
    pub(crate) fn failed(&mut self, error: &std::io::Error, now: Instant) {
        if is_want_of_descriptors(error) && self.lingering.end_oldest() {
            self.retry = Some(now);
        } else if !is_passing(error) {
            self.failures.log(now, &format!("cannot accept: {error}; trying again in {TEND_EVERY:?}"));
            self.retry = Some(now + TEND_EVERY);
        }
    }

    /// Looks after those that were refused, and ends a rest whose time is up.
    pub(crate) fn tend(&mut self, now: Instant) {
        self.lingering.tend(now);
        if self.retry.is_some_and(|retry| retry <= now) {
            self.retry = None;
        }
    }

    /// Blocks until a connection may be waiting or something else is due. False: the server is to stop.
    pub(crate) fn wait(&self, shutdown: &Shutdown) -> std::io::Result<bool> {
        let mut fds = [
            PollFd::new(shutdown.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.listener.as_fd(), PollFlags::POLLIN),
        ];
        // A listener that rests after a failure would be ready at once: wait for the time, not for it.
        let watched = if self.is_resting() { 1 } else { 2 };
        let timeout = self.poll_timeout().map_or(PollTimeout::NONE, |due| {
            readiness::milliseconds(Some(due.saturating_duration_since(Instant::now())))
        });
        match poll(&mut fds[..watched], timeout) {
            Ok(_) => Ok(fds[0].revents() == Some(PollFlags::empty())),
            Err(Errno::EINTR) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    /// When [`accept`](Acceptor::accept) is due though nothing is reported ready.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        match (self.retry, self.lingering.poll_timeout()) {
            (Some(retry), Some(tend)) => Some(retry.min(tend)),
            (retry, tend) => retry.or(tend),
        }
    }

    /// Whether the listener is to be left alone until the time is up: accept fails, and it would stay ready.
    pub(crate) fn is_resting(&self) -> bool {
        self.retry.is_some()
    }

    /// Whether this worker has no descriptor for one more, and another that takes from the same queue has.
    fn leaves_it_to_others(&mut self) -> bool {
        let Some(seat) = self.seat.as_ref().filter(|seat| seat.shares_listener) else { return false };
        if self.newest + 1 < self.ceiling.0 || !seat.places.another_has_less(seat.worker) {
            return false;
        }
        // The kernel gives the lowest free number, so a copy tells whether there is one by now.
        self.newest = self.listener.try_clone().map_or(RawFd::MAX - 1, |copy| copy.as_raw_fd() - 1);
        self.newest + 1 >= self.ceiling.0
    }

    fn limit(&self, stream: &TcpStream, open: usize) -> Option<Limit> {
        let (ceiling, limit) = self.ceiling;
        if stream.as_raw_fd() >= ceiling {
            return Some(limit);
        }
        if let Some(Seat { places, worker, .. }) = &self.seat {
            return (!places.enter(*worker)).then(|| Limit::MaxConnections(places.max()));
        }
        self.max_connections.filter(|max| open >= *max).map(Limit::MaxConnections)
    }

    fn refuse(&mut self, stream: TcpStream, limit: Limit, now: Instant) {
        self.refused += 1;
        let sentence = limit.sentence(stream.as_raw_fd());
        self.refusals.log(now, &format!("refused a connection: {sentence}"));
        // The kernel gives the lowest free number, so this one tells that few are left for those who come next.
        if stream.as_raw_fd() >= self.refusing_ceiling {
            self.lingering.end_oldest();
        }
        self.lingering.answer(stream, &http::refusal(limit.word(), &sentence), now);
    }
}

impl AsFd for Acceptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

/// Where a connection comes from, if that matters.
pub(crate) fn address_of(stream: &TcpStream, app: &App) -> Option<Address> {
    app.max_per_address?;
    // A connection that has ended by now has none.
    stream.peer_addr().ok().map(|address| address.ip().into())
}

/// Refused connections whose answer is sent. What they still send is read and discarded until they close, their time is up, or their descriptor is
/// needed to refuse another: closing at once would turn unread input into a reset, which overtakes the answer.
#[derive(Default)]
struct Lingering {
    /// In the order of their deadlines.
    streams: VecDeque<(TcpStream, Instant)>,
    next_look: Option<Instant>,
}

impl Lingering {
    fn answer(&mut self, mut stream: TcpStream, answer: &[u8], now: Instant) {
        // An answer is far smaller than an empty send buffer. A peer that is gone already needs none.
        if stream.set_nonblocking(true).is_err() || stream.write_all(answer).is_err() {
            return;
        }
        if stream.shutdown(Direction::Write).is_ok() {
            self.streams.push_back((stream, now + LINGER));
        }
        if self.streams.len() > MAX_LINGERING {
            self.end_oldest();
        }
        self.next_look.get_or_insert(now + TEND_EVERY);
    }

    /// Ends the one that was refused first, whose answer has been on its way for longest. False: there is none.
    fn end_oldest(&mut self) -> bool {
        let Some((mut stream, _)) = self.streams.pop_front() else { return false };
        // What it has sent so far causes no reset.
        drain(&mut stream, &mut [0; 4 << 10]);
        true
    }

    fn tend(&mut self, now: Instant) {
        if self.next_look.is_none_or(|look| now < look) {
            return;
        }
        let mut scratch = [0; 16 << 10];
        // What has come is read before the time is looked at.
        self.streams.retain_mut(|(stream, deadline)| drain(stream, &mut scratch) && now < *deadline);
        self.next_look = (!self.streams.is_empty()).then(|| now + TEND_EVERY);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.next_look
    }
}

/// Discards what has come, up to a bound: those who are served come first. False: the peer has ended.
fn drain(stream: &mut TcpStream, scratch: &mut [u8]) -> bool {
    for _ in 0..READS_PER_LOOK {
        match stream.read(scratch) {
            Ok(0) => return false,
            Ok(_) => {}
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        }
    }
    true
}

fn is_want_of_descriptors(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error().map(Errno::from_raw), Some(Errno::EMFILE | Errno::ENFILE))
}

/// Errors of accept(2) that concern one connection, not the listener: the next call may succeed.
fn is_passing(error: &std::io::Error) -> bool {
    matches!(
        error.raw_os_error().map(Errno::from_raw),
        Some(Errno::ECONNABORTED | Errno::EINTR | Errno::EPROTO | Errno::EPERM | Errno::ENETDOWN)
    )
}
