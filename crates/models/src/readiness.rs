//! The loop of the models that ask which connections are ready, or are told: `spin`, `select`, `poll`, `epoll` and those that have several
//! of such loops.
//!
//! It is all but the waiting. What differs between these models is a [`Poller`]: how the kernel learns what
//! is to be watched, and how the loop learns what is ready.

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::poll::PollTimeout;
use nix::sys::time::{TimeVal, TimeValLike};
use switchboard_proto::App;

use crate::accept::{Acceptor, Newcomers};
use crate::crew::Crew;
use crate::desk::Desk;
use crate::table::Table;
use crate::{Listener, Shutdown, Tally};

/// A connection's place in the table, by which the poller calls it.
pub(crate) type Key = usize;

/// The keys of what is no connection.
pub(crate) const LISTENER: Key = Key::MAX;
const SHUTDOWN: Key = Key::MAX - 1;
const CREW: Key = Key::MAX - 2;
const DESK: Key = Key::MAX - 3;

/// Whether a key is a connection's or the listener's: something that may be read at any time just to see. The others are
/// readable once there is something to be heard.
pub(crate) fn may_be_tried(key: Key) -> bool {
    key < DESK || key == LISTENER
}

/// What to watch a descriptor for. Errors and the end of a connection are always reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Interest {
    pub(crate) read: bool,
    pub(crate) write: bool,
}

impl Interest {
    pub(crate) const READ: Interest = Interest { read: true, write: false };
}

/// A descriptor that is ready.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ready {
    pub(crate) key: Key,
    /// Reading will not block: there is input, an end or an error.
    pub(crate) readable: bool,
    /// A short read does not mean that nothing is left, and an edge-triggered poller will not say so again: the peer has ended, or has sent
    /// urgent data, at whose mark reads end.
    pub(crate) reads_short: bool,
}

/// A way to ask the kernel which of many descriptors are ready. What is written needs no word of its own:
/// every line that is reported gets its output written.
pub(crate) trait Poller {
    /// The first descriptor that cannot be watched, if there is one.
    const WATCHABLE: Option<RawFd> = None;

