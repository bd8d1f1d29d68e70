//! One loop that is told which lines called: edge-triggered epoll(7), through mio.
//!
//! The kernel keeps the list of whom to watch; the loop changes it only when something changes. When bytes arrive the
//! kernel puts the connection on a list of the ready, and a wait takes that list: what does not call costs nothing.
//! Edge-triggered means that each arrival is told once, so the loop reads until there is no more (a short read says so, but where
//! urgent data was reported, at whose mark reads end),
//! and asks again (`rewatch`) where it stopped earlier.
//!
//! - Calls of one message: `epoll_wait` (shared by all that are ready), `recvfrom`, `sendto`.
//! - Costs: a wait is O(ready connections); watching one more costs one `epoll_ctl`.
//! - Limit: none but the descriptors of the process.
//! - Choose it for anything that may grow.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Poll, Token};
use switchboard_proto::App;

use crate::readiness::{self, Interest, Key, Poller, Ready};
use crate::{Family, Listener, Mechanism, Model, Shutdown, Tally, Workers};

/// The registry's entry.
pub const MODEL: Model = Model {
    name: "epoll",
    family: Family::Told,
    after: Some("epoll-level"),
    about: "one loop that is told which connections are ready, edge-triggered",
    waits_with: "epoll_wait(2)",
    runs_as: "1 process, 1 thread",
    calls: &["epoll_wait", "recvfrom", "sendto"],
    broadcast: "the loop's own table, no locks",
    serves: Mechanism::SESSION,
    limits: &["one core"],
    failure_ends: "the whole server",
    workers: Workers::None,
    reuses_port: false,
    busy_polls: true,
    hidden: false,
    source: include_str!("epoll.rs"),
    obstacle: Model::no_obstacle,
    serve,
};

fn serve(listener: Listener, app: Arc<App>, shutdown: Shutdown) -> io::Result<Tally> {
    readiness::serve(Epoll::new()?, listener, &app, &shutdown)
}

/// Ready connections that one wait takes.
const EVENTS: usize = 1024;

/// Who is watched is known to the kernel.
pub(crate) struct Epoll {
    poll: Poll,
    events: Events,
}

impl Epoll {
    pub(crate) fn new() -> io::Result<Epoll> {
        Ok(Epoll { poll: Poll::new()?, events: Events::with_capacity(EVENTS) })
    }
}

impl Poller for Epoll {
    fn watch(&mut self, key: Key, fd: BorrowedFd<'_>, interest: Interest) -> io::Result<()> {
        self.poll.registry().register(&mut SourceFd(&fd.as_raw_fd()), Token(key), events(interest))
    }

    fn rewatch(&mut self, key: Key, fd: BorrowedFd<'_>, interest: Interest) -> io::Result<()> {
        self.poll.registry().reregister(&mut SourceFd(&fd.as_raw_fd()), Token(key), events(interest))
    }

    fn unwatch(&mut self, _key: Key, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.poll.registry().deregister(&mut SourceFd(&fd.as_raw_fd()))
    }

    fn wait(&mut self, timeout: Option<Duration>, ready: &mut Vec<Ready>) -> io::Result<bool> {
        match self.poll.poll(&mut self.events, timeout) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(false),
            Err(error) => return Err(error),
        }
        let before = ready.len();
        ready.extend(self.events.iter().map(|event| {
            let has_ended = event.is_read_closed() || event.is_error();
            Ready {
                key: event.token().0,
                readable: event.is_readable() || has_ended,
                reads_short: event.is_priority() || has_ended,
            }
        }));
        Ok(ready.len() - before < EVENTS)
    }
}

/// Whoever reads is told of urgent data as well (EPOLLPRI), since a read ends at its mark and is short though something stands behind it.
fn events(interest: Interest) -> mio::Interest {
    const READ: mio::Interest = mio::Interest::READABLE.add(mio::Interest::PRIORITY);
    match interest {
        Interest { read: true, write: true } => READ | mio::Interest::WRITABLE,
        Interest { write: true, .. } => mio::Interest::WRITABLE,
        Interest { .. } => READ,
    }
}
