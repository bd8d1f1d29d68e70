//! Work for a pool: a loop hands jobs over, any thread does them, and the results come back by [`Mailbox`].

use std::sync::Arc;

use crate::mailbox::Mailbox;
use crate::sync::{Bell, Receiver, Sender, unbounded};

/// The loop's side.
pub(crate) struct Handoff<J, R> {
    jobs: Sender<J>,
    done: Arc<Mailbox<R>>,
}

/// The side of one thread of the pool.
pub(crate) struct Bench<J, R> {
    jobs: Receiver<J>,
    done: Arc<Mailbox<R>>,
}

impl<J, R> Handoff<J, R> {
    /// Both sides; the second is cloned for each thread. `bell` wakes the loop when a result is there.
    pub(crate) fn new(bell: Bell) -> (Handoff<J, R>, Bench<J, R>) {
        let (sender, receiver) = unbounded();
        let done = Arc::new(Mailbox::new(bell));
        (Handoff { jobs: sender, done: done.clone() }, Bench { jobs: receiver, done })
    }

    /// Hands a job to whichever thread is free first.
    pub(crate) fn submit(&self, job: J) {
        // It fails when no thread is left, and they end only when this is dropped.
        let _ = self.jobs.send(job);
    }

    /// Where results come.
    pub(crate) fn done(&self) -> &Mailbox<R> {
        &self.done
    }
}

impl<J, R> Bench<J, R> {
    /// Does jobs until the loop's side is gone.
    pub(crate) fn work(&self, mut perform: impl FnMut(J) -> R) {
        while let Ok(job) = self.jobs.recv() {
            self.done.push(perform(job));
        }
    }
}

impl<J, R> Clone for Bench<J, R> {
    fn clone(&self) -> Bench<J, R> {
        Bench { jobs: self.jobs.clone(), done: self.done.clone() }
    }
}
