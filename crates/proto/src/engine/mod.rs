//! Engine.IO v4 as a server speaks it (<https://socket.io/docs/v4/engine-io-protocol/>): every session of one server.
//!
//! A session outlives its connections. While it polls, each GET and each POST may come over a connection of its own, and then a
//! WebSocket takes over. So sessions are not in a [`crate::Session`], which is one connection, but here, where all connections of a server
//! are only names ([`Port`]). Requests come in by [`Engines::handle`]; what is to be done about them is asked for by
//! [`Engines::poll_effect`]. Both are plain data: a connection may well live in another process.
//!
//! ```text
//!                GET (handshake)                    WebSocket (handshake)
//!                      ▼                                     ▼
//!     POST ──►      Polling  ── 2probe, 3probe, 5 ──►    WebSocket  ◄──► messages
//!     GET  ◄──         │                                     │
//!                      └──► ended: packet 1, a bad packet, a connection lost, no pong, too much unsent
//! ```
//!
//! In reading order: `interface`, what goes in and out; this file, the doors; `http` and `websocket`, the two transports; `table`, what all of
//! them change; `session`, `packet` and `sid`, what it is made of. What is spoken on top is in `socketio_server`.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

mod http;
mod interface;
mod packet;
mod session;
mod sid;
mod table;
mod websocket;

pub use interface::{
    ContentType, Effect, Endpoint, EngineSettings, Publish, Published, Query, Receipt, Reply, Request, Since,
};
pub(crate) use packet::CLOSE as CLOSE_PACKET;
pub(crate) use packet::PING as PING_PACKET;
pub(crate) use sid::random;
pub(crate) use table::Table;

use crate::socketio_server::{Malformed, Server};
use crate::{Kind, Port, TopicName};
use packet::Incoming;
use session::Session;
use table::By;

/// How long a WebSocket may take from its handshake to the packet that makes it the transport: as in the reference server.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a packet on one connection may take longer than a request on another that was sent after it: they are read by different
/// processes or threads, perhaps. Where the order matters, so long is waited for it.
const OVERTAKING: Duration = Duration::from_millis(25);

/// Packets that may be sent to sessions before a loop does something else: one body may hold a hundred thousand events for a thousand sessions.
const MAX_SENT: usize = 16 << 10;

/// Every Engine.IO session of one server, and the Socket.IO server on top of them.
///
/// After each call take the effects until there are none.
#[derive(Debug)]
pub struct Engines {
    table: Table,
    socketio: Server,
    /// Bodies that are read on once what they have led to so far is taken.
    backlog: VecDeque<http::Posted>,
    /// The server ends.
    is_ending: bool,
}

impl Engines {
    /// A server without sessions.
    pub fn new(settings: &EngineSettings) -> Engines {
        Engines {
            table: Table::new(settings),
            socketio: Server::new(),
            backlog: VecDeque::new(),
            is_ending: false,
        }
    }

    /// Takes what a connection asks for. A port that has ended must be told by [`Request::Gone`] before its number is used again.
    pub fn handle(&mut self, port: Port, request: Request, now: Instant) {
        match request {
            Request::Message { kind, data } => self.message(port, kind, data, now),
            Request::Get(query) => self.get(port, &query, now),
            Request::Post { query, content_type, body } => {
                self.post(port, &query, content_type.as_deref(), body, now);
            }
            Request::PostBegun(query) => self.post_begun(port, &query),
            Request::PostTooLong => self.post_too_long(port),
            Request::OtherMethod(query) => self.other_method(port, &query),
            Request::Upgrade(query) => self.upgrade(port, &query, now),
            Request::PingWaits => self.change_patience(port, later(now, NEVER)),
            Request::PingSent => self.change_patience(port, later(now, self.table.settings.ping_timeout)),
            Request::Gone => self.gone(port),
        }
        self.settle();
    }

    /// Delivers what was published, by whichever mechanism, to the Socket.IO clients that are to have it: the sockets in the room of the
    /// topic's name, and for `chat` all of `/`. `receipt` comes from the [`Effect::Publish`] that led to it, if one did; so who published is
    /// told the number, and nobody gets a message twice.
    pub fn published(&mut self, message: Published<'_>, receipt: Option<Receipt>, _now: Instant) {
        self.socketio.published(&mut self.table, message, receipt);
        self.settle();
    }

