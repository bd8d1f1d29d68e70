//! No waiting at all: every connection is read, round and round, whether it has something to say or not.
//!
//! Non-blocking reads make it possible: a read that finds nothing says so (EAGAIN) and returns. Nobody is ever asleep, so that an
//! answer comes as soon as it can; and nobody is ever idle, so that a server with nothing to do takes all of a core. With one client there is
//! nothing quicker. With a thousand, each message waits for a thousand reads of nothing.
//!
//! - Calls of one message: `recvfrom`, `sendto`; and one `recvfrom` of nothing for every other connection, and an `accept4`, in every round.
//! - Costs: a core, always; each round is O(connections) system calls.
//! - Limit: none but the descriptors of the process, and patience.
//! - Choose it for a handful of connections on cores that have nothing else to do, where a microsecond counts.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use switchboard_proto::App;

use crate::readiness::{self, Interest, Key, Poller, Ready};
use crate::{Family, Listener, Mechanism, Model, Shutdown, Tally, Workers};

/// The registry's entry.
pub const MODEL: Model = Model {
    name: "spin",
    family: Family::Asking,
    after: Some("iterative"),
    about: "one loop that reads every connection, round and round, and never waits",
    waits_with: "nothing: recvfrom(2) that finds nothing returns at once",
    runs_as: "1 process, 1 thread that never sleeps",
    calls: &["recvfrom", "sendto"],
    broadcast: "the loop's own table, no locks",
    serves: Mechanism::SESSION,
    limits: &["a core, even with nothing to do", "each round costs O(connections) system calls"],
    failure_ends: "the whole server",
    workers: Workers::None,
    reuses_port: false,
    busy_polls: false,
    hidden: false,
    source: include_str!("spin.rs"),
    obstacle: Model::no_obstacle,
    serve,
};

fn serve(listener: Listener, app: Arc<App>, shutdown: Shutdown) -> io::Result<Tally> {
    readiness::serve(Spin::default(), listener, &app, &shutdown)
}

/// Rounds between two looks at what cannot be found out by trying: whether the server is to stop.
const ROUNDS: u32 = 256;

/// Whom to try.
#[derive(Default)]
struct Spin {
    lines: Vec<(Key, BorrowedFd<'static>, Interest)>,
    /// The place in `lines` of each descriptor.
    places: Vec<usize>,
    rounds: u32,
}

impl Poller for Spin {
    fn watch(&mut self, key: Key, fd: BorrowedFd<'_>, interest: Interest) -> io::Result<()> {
        let number = fd.as_raw_fd() as usize;
        if self.places.len() <= number {
            self.places.resize(number + 1, 0);
        }
        self.places[number] = self.lines.len();
        self.lines.push((key, readiness::watched(fd), interest));
        Ok(())
    }

    fn rewatch(&mut self, _key: Key, fd: BorrowedFd<'_>, interest: Interest) -> io::Result<()> {
        self.lines[self.places[fd.as_raw_fd() as usize]].2 = interest;
        Ok(())
    }

    fn unwatch(&mut self, _key: Key, fd: BorrowedFd<'_>) -> io::Result<()> {
        let place = self.places[fd.as_raw_fd() as usize];
        self.lines.swap_remove(place);
        if let Some((_, moved, _)) = self.lines.get(place) {
            self.places[moved.as_raw_fd() as usize] = place;
        }
        Ok(())
    }

    fn wait(&mut self, _timeout: Option<Duration>, ready: &mut Vec<Ready>) -> io::Result<bool> {
        self.rounds = self.rounds.wrapping_add(1);
        let looks_aside = self.rounds.is_multiple_of(ROUNDS);
        for &(key, fd, interest) in &self.lines {
            if readiness::may_be_tried(key) || (looks_aside && is_readable(fd)) {
                ready.push(Ready { key, readable: interest.read, reads_short: false });
            }
        }
        Ok(true)
    }
}

fn is_readable(fd: BorrowedFd<'_>) -> bool {
    matches!(poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], PollTimeout::ZERO), Ok(1..))
}
