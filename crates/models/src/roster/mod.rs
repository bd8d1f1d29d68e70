//! The connections of one loop, whatever it waits with: their sessions, their timers, and who gets what is published.
//!
//! What a loop knows of a socket (`S`) is its own business. Every operation here costs O(1), or O(log n) where a timer is involved, however
//! many connections there are.

mod published;
mod subscribers;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;

use slab::Slab;
use switchboard_proto::{
    Address, App, CloseReason, Effect, Exchange, Outgoing, Port, Reply, Request, Session,
};

pub(crate) use self::published::Piece;
use self::subscribers::Subscribers;
use crate::Tally;
use crate::crew::{Crew, Elsewhere, Seat};
use crate::readiness::{Key, earliest};

/// A connection as the exchange names it: its worker, how manieth it is in its place, and the place.
const SERIAL_SHIFT: u32 = 24;
const WORKER_SHIFT: u32 = 48;

/// The worker that a connection belongs to.
pub(crate) fn worker_of(Port(port): Port) -> usize {
    (port >> WORKER_SHIFT) as usize
}

/// The connections of one loop. A broadcast needs no lock and no queue here: its receivers are in this table.
pub(crate) struct Roster<S> {
    app: Arc<App>,
    members: Slab<Member<S>>,
    /// The connections that get what is published, by topic.
    subscribers: Subscribers,
    /// The exchange, if this loop is the whole server; else the crew has the way to it.
    exchange: Option<Box<Exchange>>,
    /// Up to when all that had come was read, and when that was noted, if its clients cannot be judged by it yet.
    heard: Option<(Instant, Instant)>,
    /// Connections taken in so far.
    serial: u32,
    /// When connections have a timer to handle. Each stands here once at the most, and perhaps too early: a
    /// deadline that moves back with every message is looked up when the earlier one is due.
    timers: BTreeSet<(Instant, Key)>,
    /// Connections to write to and to look after before the next wait.
    touched: Vec<Key>,
    /// Connections that may have something to ask, while another's questions are dealt with.
    asking: Vec<Key>,
    is_asking: bool,
    /// What was published in this turn and is not on its way yet.
    published: Vec<Arc<Outgoing>>,
    /// Sessions that are away.
    away: usize,
    /// What was published for sessions that are away.
    postponed: HashMap<Key, Vec<Effect>>,
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
    /// Tells it from others that had its key before.
    serial: u32,
    /// Since when its session is with somebody else; what stands in `session` only holds its place.
    away_since: Option<Instant>,
}

impl<S> Member<S> {
    pub(crate) fn is_away(&self) -> bool {
        self.away_since.is_some()
    }

    /// Whether its session has something to do at `now`.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.session.poll_timeout().is_some_and(|due| due <= now)
    }
}

