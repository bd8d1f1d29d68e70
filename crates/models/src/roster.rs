//! The connections of one loop, whatever it waits with: their sessions, their timers, and who gets what is published.
//!
//! What a loop knows of a socket (`S`) is its own business. Every operation here costs O(1), or O(log n) where a timer is involved, however
//! many connections there are.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use indexmap::IndexSet;
use slab::Slab;
use switchboard_proto::{App, CloseReason, Event, Outgoing, Session};

use crate::Tally;
use crate::crew::{Crew, Elsewhere, Seat};
use crate::readiness::Key;

/// Messages of one turn are joined into a piece of at most so many bytes.
const MAX_PIECE_BYTES: usize = 64 << 10;

/// The connections of one loop. A broadcast needs no lock and no queue here: its receivers are in this table.
pub(crate) struct Roster<S> {
    app: Arc<App>,
    members: Slab<Member<S>>,
    /// The connections that get what is published.
    subscribers: IndexSet<Key>,
    /// When connections have a timer to handle. Each stands here once at the most, and perhaps too early: a
    /// deadline that moves back with every message is looked up when the earlier one is due.
    timers: BTreeSet<(Instant, Key)>,
    /// Connections to write to and to look after before the next wait.
    touched: Vec<Key>,
    /// What was published in this turn and is not on its way yet.
    published: Vec<Arc<Outgoing>>,
    /// What was published for sessions that are away.
    postponed: HashMap<Key, Vec<Arc<Outgoing>>>,
    /// What this loop has of the others, if it is one of several.
    crew: Crew,
    /// The server ends.
    is_closing: bool,
    tally: Tally,
}

/// One connection.
pub(crate) struct Member<S> {
    pub(crate) session: Session,
    pub(crate) socket: S,
    /// The entry in `timers`.
    timer: Option<Instant>,
    is_touched: bool,
    /// Its session is with somebody else; what stands in `session` only holds its place.
    is_away: bool,
}

impl<S> Member<S> {
    pub(crate) fn is_away(&self) -> bool {
        self.is_away
    }
}

