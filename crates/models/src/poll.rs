//! One loop that asks the kernel about every line, each time, by a list: poll(2).
//!
//! The question is an array with an entry for each line: its descriptor, what to watch it for, and room for the
//! answer. The kernel walks the array, asks each descriptor, and fills in the answers; the loop walks it again to
//! find them. There is no highest number, and question and answer do not overwrite each other.
//!
//! - Calls of one message: `poll` (shared by all that are ready), `recvfrom`, `sendto`.
//! - Costs: each wait is O(lines), in the kernel and here, however few are ready.
//! - Limit: none but the descriptors of the process.
//! - Choose it for up to some hundred connections, or where most of them are busy at any time.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use switchboard_proto::App;

use crate::readiness::{self, Interest, Key, Poller, Ready};
use crate::{Family, Listener, Mechanism, Model, Shutdown, Tally, Workers};

/// The registry's entry.
pub const MODEL: Model = Model {
    name: "poll",
    family: Family::Asking,
    after: Some("select"),
    about: "one loop that asks about every connection, each time, by a list",
    waits_with: "poll(2)",
    runs_as: "1 process, 1 thread",
    calls: &["poll", "recvfrom", "sendto"],
    broadcast: "the loop's own table, no locks",
    serves: Mechanism::SESSION,
    limits: &["each wait costs O(connections)"],
    failure_ends: "the whole server",
    workers: Workers::None,
    reuses_port: false,
    busy_polls: true,
    hidden: false,
    source: include_str!("poll.rs"),
    obstacle: Model::no_obstacle,
    serve,
};

fn serve(listener: Listener, app: Arc<App>, shutdown: Shutdown) -> io::Result<Tally> {
    readiness::serve(Poll::new(), listener, &app, &shutdown)
}

/// Whom to ask about.
struct Poll {
    fds: Vec<PollFd<'static>>,
    /// The key of each entry in `fds`.
    keys: Vec<Key>,
    /// The entry in `fds` of each descriptor.
    entries: Vec<usize>,
}

impl Poll {
    fn new() -> Poll {
        Poll { fds: Vec::new(), keys: Vec::new(), entries: Vec::new() }
    }
}

impl Poller for Poll {
    fn watch(&mut self, key: Key, fd: BorrowedFd<'_>, interest: Interest) -> io::Result<()> {
        let number = fd.as_raw_fd() as usize;
        if self.entries.len() <= number {
            self.entries.resize(number + 1, 0);
        }
        self.entries[number] = self.fds.len();
        self.fds.push(PollFd::new(readiness::watched(fd), events(interest)));
        self.keys.push(key);
        Ok(())
    }

    fn rewatch(&mut self, _key: Key, fd: BorrowedFd<'_>, interest: Interest) -> io::Result<()> {
        let entry = self.entries[fd.as_raw_fd() as usize];
        self.fds[entry].set_events(events(interest));
        Ok(())
    }

    fn unwatch(&mut self, _key: Key, fd: BorrowedFd<'_>) -> io::Result<()> {
        let entry = self.entries[fd.as_raw_fd() as usize];
        self.fds.swap_remove(entry);
        self.keys.swap_remove(entry);
        if let Some(moved) = self.fds.get(entry) {
            self.entries[moved.as_fd().as_raw_fd() as usize] = entry;
        }
        Ok(())
    }

    fn wait(&mut self, timeout: Option<Duration>, ready: &mut Vec<Ready>) -> io::Result<bool> {
        let answered = match poll(&mut self.fds, readiness::milliseconds(timeout)) {
            Ok(answered) => answered as usize,
            Err(Errno::EINTR) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        let entries = self.fds.iter().zip(&self.keys);
        let answers =
            entries.filter_map(|(fd, key)| fd.revents().filter(|got| !got.is_empty()).map(|got| (got, *key)));
        // As soon as all that the kernel counted are found, the rest of the list need not be walked.
        ready.extend(answers.take(answered).map(|(got, key)| Ready {
            key,
            readable: got.intersects(PollFlags::POLLIN | PollFlags::POLLHUP | PollFlags::POLLERR),
            reads_short: false,
        }));
        Ok(true)
    }
}

fn events(interest: Interest) -> PollFlags {
    let mut events = PollFlags::empty();
    events.set(PollFlags::POLLIN, interest.read);
    events.set(PollFlags::POLLOUT, interest.write);
    events
}
