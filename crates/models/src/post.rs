//! How workers that are threads share an exchange: whoever asks it puts what follows into the mailboxes of those whom it concerns.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use switchboard_proto::{App, Effect, Exchange, Port, Request};

use crate::crew::Elsewhere;
use crate::mailbox::Mailbox;
use crate::roster;
use crate::sync::Bell;

/// An exchange behind a lock, and a mailbox for each worker.
pub(crate) struct Post {
    /// `None`: look at the time, the exchange has something due earlier than it had.
    boxes: Vec<Mailbox<Option<Effect>>>,
    /// Locked while what follows goes into the boxes: all subscribers see one order.
    exchange: Mutex<Exchange>,
}

/// One worker's access to the [`Post`].
pub(crate) struct PostOffice {
    post: Arc<Post>,
    worker: usize,
    is_closing: bool,
    /// The box was emptied after that.
    is_closed: bool,
}

/// The worker that looks after the exchange when it has something due.
const TIMEKEEPER: usize = 0;

impl Post {
    pub(crate) fn new(app: &Arc<App>, workers: usize) -> io::Result<Arc<Post>> {
        let boxes = (0..workers).map(|_| Ok(Mailbox::new(Bell::new()?))).collect::<io::Result<_>>()?;
        Ok(Arc::new(Post { boxes, exchange: Mutex::new(Exchange::shared(app, Instant::now())) }))
    }

    pub(crate) fn workers(&self) -> usize {
        self.boxes.len()
    }
}

impl PostOffice {
    pub(crate) fn new(post: Arc<Post>, worker: usize) -> PostOffice {
        PostOffice { post, worker, is_closing: false, is_closed: false }
    }

    /// Lets the exchange do something, and puts what follows into the boxes of those whom it concerns.
    fn with_exchange(&self, what: impl FnOnce(&mut Exchange)) {
        let mut exchange = self.post.exchange.lock().expect("no worker panics while it has the exchange");
        let before = exchange.poll_timeout();
        what(&mut exchange);
        while let Some(effect) = exchange.poll_effect() {
            match &effect {
                Effect::Publish(_) => {
                    (0..self.post.boxes.len()).for_each(|worker| self.put(worker, Some(effect.clone())));
                }
                Effect::Reply(port, _) => self.put(roster::worker_of(*port), Some(effect)),
            }
        }
        let is_earlier = exchange.poll_timeout().is_some_and(|due| before.is_none_or(|before| due < before));
        if is_earlier && self.worker != TIMEKEEPER {
            self.put(TIMEKEEPER, None);
        }
    }

    fn put(&self, worker: usize, effect: Option<Effect>) {
        let Some(mailbox) = self.post.boxes.get(worker) else { return };
        match worker == self.worker {
            true => mailbox.push_own(effect),
            false => mailbox.push(effect),
        }
    }
}

impl Elsewhere for PostOffice {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.post.boxes[self.worker].bell().as_fd()
    }

    fn ask(&mut self, port: Port, request: Request, now: Instant) {
        self.with_exchange(|exchange| exchange.handle(port, request, now));
    }

    /// Whoever is the first says so for all. What was acknowledged before that is in every box already, for the boxes are filled under the lock.
    fn close(&mut self) {
        self.with_exchange(Exchange::close);
        self.is_closing = true;
    }

    fn is_closed(&self) -> bool {
        self.is_closed
    }

    fn receive(&mut self, is_called: bool, _now: Instant, take: &mut dyn FnMut(Effect)) {
        let mailbox = &self.post.boxes[self.worker];
        if is_called {
            mailbox.silence();
        }
        while let Some(effect) = mailbox.pop() {
            effect.into_iter().for_each(&mut *take);
        }
        self.is_closed = self.is_closing;
    }

    fn poll_timeout(&self) -> Option<Instant> {
        if self.worker != TIMEKEEPER {
            return None;
        }
        self.post.exchange.lock().expect("no worker panics while it has the exchange").poll_timeout()
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.with_exchange(|exchange| exchange.handle_timeout(now));
    }
}
