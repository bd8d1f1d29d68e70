//! The connections of one loop: what happens to them when they are ready, due, or published to.

use std::collections::BTreeSet;
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Instant;

use indexmap::IndexSet;
use slab::Slab;
use switchboard_proto::{App, CloseReason, Event, Outgoing, Session};

use crate::Tally;
use crate::line::Line;
use crate::readiness::{Interest, Key, Poller, Ready};

/// The loop's one read buffer: idle connections own none.
const SCRATCH_BYTES: usize = 64 << 10;

/// The connections of one loop. A broadcast needs no lock and no queue here: its receivers are in this table.
pub(crate) struct Table {
    app: Arc<App>,
    lines: Slab<Line>,
    /// The lines that get what is published.
    subscribers: IndexSet<Key>,
    /// When lines have a timer to handle. Each stands here once at the most, and perhaps too early: a
    /// deadline that moves back with every message is looked up when the earlier one is due.
    timers: BTreeSet<(Instant, Key)>,
    /// Lines to write to and to look after before the next wait.
    touched: Vec<Key>,
    scratch: Vec<u8>,
    tally: Tally,
}

impl Table {
    pub(crate) fn new(app: &Arc<App>) -> Table {
        Table {
            app: app.clone(),
            lines: Slab::new(),
            subscribers: IndexSet::new(),
            timers: BTreeSet::new(),
            touched: Vec::new(),
            scratch: vec![0; SCRATCH_BYTES],
            tally: Tally::default(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.lines.len()
    }

    pub(crate) fn tally(&self) -> Tally {
        self.tally
    }

    /// When [`expire`](Table::expire) has something to do.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.timers.first().map(|(due, _)| *due)
    }

    /// Takes in a connection that was just accepted.
    pub(crate) fn insert(&mut self, stream: TcpStream, now: Instant) -> std::io::Result<()> {
        stream.set_nonblocking(true)?;
        let key = self.lines.insert(Line::new(stream, Session::server(&self.app, now)));
        self.tally.connections += 1;
        self.touch(key);
        Ok(())
    }

    /// Reads what a ready line has to say, passes on what it publishes, and writes its replies: all replies to one
    /// read leave in one write. Others get their deliveries in `settle`, so that all of one turn leave together.
    pub(crate) fn ready(
        &mut self,
        ready: Ready,
        now: Instant,
        poller: &mut impl Poller,
    ) -> std::io::Result<()> {
        // It may have ended in this turn, before its event came up.
        let Some(line) = self.lines.get_mut(ready.key) else { return Ok(()) };
        if ready.readable {
            line.read(&mut self.scratch, ready.is_at_end, now);
            while let Some(event) = self.lines[ready.key].session.poll_event() {
                match event {
                    Event::Subscribe => {
                        self.subscribers.insert(ready.key);
                    }
                    Event::Publish(message) => self.publish(&message, now),
                }
            }
        }
        self.settle_one(ready.key, poller)
    }

    /// Lets the lines whose time has come do what is due.
    pub(crate) fn expire(&mut self, now: Instant) {
        while let Some((due, key)) = self.timers.first().copied()
            && due <= now
        {
            self.timers.pop_first();
            let line = &mut self.lines[key];
            line.timer = None;
            line.session.handle_timeout(now);
            self.touch(key);
        }
    }

    /// Tells every line that the server ends.
    pub(crate) fn close_all(&mut self, now: Instant) {
        let keys: Vec<Key> = self.lines.iter().map(|(key, _)| key).collect();
        for key in keys {
            self.lines[key].session.close(CloseReason::GoingAway, now);
            self.touch(key);
        }
    }

    /// Writes to every line that was touched, and tells the poller what each waits for now.
    pub(crate) fn settle(&mut self, poller: &mut impl Poller) -> std::io::Result<()> {
        while let Some(key) = self.touched.pop() {
            if let Some(line) = self.lines.get_mut(key) {
                line.is_touched = false;
                self.settle_one(key, poller)?;
            }
        }
        Ok(())
    }

    fn settle_one(&mut self, key: Key, poller: &mut impl Poller) -> std::io::Result<()> {
        let line = &mut self.lines[key];
        line.write();
        let wants = line.session.wants();
        let interest = Interest { read: wants.read, write: wants.write };
        if line.is_broken || !(wants.read || wants.write) {
            return self.remove(key, poller);
        }
        match line.watched {
            None => poller.watch(key, line.stream.as_fd(), interest)?,
            Some(before) if before != interest || (line.has_unread && interest.read) => {
                poller.rewatch(key, line.stream.as_fd(), interest)?;
                line.has_unread = false;
            }
            Some(_) => {}
        }
        line.watched = Some(interest);
        let deadline = line.session.poll_timeout();
        let is_early_enough = matches!((line.timer, deadline), (Some(timer), Some(due)) if timer <= due);
        if line.timer != deadline && !is_early_enough {
            if let Some(timer) = line.timer {
                self.timers.remove(&(timer, key));
            }
            if let Some(due) = deadline {
                self.timers.insert((due, key));
            }
            line.timer = deadline;
        }
        Ok(())
    }

    /// Forgets the lines that are left when the grace is over. Their sockets are closed.
    pub(crate) fn hang_up(&mut self) {
        for line in std::mem::take(&mut self.lines) {
            self.tally.add(line.1.session.counts());
        }
    }

    fn publish(&mut self, message: &Outgoing, now: Instant) {
        for index in 0..self.subscribers.len() {
            let key = self.subscribers[index];
            self.lines[key].session.deliver(message, now);
            self.touch(key);
        }
    }

    fn touch(&mut self, key: Key) {
        let line = &mut self.lines[key];
        if !line.is_touched {
            line.is_touched = true;
            self.touched.push(key);
        }
    }

    fn remove(&mut self, key: Key, poller: &mut impl Poller) -> std::io::Result<()> {
        let line = self.lines.remove(key);
        self.subscribers.swap_remove(&key);
        if let Some(timer) = line.timer {
            self.timers.remove(&(timer, key));
        }
        self.tally.add(line.session.counts());
        match line.watched {
            Some(_) => poller.unwatch(key, line.stream.as_fd()),
            None => Ok(()),
        }
    }
}
