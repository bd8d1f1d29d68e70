//! A queue that wakes a loop: how one thread hands something to another that waits for descriptors.
//!
//! A wake-up costs two system calls, the ring and the reading of it, so it is done once for all that gathers until the
//! loop comes to look: `is_rung` says that a ring is on its way. The loop silences the bell *before* it takes `is_rung` back, and
//! that *before* it empties the queue: whoever pushes after that finds `is_rung` false and rings again.

use crate::sync::{AtomicBool, Bell, Ordering, Queue};

/// What others have for one loop.
pub(crate) struct Mailbox<T> {
    queue: Queue<T>,
    is_rung: AtomicBool,
    bell: Bell,
}

impl<T> Mailbox<T> {
    pub(crate) fn new(bell: Bell) -> Mailbox<T> {
        Mailbox { queue: Queue::new(), is_rung: AtomicBool::new(false), bell }
    }

    /// Puts something in, and wakes the loop if nobody else has.
    pub(crate) fn push(&self, item: T) {
        self.queue.push(item);
        if !self.is_rung.swap(true, Ordering::AcqRel) {
            self.bell.ring();
        }
    }

    /// Puts something in for a loop that is about to look: the one that calls this.
    pub(crate) fn push_own(&self, item: T) {
        self.queue.push(item);
    }

    /// To be called when the bell is readable, before the queue is emptied.
    pub(crate) fn silence(&self) {
        self.bell.silence();
        self.is_rung.swap(false, Ordering::AcqRel);
    }

    /// The next thing in the queue.
    pub(crate) fn pop(&self) -> Option<T> {
        self.queue.pop()
    }

    /// What becomes readable when there is something in it.
    pub(crate) fn bell(&self) -> &Bell {
        &self.bell
    }
}
