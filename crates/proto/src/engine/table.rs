//! The sessions, where they are reached, when they are due, and what is to be done.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::ops::Bound;
use std::time::Instant;

use bytes::Bytes;
use slab::Slab;

use super::interface::{ContentType, Effect, Endpoint, EngineSettings, Reply};
use super::packet::{self, Outgoing};
use super::session::{Closing, Poll, Session, Transport};
use super::sid;
use crate::socketio_server::Sockets;
use crate::{Charge, Guests, Kind, Port};

/// The part of the memory that may wait for all sessions that poll: so many times less.
const WAITING_SHARE: usize = 8;

/// The most that may wait for them, however much memory there is: their clients read little of it, and one client can send to all of them.
const MAX_WAITING_BYTES: usize = 128 << 20;

/// What a session takes that has nothing waiting, its entries in all tables included.
const SESSION_BYTES: usize = 256;

/// What is charged at a time for all sessions together.
const CHARGED_AT_ONCE: usize = 64 << 10;

#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) settings: EngineSettings,
    /// The sessions that each address has.
    pub(super) guests: Guests,
    sessions: Slab<Session>,
    /// Which session a connection belongs to, as long as that waits for something from it or has something for it.
    ports: HashMap<Port, u32, BuildHasherDefault<PortHasher>>,
    /// The deadline of each session, once.
    timers: BTreeSet<(Instant, u32)>,
    pub(crate) effects: VecDeque<Effect>,
    /// Sessions with a GET that waits and something to answer it with. It is answered when all is done, so that it takes all.
    ready: Vec<u32>,
    /// What Socket.IO has to clean up behind sessions that ended.
    departed: Vec<(u32, Sockets)>,
    /// What waits for all sessions that poll, and how many of them it waits for.
    held_bytes: usize,
    waiting: usize,
    charge: Charge,
    /// Packets sent to sessions since the loop has last done something else.
    pub(super) sent: usize,
}

/// Who ends a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    Server,
    Client,
    /// This connection, by its end: it is told nothing.
    Loss(Port),
}

impl Table {
    pub(super) fn new(settings: &EngineSettings) -> Table {
        Table {
            settings: settings.clone(),
            guests: Guests::new(settings.max_per_address),
            sessions: Slab::new(),
            ports: HashMap::default(),
            timers: BTreeSet::new(),
            effects: VecDeque::new(),
            ready: Vec::new(),
            departed: Vec::new(),
            held_bytes: 0,
            waiting: 0,
            charge: Charge::default(),
            sent: 0,
        }
    }

    /// Opens a session and returns where it is.
    pub(super) fn open(&mut self, session: Session) -> u32 {
        let deadline = session.deadline();
        let index = u32::try_from(self.sessions.insert(session)).expect("fewer sessions than connections");
        self.timers.insert((deadline, index));
        index
    }

    /// Ends a session at once. Whoever still waits for it is told.
    pub(super) fn close(&mut self, index: u32, by: By) {
        let Some(mut session) = self.sessions.try_remove(index as usize) else { return };
        self.timers.remove(&(session.deadline(), index));
        match &mut session.transport {
            Transport::WebSocket(port) => self.close_websocket(*port, by),
            Transport::Polling(polling) => {
                self.note_taken(polling.held_bytes);
                if let Some(Poll { port, .. }) = polling.poll.take() {
                    self.ports.remove(&port);
                    let last = if by == By::Client { packet::NOOP } else { packet::CLOSE };
                    polling.unsent.push(Outgoing::text(last));
                    if by != By::Loss(port) {
                        self.answer(port, 200, ContentType::Text, packet::encode_payload(&polling.unsent));
                    }
                }
                if let Some(port) = polling.post {
                    self.ports.remove(&port);
                }
                if let Some(Closing { port, .. }) = polling.closing {
                    self.ports.remove(&port);
                    if by != By::Loss(port) {
                        self.answer(port, 200, ContentType::Text, packet::OK);
                    }
                }
                if let Some(upgrade) = &polling.upgrade {
                    self.close_websocket(upgrade.port, by);
                }
            }
        }
        self.depart(index, session.sockets);
    }

    /// Keeps what Socket.IO has to clean up behind a session.
    pub(super) fn depart(&mut self, index: u32, sockets: Sockets) {
        if sockets.has_rooms() {
            self.departed.push((index, sockets));
        }
    }

    fn close_websocket(&mut self, port: Port, by: By) {
        self.ports.remove(&port);
        if by != By::Loss(port) {
            self.reply(port, Reply::Close);
        }
    }

    /// Sends a packet. A client that leaves too much behind is closed: what it would miss cannot be made good.
    pub(crate) fn send(&mut self, index: u32, kind: Kind, data: Bytes) {
        let Some(session) = self.sessions.get_mut(index as usize) else { return };
        self.sent += 1;
        match &mut session.transport {
            Transport::WebSocket(port) => {
                let port = *port;
                self.reply(port, Reply::Send { kind, data });
            }
            Transport::Polling(polling) => {
                let packet = Outgoing { kind, data };
                let bytes = polling.unsent_bytes + packet.cost_bytes();
                // A single packet may be longer than the limit: who polls is never closed for it.
                let held_bytes = packet.held_bytes();
                let limit = (self.settings.memory.max_bytes() / WAITING_SHARE).min(MAX_WAITING_BYTES);
                // When all together leave too much, each may leave its equal part of that.
                let is_too_much = self.held_bytes + held_bytes > limit
                    && polling.held_bytes + held_bytes > limit / self.waiting.max(1);
                if (bytes > self.settings.max_unsent_bytes || is_too_much) && !polling.unsent.is_empty() {
                    return self.close(index, By::Server);
                }
                self.waiting += usize::from(polling.unsent.is_empty());
                self.held_bytes += held_bytes;
                polling.held_bytes += held_bytes;
                if polling.unsent.is_empty() && polling.poll.is_some() {
                    self.ready.push(index);
                }
                polling.unsent.push(packet);
                polling.unsent_bytes = bytes;
            }
        }
    }

