//! One loop that asks the kernel about every line, each time, by number: select(2).
//!
//! The question is three sets of bits, one bit for each descriptor: whom to watch for input, whom for output.
//! The kernel looks at every descriptor up to the highest, and overwrites the sets with the answer, so that the
//! sets are copied before each call and every bit is tested after it.
//!
//! - Calls of one message: `pselect6` (the kernel's name of it, shared by all that are ready), `recvfrom`,
//!   `sendto`.
//! - Costs: each wait is O(highest descriptor), in the kernel and here, however few are ready.
//! - Limit: a set has `FD_SETSIZE` = 1,024 bits. Descriptor 1,024 cannot be asked about at all; the C macros
//!   would write behind the set (select(2), "BUGS"). A server must refuse such a connection.
//! - Choose it for a handful of connections on systems that have nothing else.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::select::{FdSet, select};
use switchboard_proto::App;

use crate::limits::FD_SETSIZE;
use crate::readiness::{self, Interest, Key, Poller, Ready};
use crate::{Family, Listener, Mechanism, Model, Shutdown, Tally, Workers};

/// The registry's entry.
pub const MODEL: Model = Model {
    name: "select",
    family: Family::Asking,
    after: Some("spin"),
    about: "one loop that asks about every connection, each time, by its number",
    waits_with: "select(2)",
    runs_as: "1 process, 1 thread",
    calls: &["pselect6", "recvfrom", "sendto"],
    broadcast: "the loop's own table, no locks",
    serves: Mechanism::SESSION,
    limits: &["cannot watch descriptor 1,024 or above (FD_SETSIZE)", "each wait costs O(highest descriptor)"],
    failure_ends: "the whole server",
    workers: Workers::None,
    reuses_port: false,
    busy_polls: true,
    hidden: false,
    source: include_str!("select.rs"),
    obstacle: Model::no_obstacle,
    serve,
};

fn serve(listener: Listener, app: Arc<App>, shutdown: Shutdown) -> io::Result<Tally> {
    readiness::serve(Select::new(), listener, &app, &shutdown)
}

/// Whom to ask about.
struct Select {
    read: FdSet<'static>,
    write: FdSet<'static>,
    /// The key of each descriptor.
    keys: [Key; FD_SETSIZE as usize],
    /// One more than the highest descriptor in a set: where the kernel may stop looking.
    end: RawFd,
}

impl Select {
    fn new() -> Select {
        Select { read: FdSet::new(), write: FdSet::new(), keys: [0; FD_SETSIZE as usize], end: 0 }
    }
}

impl Poller for Select {
    const WATCHABLE: Option<RawFd> = Some(FD_SETSIZE);

    fn watch(&mut self, key: Key, fd: BorrowedFd<'_>, interest: Interest) -> io::Result<()> {
        self.keys[fd.as_raw_fd() as usize] = key;
        self.rewatch(key, fd, interest)
    }

    fn rewatch(&mut self, _key: Key, fd: BorrowedFd<'_>, interest: Interest) -> io::Result<()> {
        let fd = readiness::watched(fd);
        set_bit(&mut self.read, fd, interest.read);
        set_bit(&mut self.write, fd, interest.write);
        // A descriptor that was watched for nothing may have fallen out when a higher one left.
        self.end = self.end.max(fd.as_raw_fd() + 1);
        Ok(())
    }

    fn unwatch(&mut self, _key: Key, fd: BorrowedFd<'_>) -> io::Result<()> {
        let fd = readiness::watched(fd);
        set_bit(&mut self.read, fd, false);
        set_bit(&mut self.write, fd, false);
        if fd.as_raw_fd() + 1 == self.end {
            let end = |set: &FdSet<'_>| set.highest().map_or(0, |fd| fd.as_raw_fd() + 1);
            self.end = end(&self.read).max(end(&self.write));
        }
        Ok(())
    }

    fn wait(&mut self, timeout: Option<Duration>, ready: &mut Vec<Ready>) -> io::Result<bool> {
        let (mut read, mut write) = (self.read, self.write);
        let mut timeout = timeout.map(readiness::microseconds);
        match select(self.end, &mut read, &mut write, None, &mut timeout) {
            Ok(0) => return Ok(true),
            Err(Errno::EINTR) => return Ok(false),
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        for number in 0..self.end {
            let fd = readiness::watched_number(number);
            let readable = read.contains(fd);
            if readable || write.contains(fd) {
                ready.push(Ready { key: self.keys[number as usize], readable, reads_short: false });
            }
        }
        Ok(true)
    }
}

fn set_bit(set: &mut FdSet<'static>, fd: BorrowedFd<'static>, is_member: bool) {
    if is_member { set.insert(fd) } else { set.remove(fd) }
}