    /// Begins to watch a descriptor.
    fn watch(&mut self, key: Key, fd: BorrowedFd<'_>, interest: Interest) -> io::Result<()>;

    /// Watches it for something else from now on, or asks an edge-triggered poller to look again.
    fn rewatch(&mut self, key: Key, fd: BorrowedFd<'_>, interest: Interest) -> io::Result<()>;

    /// Watches it no more. It is about to be closed.
    fn unwatch(&mut self, key: Key, fd: BorrowedFd<'_>) -> io::Result<()>;

    /// Blocks until something is ready or the time is up, and appends what is ready. False: there may be more, since there was no room for it or
    /// a signal came.
    fn wait(&mut self, timeout: Option<Duration>, ready: &mut Vec<Ready>) -> io::Result<bool>;
}

/// Serves with one loop on one thread.
pub(crate) fn serve(
    poller: impl Poller,
    listener: Listener,
    app: &Arc<App>,
    shutdown: &Shutdown,
) -> io::Result<Tally> {
    serve_in(poller, listener.into_tcp()?, app, shutdown, Crew::default(), None)
}

/// Serves with one loop that is one of several (`crew`), or that has a pool to help it (`desk`).
pub(crate) fn serve_in(
    mut poller: impl Poller,
    listener: TcpListener,
    app: &Arc<App>,
    shutdown: &Shutdown,
    crew: Crew,
    desk: Option<Desk>,
) -> io::Result<Tally> {
    let mut acceptor = Acceptor::new(listener, app, watchable(&poller))?;
    acceptor.share(crew.seat.clone());
    let mut table = Table::new(app, crew, desk);
    let mut ready = Vec::new();
    poller.watch(LISTENER, acceptor.as_fd(), Interest::READ)?;
    poller.watch(SHUTDOWN, shutdown.as_fd(), Interest::READ)?;
    table.watch_aside(CREW, DESK, &mut poller)?;
    let mut is_listening = true;
    let mut is_stopping = false;
    let mut heard = Heard::default();
    while !is_stopping {
        let due = earliest(acceptor.poll_timeout(), table.roster.poll_timeout());
        let asked = due.map(|_| Instant::now());
        let timeout = due.zip(asked).map(|(due, asked)| due.saturating_duration_since(asked));
        let is_all = wait(&mut poller, timeout, app.busy_poll, &mut ready)?;
        let read = asked.and_then(|asked| heard.looked(asked, is_all, ready.len(), table.roster.len()));
        let now = Instant::now();
        let mut may_accept = acceptor.poll_timeout().is_some_and(|due| due <= now);
        let mut is_called = false;
        for event in ready.drain(..) {
            match event.key {
                LISTENER => may_accept = true,
                SHUTDOWN => is_stopping = true,
                CREW => is_called = true,
                DESK => table.take_back(now, &mut poller)?,
                _ => table.ready(event, now, &mut poller)?,
            }
        }
        table.roster.receive_published(is_called, now);
        let mut newcomers = Newcomers::None;
        is_stopping |= is_called && table.roster.is_told_to_end();
        if may_accept {
            let open = table.roster.len();
            newcomers = acceptor.accept(open, now, |stream| {
                table.insert(stream, now);
                Ok(())
            });
        }
        // A listener at rest would be reported ready again and again.
        if is_listening == acceptor.is_resting() {
            is_listening = !is_listening;
            match is_listening {
                true => poller.watch(LISTENER, acceptor.as_fd(), Interest::READ)?,
                false => poller.unwatch(LISTENER, acceptor.as_fd())?,
            }
        }
        table.expire(now, read.and_then(|read| heard.of(read, newcomers)));
        table.settle(now, &mut poller)?;
    }
    if is_listening {
        poller.unwatch(LISTENER, acceptor.as_fd())?;
    }
    poller.unwatch(SHUTDOWN, shutdown.as_fd())?;
    let refused = acceptor.refused;
    drop(acceptor);
    say_goodbye(&mut poller, &mut table, app)?;
    let tally = table.tally();
    Ok(Tally { refused: tally.refused + refused, ..tally })
}

/// Waits, and goes on asking for the time of `--busy-poll` before it blocks: to sleep and be woken takes longer than the
/// answer to one client does.
pub(crate) fn wait(
    poller: &mut impl Poller,
    timeout: Option<Duration>,
    busy_poll: Duration,
    ready: &mut Vec<Ready>,
) -> io::Result<bool> {
    if !busy_poll.is_zero() {
        let begun = Instant::now();
        let long_enough = timeout.map_or(busy_poll, |timeout| timeout.min(busy_poll));
        loop {
            let is_all = poller.wait(Some(Duration::ZERO), ready)?;
            if !ready.is_empty() {
                return Ok(is_all);
            }
            if begun.elapsed() >= long_enough {
                break;
            }
        }
    }
    poller.wait(timeout, ready)
}

/// Up to when all that had come is read: what a client is to be judged by that has to answer in time. A loop may have been stopped, or late, and then
/// the answer is there though its time is over; so a deadline is enforced only when a wait that began after it has brought nothing more.
#[derive(Default)]
pub(crate) struct Heard {
    /// When the first of several waits began that could not bring all, and what they have brought.
    begun: Option<(Instant, usize)>,
    /// Up to when all was read but for what the newcomers of that turn have sent, which the next wait tells.
    but_for_newcomers: Option<Instant>,
}

impl Heard {
    /// Takes note of a wait that began at `asked` and brought `count` of `watched` connections, or all that were ready (`is_all`).
    pub(crate) fn looked(
        &mut self,
        asked: Instant,
        is_all: bool,
        count: usize,
        watched: usize,
    ) -> Option<Instant> {
        if is_all {
            self.begun = None;
            return Some(asked);
        }
        let (begun, seen) = self.begun.get_or_insert((asked, 0));
        *seen += count;
        // What is ready is told in the order in which it became so: by now the turn has come of all that was ready then.
        let (begun, is_round) = (*begun, *seen > watched + ASIDE);
        if is_round {
            self.begun = None;
        }
        is_round.then_some(begun)
    }

    /// The same, of newcomers as well: they may have sent something before they were let in.
    pub(crate) fn of(&mut self, read: Instant, newcomers: Newcomers) -> Option<Instant> {
        let before = self.but_for_newcomers.take();
        match newcomers {
            Newcomers::None => Some(read),
            Newcomers::LetIn => {
                self.but_for_newcomers = Some(read);
                before
            }
            Newcomers::Waiting => before,
        }
    }
}

/// What is watched beside connections.
const ASIDE: usize = 4;

/// Delivers all that was published, closes every WebSocket with 1001 and waits for the answers, as long as the grace lasts.
fn say_goodbye(poller: &mut impl Poller, table: &mut Table, app: &App) -> io::Result<()> {
    let mut now = Instant::now();
    let patience = now + app.grace;
    let mut ready = Vec::new();
    let mut is_told = false;
    table.roster.stop_publishing(now);
    loop {
        table.settle(now, poller)?;
        if !is_told && table.roster.has_all_published() {
            is_told = true;
            table.roster.close_all(now);
            table.settle(now, poller)?;
        }
        if table.roster.len() == 0 || now >= patience {
            break;
        }
        let due = earliest(Some(patience), table.roster.poll_timeout());
        let asked = now;
        let is_all = poller.wait(due.map(|due| due.saturating_duration_since(now)), &mut ready)?;
        now = Instant::now();
        let mut is_called = false;
        for event in ready.drain(..) {
            match event.key {
                CREW => is_called = true,
                DESK => table.take_back(now, poller)?,
                _ => table.ready(event, now, poller)?,
            }
        }
        table.roster.receive_published(is_called, now);
        table.expire(now, is_all.then_some(asked));
    }
    table.roster.hang_up();
    Ok(())
}

/// A descriptor as a poller keeps it.
pub(crate) fn watched(fd: BorrowedFd<'_>) -> BorrowedFd<'static> {
    watched_number(fd.as_raw_fd())
}

/// A descriptor that a poller knows by its number.
pub(crate) fn watched_number(number: RawFd) -> BorrowedFd<'static> {
    // SAFETY: a poller uses a descriptor only from `watch` to `unwatch`, and this module and the table keep it
    // open for longer than that. Numbers that are not watched are only used to look at a bit.
    unsafe { BorrowedFd::borrow_raw(number) }
}

/// A timeout for poll(2), rounded up: a wait that ends just before a timer is due is followed by another.
pub(crate) fn milliseconds(timeout: Option<Duration>) -> PollTimeout {
    let Some(time) = timeout else { return PollTimeout::NONE };
    PollTimeout::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(PollTimeout::MAX)
}

/// A timeout for select(2), rounded up.
pub(crate) fn microseconds(timeout: Duration) -> TimeVal {
    TimeVal::microseconds(timeout.as_nanos().div_ceil(1000).try_into().unwrap_or(i64::MAX))
}

fn watchable<P: Poller>(_: &P) -> Option<RawFd> {
    P::WATCHABLE
}

pub(crate) fn earliest(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        _ => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_wait_that_brings_all_tells_of_what_came_before_it() {
        let (mut heard, now) = (Heard::default(), Instant::now());
        assert_eq!(heard.looked(now, true, 7, 100), Some(now));
    }

    #[test]
    fn several_waits_tell_when_the_turn_of_everyone_has_come() {
        let (mut heard, now) = (Heard::default(), Instant::now());
        // A signal; and three waits with no room for all.
        assert_eq!(heard.looked(now, false, 0, 2000), None);
        assert_eq!(heard.looked(now + MS, false, 1024, 2000), None);
        assert_eq!(heard.looked(now + 2 * MS, false, 1024, 2000), Some(now));
        assert_eq!(heard.looked(now + 3 * MS, false, 1024, 2000), None);
        assert_eq!(heard.looked(now + 4 * MS, true, 10, 2000), Some(now + 4 * MS));
    }

    #[test]
    fn what_newcomers_have_sent_is_known_one_wait_later() {
        let (mut heard, now) = (Heard::default(), Instant::now());
        assert_eq!(heard.of(now, Newcomers::LetIn), None);
        assert_eq!(heard.of(now + MS, Newcomers::LetIn), Some(now));
        assert_eq!(heard.of(now + 2 * MS, Newcomers::Waiting), Some(now + MS));
        assert_eq!(heard.of(now + 3 * MS, Newcomers::LetIn), None);
        assert_eq!(heard.of(now + 4 * MS, Newcomers::None), Some(now + 4 * MS));
    }
}
