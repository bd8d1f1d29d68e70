//! Where a loop hands sessions to a pool: each travels with the bytes that were read for it, and comes back with what it has to say.
//!
//! While a session is away nobody else touches it, so nothing needs a lock; what would have to be done to it meanwhile waits in the roster.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use switchboard_proto::Session;

use crate::handoff::{Bench, Handoff};
use crate::readiness::Key;
use crate::sync::Bell;

/// A session and what it is to receive.
pub(crate) struct Job {
    pub(crate) key: Key,
    pub(crate) session: Session,
    pub(crate) bytes: Vec<u8>,
    /// The peer has sent its last byte.
    pub(crate) has_ended: bool,
    pub(crate) now: Instant,
}

/// A session that comes back.
pub(crate) struct Done {
    pub(crate) key: Key,
    pub(crate) session: Session,
}

/// The loop's side of the pool.
pub(crate) struct Desk {
    handoff: Handoff<Job, Done>,
}

impl Job {
    /// What the pool does.
    pub(crate) fn perform(mut self) -> Done {
        if !self.bytes.is_empty() {
            self.session.receive(&mut self.bytes, self.now);
        }
        if self.has_ended {
            self.session.receive_eof(self.now);
        }
        Done { key: self.key, session: self.session }
    }
}

impl Desk {
    /// A desk, and the bench at which the pool's threads work.
    pub(crate) fn new(bell: Bell) -> (Desk, Bench<Job, Done>) {
        let (handoff, bench) = Handoff::new(bell);
        (Desk { handoff }, bench)
    }

    pub(crate) fn submit(&self, job: Job) {
        self.handoff.submit(job);
    }

    /// Everything that has come back, to be asked for when the descriptor is readable.
    pub(crate) fn collect(&mut self) -> Vec<Done> {
        self.handoff.done().silence();
        std::iter::from_fn(|| self.handoff.done().pop()).collect()
    }
}

impl AsFd for Desk {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.handoff.done().bell().as_fd()
    }
}