impl<S> Roster<S> {
    pub(crate) fn new(app: &Arc<App>, crew: Crew) -> Roster<S> {
        Roster {
            app: app.clone(),
            members: Slab::new(),
            subscribers: Subscribers::default(),
            exchange: crew.elsewhere.is_none().then(|| Box::new(Exchange::new(app, Instant::now()))),
            heard: None,
            serial: 0,
            timers: BTreeSet::new(),
            touched: Vec::new(),
            asking: Vec::new(),
            is_asking: false,
            published: Vec::new(),
            away: 0,
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
        let exchange = match &self.exchange {
            Some(exchange) => exchange.poll_timeout(),
            None => self.elsewhere().and_then(Elsewhere::poll_timeout),
        };
        earliest(self.timers.first().map(|(due, _)| *due), exchange)
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
    pub(crate) fn insert(&mut self, socket: S, address: Option<Address>, now: Instant) -> Key {
        let mut session = Session::server(&self.app, now);
        address.into_iter().for_each(|address| session.came_from(address, now));
        self.serial = (self.serial + 1) % (1 << (WORKER_SHIFT - SERIAL_SHIFT));
        let serial = self.serial;
        let member = Member { session, socket, timer: None, is_touched: false, serial, away_since: None };
        let key = self.members.insert(member);
        self.tally.connections += 1;
        self.touch(key);
        key
    }

    /// Does what a session asks for. The answer may make it ask for more, or others: that is done one after the other and not one inside the
    /// other, since a client may send any number of requests before it reads an answer.
    pub(crate) fn handle_events(&mut self, key: Key, now: Instant) {
        self.asking.push(key);
        self.handle_asked(now);
    }

    /// Does what sessions have asked for while something else was done.
    pub(crate) fn handle_asked(&mut self, now: Instant) {
        if std::mem::replace(&mut self.is_asking, true) {
            return;
        }
        while let Some(key) = self.asking.pop() {
            while let Some(request) = self.members.get_mut(key).and_then(|member| member.session.poll_event())
            {
                match &request {
                    Request::Subscribe { .. } => {
                        if let Some((topic, format)) = self.members[key].session.subscription() {
                            self.subscribers.insert(topic, format, key);
                        }
                    }
                    Request::Unsubscribe { topic, format } => self.subscribers.remove(topic, *format, key),
                    _ => {}
                }
                self.ask(key, request, now);
            }
        }
        self.is_asking = false;
    }

    fn ask(&mut self, key: Key, request: Request, now: Instant) {
        let serial = u64::from(self.members[key].serial);
        let port = Port((self.crew.worker as u64) << WORKER_SHIFT | serial << SERIAL_SHIFT | key as u64);
        match (&mut self.exchange, &mut self.crew.elsewhere) {
            (Some(exchange), _) => {
                exchange.handle(port, request, now);
                self.take_effects(now);
            }
            (None, Some(elsewhere)) => elsewhere.ask(port, request, now),
            (None, None) => {}
        }
    }

    /// Takes all that follows from one question, before the next is asked.
    fn take_effects(&mut self, now: Instant) {
        let was_asking = std::mem::replace(&mut self.is_asking, true);
        while let Some(effect) = self.exchange.as_mut().and_then(|exchange| exchange.poll_effect()) {
            self.take(effect, now);
        }
        self.is_asking = was_asking;
    }

    /// Whether nothing is left to be done in this turn.
    pub(crate) fn is_settled(&self) -> bool {
        self.published.is_empty() && self.touched.is_empty() && self.asking.is_empty()
    }

    /// Takes what comes from an exchange that is elsewhere.
    pub(crate) fn receive_published(&mut self, is_called: bool, now: Instant) {
        if let Some(elsewhere) = &mut self.crew.elsewhere {
            let mut effects = Vec::new();
            elsewhere.receive(is_called, now, &mut |effect| effects.push(effect));
            effects.into_iter().for_each(|effect| self.take(effect, now));
        }
    }

    fn take(&mut self, effect: Effect, now: Instant) {
        match effect {
            Effect::Publish(message) => self.published.push(message),
            Effect::Reply(port, reply) => self.reply(port, reply, now),
        }
    }

    fn reply(&mut self, port: Port, reply: Reply, now: Instant) {
        let key = (port.0 & ((1 << SERIAL_SHIFT) - 1)) as Key;
        let serial = (port.0 >> SERIAL_SHIFT & ((1 << (WORKER_SHIFT - SERIAL_SHIFT)) - 1)) as u32;
        let Some(member) = self.members.get_mut(key).filter(|member| member.serial == serial) else { return };
        if member.is_away() {
            self.postponed.entry(key).or_default().push(Effect::Reply(port, reply));
            return;
        }
        // A subscriber gets what follows this answer. What was published before it goes to those who were there before.
        if !self.published.is_empty() && member.session.subscription().is_some() {
            self.deliver(now);
        }
        self.members[key].session.reply(reply, now);
        self.touch(key);
        self.handle_events(key, now);
    }

    /// The next connection whose time may have come. What lies in its socket is to be read before [`time_out`](Roster::time_out), or what its client has
    /// done in time would come too late because this loop does; or it is put back by [`note_deadline`](Roster::note_deadline).
    pub(crate) fn next_due(&mut self, now: Instant) -> Option<Key> {
        while let Some((due, key)) = self.timers.first().copied()
            && due <= now
        {
            self.timers.pop_first();
            let member = &mut self.members[key];
            member.timer = None;
            // What is away is looked after when it comes back.
            if !member.is_away() {
                return Some(key);
            }
        }
        None
    }

    /// Lets a connection do what is due, if anything still is.
    pub(crate) fn time_out(&mut self, key: Key, now: Instant) {
        if let Some(member) = self.members.get_mut(key).filter(|member| !member.is_away()) {
            member.session.handle_timeout(now);
            self.touch(key);
            self.handle_events(key, now);
        }
    }

    /// Lets the exchange do what is due. Its clients are judged by what was due at `heard`: all that had come by then is read. Where others
    /// have a part in the exchange it finds that out by itself.
    pub(crate) fn expire_exchange(&mut self, now: Instant, heard: Option<Instant>) {
        if let Some(exchange) = &mut self.exchange {
            if exchange.poll_timeout().is_some_and(|due| due <= now) {
                // What was read by then may still be with a pool: it counts when all that were away then have come back.
                self.heard = self.heard.or(heard.map(|heard| (heard, now)));
                // To look at all of them is for the model that has a pool, and for no other.
                let away = match self.away {
                    0 => None,
                    _ => self.members.iter().filter_map(|(_, member)| member.away_since).min(),
                };
                let judged = self.heard.take_if(|(_, noted)| away.is_none_or(|away| away > *noted));
                exchange.handle_timeout_as_heard(now, judged.map(|(heard, _)| heard));
                self.take_effects(now);
                self.handle_asked(now);
            }
        } else if let Some(elsewhere) = &mut self.crew.elsewhere
            && elsewhere.poll_timeout().is_some_and(|due| due <= now)
        {
            elsewhere.handle_timeout(now);
            self.receive_published(false, now);
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
        member.away_since = Some(now);
        self.away += 1;
        std::mem::replace(&mut member.session, stand_in)
    }

    /// Puts it back, and does what had to wait for it: what others have said meanwhile comes before what follows from its own words, as it does
    /// for everybody else.
    pub(crate) fn take_back(&mut self, key: Key, session: Session, now: Instant) {
        let member = &mut self.members[key];
        member.session = session;
        member.away_since = None;
        self.away -= 1;
        let was_asking = std::mem::replace(&mut self.is_asking, true);
        for effect in self.postponed.remove(&key).into_iter().flatten() {
            match effect {
                Effect::Publish(message) => self.queue(key, &[message], now),
                Effect::Reply(port, reply) => self.reply(port, reply, now),
            }
        }
        self.is_asking = was_asking;
        self.handle_events(key, now);
        if self.is_closing {
            self.members[key].session.close(CloseReason::GoingAway, now);
            self.handle_events(key, now);
        }
    }

    /// Has nothing more published, since the server ends. What was published before that is then to be delivered, as soon as
    /// [`has_all_published`](Roster::has_all_published), before the connections are closed.
    pub(crate) fn stop_publishing(&mut self, now: Instant) {
        match (&mut self.exchange, &mut self.crew.elsewhere) {
            (Some(exchange), _) => {
                exchange.close();
                self.take_effects(now);
                self.handle_asked(now);
            }
            (None, Some(elsewhere)) => {
                elsewhere.close();
                self.receive_published(false, now);
            }
            (None, None) => {}
        }
    }

    /// Whether all that was published is here, and nothing more is.
    pub(crate) fn has_all_published(&self) -> bool {
        self.elsewhere().is_none_or(Elsewhere::is_closed)
    }

    /// Whether the others end.
    pub(crate) fn is_told_to_end(&self) -> bool {
        self.elsewhere().is_some_and(Elsewhere::is_closed)
    }

    /// Tells every connection that the server ends.
    pub(crate) fn close_all(&mut self, now: Instant) {
        self.is_closing = true;
        let keys: Vec<Key> = self.members.iter().map(|(key, _)| key).collect();
        for key in keys {
            self.members[key].session.close(CloseReason::GoingAway, now);
            self.touch(key);
            self.handle_events(key, now);
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
        let told_at = self.members[key].session.poll_farewell().map(|farewell| {
            let now = Instant::now();
            self.ask(key, farewell, now);
            now
        });
        let member = self.members.remove(key);
        if let Some((topic, format)) = member.session.subscription() {
            self.subscribers.remove(topic, format, key);
        }
        if let Some(timer) = member.timer {
            self.timers.remove(&(timer, key));
        }
        self.leave();
        self.tally.add(member.session.counts());
        if let Some(now) = told_at {
            self.handle_asked(now);
        }
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