    /// Tells who wanted to publish by [`Effect::Publish`] that it was refused, and why.
    pub fn not_published(&mut self, receipt: Receipt, reason: &str, _now: Instant) {
        self.socketio.not_published(&mut self.table, receipt, reason);
        self.settle();
    }

    /// Tells who asked by [`Effect::Since`] what there is: `found` is a JSON object. It comes behind all that was published before, and none of that comes
    /// after it.
    pub fn tell_since(&mut self, receipt: Receipt, found: &str, _now: Instant) {
        self.socketio.tell_since(&mut self.table, receipt, found);
        self.settle();
    }

    /// The next thing to be done, in order.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        while self.table.effects.is_empty()
            && self.table.sent <= MAX_SENT
            && let Some(posted) = self.backlog.pop_front()
        {
            self.read_on(posted);
            self.settle();
        }
        self.table.effects.pop_front()
    }

    /// A room that somebody has entered first (true) or left last, in order: it subscribes to the topic of its name.
    pub fn poll_room(&mut self) -> Option<(TopicName, bool)> {
        self.socketio.poll_room()
    }

    /// When [`handle_timeout`](Engines::handle_timeout) should be called, if nothing else happens before.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.read_on_at().into_iter().chain(self.table.next_deadline()).min()
    }

    /// When it should be called because something comes due after `now`.
    pub(crate) fn poll_timeout_after(&self, now: Instant) -> Option<Instant> {
        self.read_on_at().into_iter().chain(self.table.next_deadline_after(now)).min()
    }

    /// The earliest deadline of a session: what its client is judged by.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.table.next_deadline()
    }

    /// What was enough for once goes on in the next turn of the loop.
    fn read_on_at(&self) -> Option<Instant> {
        self.backlog.front().map(|posted| posted.now)
    }

    /// Does what is due at `now`. Harmless when nothing is. All that clients have sent until then must have been handed over.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.handle_timeout_as_heard(now, Some(now));
    }

    /// Does what is due at `now`, but judges clients only by what was due at `heard`: all that they had sent by then is
    /// handed over. `None`: judges nobody.
    pub fn handle_timeout_as_heard(&mut self, now: Instant, heard: Option<Instant>) {
        self.table.sent = 0;
        let mut looked_at = None;
        while let Some(due) = self.table.due(now, looked_at) {
            if !self.expire(due.1, now, heard) {
                // What is not judged yet stays where it is, overdue.
                looked_at = Some(due);
            }
        }
        self.settle();
    }

    /// Ends each session that polls with its GET, because the server ends: with the one that waits, or with the next, which brings what waits for it.
    pub fn close_polls(&mut self) {
        self.is_ending = true;
        for index in self.table.indices() {
            let polling = self.table.get_mut(index).and_then(Session::polling);
            if polling.is_some_and(|polling| polling.poll.is_some()) {
                self.table.close(index, By::Server);
            }
        }
        self.settle();
    }

    /// Ends all sessions, because the server ends: sockets are disconnected, GETs that wait are answered.
    pub fn close_all(&mut self, _now: Instant) {
        for index in self.table.indices() {
            self.socketio.disconnect_all(&mut self.table, index);
            self.table.close(index, By::Server);
        }
        self.settle();
    }

    /// Sessions that are open.
    pub fn sessions(&self) -> usize {
        self.table.len()
    }

    /// Effects that are not taken yet: about a thousand, and what one packet leads to, at the most.
    pub fn effects_waiting(&self) -> usize {
        self.table.effects.len()
    }

    /// The heartbeat and whatever else a session waits for. What is not due is left alone. `heard`: a client is judged by what was due then, since
    /// all that it had sent by then is known. `false`: nothing was done.
    fn expire(&mut self, index: u32, now: Instant, heard: Option<Instant>) -> bool {
        let is_judged = |due: Instant| heard.is_some_and(|heard| due <= heard);
        let patience = self.table.settings.ping_timeout;
        let Some(session) = self.table.get_mut(index) else { return false };
        if session.sockets.connect_by().is_some_and(is_judged) {
            self.table.close(index, By::Server);
            return true;
        }
        if let Some(polling) = session.polling() {
            if polling.closing.as_ref().is_some_and(|closing| is_judged(closing.until)) {
                self.table.close(index, By::Client);
                return true;
            }
            let upgrade = polling.upgrade.as_ref();
            if upgrade.is_some_and(|upgrade| is_judged(upgrade.finish_by)) {
                self.abandon_upgrade(index, false);
                return true;
            }
            if upgrade.is_some_and(|upgrade| upgrade.release_at.is_some_and(|due| due <= now)) {
                self.release(index);
                return true;
            }
        }
        let due = session.heartbeat;
        if due > now {
            return false;
        }
        if !session.pinged {
            // Patience counts from when the ping is sent, however late that is.
            self.table.change(index, |session| {
                (session.pinged, session.heard, session.heartbeat) = (true, false, later(now, patience));
            });
            self.table.send(index, Kind::Text, packet::PING);
        } else if session.heard {
            self.table.change(index, |session| {
                (session.heard, session.heartbeat) = (false, later(now, patience));
            });
        } else if is_judged(due) {
            self.table.close(index, By::Server);
        } else {
            return false;
        }
        true
    }

    /// Changes until when the answer to a ping is waited for, if one is. As long as the ping waits to be sent its connection looks after the client.
    fn change_patience(&mut self, port: Port, until: Instant) {
        if let Some(index) = self.table.session_of(port)
            && self.table.get(index).is_some_and(|session| session.pinged)
        {
            self.table.change(index, |session| session.heartbeat = until);
        }
    }

    /// Takes a packet of a session from either transport. `false`: the session has ended by it.
    fn receive(&mut self, index: u32, packet: Option<Incoming>, now: Instant) -> bool {
        let Some(session) = self.table.get_mut(index) else { return false };
        session.heard = true;
        let is_bare = session.endpoint == Endpoint::Bare;
        let result = match packet {
            Some(Incoming::Text(data)) if is_bare => {
                self.table.send(index, Kind::Text, data);
                Ok(())
            }
            Some(Incoming::Binary(data)) if is_bare => {
                self.table.send(index, Kind::Binary, data);
                Ok(())
            }
            Some(Incoming::Text(data)) => self.socketio.receive_text(&mut self.table, index, &data),
            Some(Incoming::Binary(data)) => self.socketio.receive_binary(&mut self.table, index, data),
            Some(Incoming::Pong) => {
                if session.pinged {
                    let next = later(now, self.table.settings.ping_interval);
                    self.table.change(index, |session| {
                        (session.pinged, session.heartbeat) = (false, next);
                    });
                }
                Ok(())
            }
            Some(Incoming::Close) => {
                self.table.close(index, By::Client);
                Ok(())
            }
            Some(Incoming::Ignored) => Ok(()),
            None => Err(Malformed),
        };
        if result == Err(Malformed) {
            self.table.close(index, By::Server);
        }
        self.table.get(index).is_some()
    }

    fn gone(&mut self, port: Port) {
        let Some(index) = self.table.session_of(port) else { return };
        let upgrade =
            self.table.get_mut(index).and_then(Session::polling).and_then(|polling| polling.upgrade.as_ref());
        if upgrade.is_some_and(|upgrade| upgrade.port == port) {
            self.abandon_upgrade(index, true);
        } else {
            self.table.close(index, By::Loss(port));
        }
    }

    fn settle(&mut self) {
        self.table.answer_ready();
        self.table.account(self.socketio.held_bytes());
        for (index, sockets) in self.table.take_departed() {
            self.socketio.forget(index, &sockets);
        }
    }
}

/// A hundred years.
const NEVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// `from` and a period later, or, if a clock cannot say so, never.
pub(crate) fn later(from: Instant, period: Duration) -> Instant {
    from.checked_add(period).unwrap_or_else(|| from + NEVER)
}