impl<S> Roster<S> {
    pub(crate) fn new(app: &Arc<App>, crew: Crew) -> Roster<S> {
        Roster {
            app: app.clone(),
            members: Slab::new(),
            subscribers: IndexSet::new(),
            timers: BTreeSet::new(),
            touched: Vec::new(),
            published: Vec::new(),
            postponed: HashMap::new(),
            crew,
            is_closing: false,
            tally: Tally::default(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }

    pub(crate) fn tally(&self) -> Tally {
        self.tally
    }

    /// When [`expire`](Roster::expire) has something to do.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.timers.first().map(|(due, _)| *due)
    }

    /// What wakes this loop on behalf of the others, if there are others.
    pub(crate) fn elsewhere(&self) -> Option<&dyn Elsewhere> {
        self.crew.elsewhere.as_deref()
    }

    /// The connection of that key, unless it has ended.
    pub(crate) fn get(&mut self, key: Key) -> Option<&mut Member<S>> {
        self.members.get_mut(key)
    }

    /// Takes in a connection that was just accepted.
    pub(crate) fn insert(&mut self, socket: S, now: Instant) -> Key {
        let session = Session::server(&self.app, now);
        let member = Member { session, socket, timer: None, is_touched: false, is_away: false };
        let key = self.members.insert(member);
        self.tally.connections += 1;
        self.touch(key);
        key
    }

    /// Does what a session wants done with what it has just received.
    pub(crate) fn handle_events(&mut self, key: Key, now: Instant) {
        while let Some(event) = self.members[key].session.poll_event() {
            match event {
                Event::Subscribe => {
                    // What was published before goes to those who were there before.
                    if let Some(elsewhere) = &mut self.crew.elsewhere {
                        elsewhere.subscribe();
                    }
                    self.receive_published(false);
                    self.deliver(now);
                    self.subscribers.insert(key);
                }
                Event::Publish(message) => match &mut self.crew.elsewhere {
                    Some(elsewhere) => elsewhere.publish(&message),
                    None => self.published.push(message),
                },
            }
        }
    }

    /// Takes what was published on the other loops, and on this one where that is the order.
    pub(crate) fn receive_published(&mut self, is_called: bool) {
        if let Some(elsewhere) = &mut self.crew.elsewhere {
            elsewhere.receive(is_called, &mut |message| self.published.push(message.clone()));
        }
    }

    /// Gives what was published in this turn to every subscriber here: as one piece to `write`, where nothing waits before it, and else to
    /// the session, which is then looked after. `write` says whether it has taken all. Returns the piece.
    ///
    /// To a thousand receivers a message is a thousand system calls: what else is done for each of them has to be little.
    pub(crate) fn spread(
        &mut self,
        now: Instant,
        mut write: impl FnMut(Key, &mut S, &mut Session, &Bytes) -> bool,
    ) -> Option<Bytes> {
        let piece = in_one_piece(&self.published, self.app.max_unsent_bytes)?;
        let messages = std::mem::take(&mut self.published);
        for index in 0..self.subscribers.len() {
            let key = self.subscribers[index];
            let member = &mut self.members[key];
            if member.is_away || !member.session.is_up_to_date() {
                self.queue(key, &messages, now);
            } else if !write(key, &mut member.socket, &mut member.session, &piece) {
                self.touch(key);
            }
        }
        Some(piece)
    }

    /// Queues what was published in this turn for every subscriber here. It is written when they are settled.
    pub(crate) fn deliver(&mut self, now: Instant) {
        let messages = std::mem::take(&mut self.published);
        if !messages.is_empty() {
            (0..self.subscribers.len()).for_each(|index| self.queue(self.subscribers[index], &messages, now));
        }
    }

    fn queue(&mut self, key: Key, messages: &[Arc<Outgoing>], now: Instant) {
        let member = &mut self.members[key];
        if member.is_away {
            self.postponed.entry(key).or_default().extend_from_slice(messages);
        } else {
            messages.iter().for_each(|message| member.session.deliver(message, now));
            self.touch(key);
        }
    }

    /// Lets the connections whose time has come do what is due.
    pub(crate) fn expire(&mut self, now: Instant) {
        while let Some((due, key)) = self.timers.first().copied()
            && due <= now
        {
            self.timers.pop_first();
            let member = &mut self.members[key];
            member.timer = None;
            // What is away is looked after when it comes back.
            if !member.is_away {
                member.session.handle_timeout(now);
                self.touch(key);
            }
        }
    }

    /// Notes when a session has something due. To be called after everything that is done to it.
    pub(crate) fn note_deadline(&mut self, key: Key) {
        let member = &mut self.members[key];
        let deadline = member.session.poll_timeout();
        let is_early_enough = matches!((member.timer, deadline), (Some(timer), Some(due)) if timer <= due);
        if member.timer != deadline && !is_early_enough {
            if let Some(timer) = member.timer {
                self.timers.remove(&(timer, key));
            }
            if let Some(due) = deadline {
                self.timers.insert((due, key));
            }
            member.timer = deadline;
        }
    }

    /// Takes a session out, for somebody else to work on.
    pub(crate) fn send_away(&mut self, key: Key, now: Instant) -> Session {
        let stand_in = Session::server(&self.app, now);
        let member = &mut self.members[key];
        member.is_away = true;
        std::mem::replace(&mut member.session, stand_in)
    }

    /// Puts it back, and does what had to wait for it.
    pub(crate) fn take_back(&mut self, key: Key, session: Session, now: Instant) {
        let member = &mut self.members[key];
        member.session = session;
        member.is_away = false;
        self.handle_events(key, now);
        let session = &mut self.members[key].session;
        for message in self.postponed.remove(&key).into_iter().flatten() {
            session.deliver(&message, now);
        }
        if self.is_closing {
            session.close(CloseReason::GoingAway, now);
        }
    }

    /// Tells every connection that the server ends.
    pub(crate) fn close_all(&mut self, now: Instant) {
        self.is_closing = true;
        let keys: Vec<Key> = self.members.iter().map(|(key, _)| key).collect();
        for key in keys {
            self.members[key].session.close(CloseReason::GoingAway, now);
            self.touch(key);
        }
    }

    /// Marks a connection as one to be looked after before the next wait.
    pub(crate) fn touch(&mut self, key: Key) {
        let member = &mut self.members[key];
        if !member.is_touched {
            member.is_touched = true;
            self.touched.push(key);
        }
    }

    /// The next connection to be looked after.
    pub(crate) fn next_touched(&mut self) -> Option<Key> {
        while let Some(key) = self.touched.pop() {
            if let Some(member) = self.members.get_mut(key) {
                member.is_touched = false;
                return Some(key);
            }
        }
        None
    }

    /// Forgets a connection that has ended.
    pub(crate) fn remove(&mut self, key: Key) -> S {
        let member = self.members.remove(key);
        self.subscribers.swap_remove(&key);
        if let Some(timer) = member.timer {
            self.timers.remove(&(timer, key));
        }
        self.leave();
        self.tally.add(member.session.counts());
        member.socket
    }

    /// Gives back the place of a connection that has ended, or that could not be taken in.
    pub(crate) fn leave(&self) {
        if let Some(Seat { places, worker, .. }) = &self.crew.seat {
            places.leave(*worker);
        }
    }

    /// Forgets the connections that are left when the grace is over. Their sockets are closed.
    pub(crate) fn hang_up(&mut self) {
        let keys: Vec<Key> = self.members.iter().map(|(key, _)| key).collect();
        keys.into_iter().for_each(|key| drop(self.remove(key)));
    }
}

/// What was published, in one piece: a message, or several that are short. Several long ones, which a receiver may take only a part of, are for its
/// session to queue one by one.
fn in_one_piece(messages: &[Arc<Outgoing>], max_unsent_bytes: usize) -> Option<Bytes> {
    let (first, others) = messages.split_first()?;
    if others.is_empty() {
        return Some(first.websocket_frame().clone());
    }
    let frames = messages.iter().map(|message| message.websocket_frame());
    let length: usize = frames.clone().map(Bytes::len).sum();
    (length <= MAX_PIECE_BYTES.min(max_unsent_bytes)).then(|| {
        let mut piece = Vec::with_capacity(length);
        frames.for_each(|frame| piece.extend_from_slice(frame));
        piece.into()
    })
}
