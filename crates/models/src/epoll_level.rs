//! One loop that is told which lines are ready, as long as they are: level-triggered epoll(7), without a library.
//!
//! The kernel keeps the list of whom to watch, so that a wait costs nothing for those who do not call; that is what epoll adds to
//! `poll`, and nothing else changes: a line that still has input is reported by every wait until it has none. Beside `epoll` it shows
//! what edge-triggering changes: here a loop may leave bytes behind and will hear of them again, but must take care
//! to ask for room to write only while it has something unwritten, or it is told so for ever.
//!
//! - Calls of one message: `epoll_wait` (shared by all that are ready), `recvfrom`, `sendto`.
//! - Costs: a wait is O(ready connections), and each is put back on the list to be looked at once more by the next wait;
//!   a change of mind, such as output that is not taken at once, costs an `epoll_ctl`.
//! - Limit: none but the descriptors of the process.
//! - Choose it over edge-triggering where code that leaves input unread must not hang for it.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use switchboard_proto::App;

use crate::readiness::{self, Interest, Key, LISTENER, Poller, Ready};
use crate::{Family, Listener, Mechanism, Model, Shutdown, Tally, Workers};

/// The registry's entry.
pub const MODEL: Model = Model {
    name: "epoll-level",
    family: Family::Told,
    after: Some("poll"),
    about: "one loop that is told which connections are ready, level-triggered, no library",
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
    source: include_str!("epoll_level.rs"),
    obstacle: Model::no_obstacle,
    serve,
};

fn serve(listener: Listener, app: Arc<App>, shutdown: Shutdown) -> io::Result<Tally> {
    readiness::serve(EpollLevel::new()?, listener, &app, &shutdown)
}

/// Ready connections that one wait takes.
const EVENTS: usize = 1024;

/// Who is watched is known to the kernel.
pub(crate) struct EpollLevel {
    epoll: Epoll,
    events: Vec<EpollEvent>,
}

impl EpollLevel {
    pub(crate) fn new() -> io::Result<EpollLevel> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        Ok(EpollLevel { epoll, events: vec![EpollEvent::empty(); EVENTS] })
    }
}

impl Poller for EpollLevel {
    fn watch(&mut self, key: Key, fd: BorrowedFd<'_>, interest: Interest) -> io::Result<()> {
        Ok(self.epoll.add(fd, EpollEvent::new(flags(key, interest), key as u64))?)
    }

    fn rewatch(&mut self, key: Key, fd: BorrowedFd<'_>, interest: Interest) -> io::Result<()> {
        Ok(self.epoll.modify(fd, &mut EpollEvent::new(flags(key, interest), key as u64))?)
    }

    fn unwatch(&mut self, _key: Key, fd: BorrowedFd<'_>) -> io::Result<()> {
        Ok(self.epoll.delete(fd)?)
    }

    fn wait(&mut self, timeout: Option<Duration>, ready: &mut Vec<Ready>) -> io::Result<bool> {
        let timeout = i32::from(readiness::milliseconds(timeout));
        let timeout = EpollTimeout::try_from(timeout).unwrap_or(EpollTimeout::NONE);
        let answered = match self.epoll.wait(&mut self.events, timeout) {
            Ok(answered) => answered,
            Err(Errno::EINTR) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        let readable = EpollFlags::EPOLLIN | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR;
        ready.extend(self.events[..answered].iter().map(|event| Ready {
            key: event.data() as Key,
            readable: event.events().intersects(readable),
            reads_short: false,
        }));
        Ok(answered < EVENTS)
    }
}

fn flags(key: Key, interest: Interest) -> EpollFlags {
    let mut flags = EpollFlags::empty();
    flags.set(EpollFlags::EPOLLIN, interest.read);
    flags.set(EpollFlags::EPOLLOUT, interest.write);
    // Where several processes wait for one listener, a new connection should wake one of them, not all.
    flags.set(EpollFlags::EPOLLEXCLUSIVE, key == LISTENER);
    flags
}
