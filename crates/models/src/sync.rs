//! What `mailbox` and `handoff` are made of. The test `loom` puts its own in the place of these, and tries every order in which threads can use them.

pub(crate) use std::sync::atomic::{AtomicBool, Ordering};

pub(crate) use crossbeam::channel::{Receiver, Sender, unbounded};
pub(crate) use crossbeam::queue::SegQueue as Queue;

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::eventfd::{EfdFlags, EventFd};

/// Wakes a loop that waits for descriptors: an eventfd that is readable from the first ring on until it is silenced.
pub(crate) struct Bell(EventFd);

impl Bell {
    pub(crate) fn new() -> io::Result<Bell> {
        Ok(Bell(EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?))
    }

    pub(crate) fn ring(&self) {
        // It fails only when the counter is full, and then it is readable already.
        let _ = self.0.write(1);
    }

    pub(crate) fn silence(&self) {
        // It fails when nobody rang.
        let _ = self.0.read();
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