    /// Answers the GETs that have waited for what was sent.
    pub(super) fn answer_ready(&mut self) {
        while let Some(index) = self.ready.pop() {
            self.answer_poll(index);
        }
    }

    /// Answers the GET of a session, if there is one and something to say.
    pub(super) fn answer_poll(&mut self, index: u32) {
        let Some(polling) = self.get_mut(index).and_then(Session::polling) else { return };
        let held_bytes = polling.held_bytes;
        if let Some(Poll { port, .. }) = polling.poll
            && let Some(payload) = polling.take_payload()
        {
            polling.poll = None;
            self.note_taken(held_bytes);
            self.ports.remove(&port);
            self.answer(port, 200, ContentType::Text, payload);
        }
    }

    /// Takes note that a session has been sent what waited for it, or that nobody will be.
    pub(super) fn note_taken(&mut self, held_bytes: usize) {
        // Each packet takes some.
        self.waiting -= usize::from(held_bytes > 0);
        self.held_bytes -= held_bytes;
    }

    /// Charges what is held, `others` in the sessions' rooms. False: one more session would be too much.
    pub(super) fn account(&mut self, others: usize) -> bool {
        let bytes = self.sessions.len() * SESSION_BYTES + self.held_bytes + others;
        let _ = self.charge.set(&self.settings.memory, bytes / CHARGED_AT_ONCE * CHARGED_AT_ONCE);
        !self.settings.memory.is_used_up()
    }

    /// Changes what a deadline may follow from.
    pub(crate) fn change<R>(&mut self, index: u32, change: impl FnOnce(&mut Session) -> R) -> Option<R> {
        let session = self.sessions.get_mut(index as usize)?;
        let before = session.deadline();
        let result = change(session);
        let after = session.deadline();
        if before != after {
            self.timers.remove(&(before, index));
            self.timers.insert((after, index));
        }
        Some(result)
    }

    /// The next session whose time has come, behind one that was looked at.
    pub(super) fn due(&self, now: Instant, looked_at: Option<(Instant, u32)>) -> Option<(Instant, u32)> {
        let from = looked_at.map_or(Bound::Unbounded, Bound::Excluded);
        self.timers.range((from, Bound::Unbounded)).next().filter(|(deadline, _)| *deadline <= now).copied()
    }

    pub(super) fn next_deadline_after(&self, now: Instant) -> Option<Instant> {
        self.timers.range((Bound::Excluded((now, u32::MAX)), Bound::Unbounded)).next().map(|(due, _)| *due)
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.timers.first().map(|(deadline, _)| *deadline)
    }

    /// The session that a `sid` names on this path, if its secret is right.
    pub(super) fn find(&self, sid: &str, endpoint: Endpoint) -> Option<u32> {
        let (index, secret) = sid::decode(sid)?;
        let session = self.sessions.get(index as usize)?;
        (sid::is_same(&session.secret, &secret) && session.endpoint == endpoint).then_some(index)
    }

    pub(crate) fn get(&self, index: u32) -> Option<&Session> {
        self.sessions.get(index as usize)
    }

    /// For changes that no deadline follows from.
    pub(crate) fn get_mut(&mut self, index: u32) -> Option<&mut Session> {
        self.sessions.get_mut(index as usize)
    }

    pub(super) fn len(&self) -> usize {
        self.sessions.len()
    }

    /// All places where a session may be.
    pub(crate) fn indices(&self) -> impl Iterator<Item = u32> + use<> {
        0..self.sessions.capacity() as u32
    }

    pub(super) fn session_of(&self, port: Port) -> Option<u32> {
        self.ports.get(&port).copied()
    }

    pub(super) fn attach(&mut self, port: Port, index: u32) {
        self.ports.insert(port, index);
    }

    pub(super) fn detach(&mut self, port: Port) {
        self.ports.remove(&port);
    }

    pub(super) fn take_departed(&mut self) -> Vec<(u32, Sockets)> {
        std::mem::take(&mut self.departed)
    }

    pub(super) fn reply(&mut self, port: Port, reply: Reply) {
        self.effects.push_back(Effect::Reply(port, reply));
    }

    pub(super) fn answer(&mut self, port: Port, status: u16, content_type: ContentType, body: Bytes) {
        self.reply(port, Reply::Answer { status, content_type, body });
    }
}

/// Ports are numbers that the server gave, not clients: they need to be spread, not to be safe (multiplicative hashing, Knuth, The Art of
/// Computer Programming, volume 3, section 6.4).
#[derive(Debug, Default)]
struct PortHasher(u64);

impl Hasher for PortHasher {
    fn write_u64(&mut self, number: u64) {
        let product = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        // The low bits of a product know nothing of the high bits of the number.
        self.0 = product ^ (product >> 32);
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(self.0 ^ u64::from(*byte)));
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
