//! Handshakes, and the transport that is made of GET and POST (protocol sections "Handshake" and "HTTP long-polling").

use std::time::Instant;

use bytes::{Buf, Bytes};

use super::interface::{ContentType, Effect, Endpoint, Query, Reply};
use super::packet::{self, SEPARATOR};
use super::session::{Closing, Poll, Polling, Session, Transport};
use super::table::By;
use super::{Engines, MAX_SENT, OVERTAKING, later, sid};
use crate::socketio_server::Sockets;
use crate::{Kind, OverBudget, Port, TooManyGuests};

/// Effects that may wait to be taken before a body is read on.
const MAX_EFFECTS: usize = 1024;

/// Why a request is refused: the codes of the reference server, which clients know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    TransportUnknown = 0,
    SessionUnknown = 1,
    BadHandshakeMethod = 2,
    BadRequest = 3,
    Full = 4,
    UnsupportedVersion = 5,
    NoMemory = 6,
    TooManyGuests = 7,
}

/// The rest of the body of a POST.
#[derive(Debug)]
pub(super) struct Posted {
    port: Port,
    index: u32,
    endpoint: Endpoint,
    sid: String,
    body: Bytes,
    /// Packets were taken from its front.
    is_begun: bool,
    pub(super) now: Instant,
}

/// How a request came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    Get,
    Upgrade,
    Other,
}

impl Engines {
    pub(super) fn get(&mut self, port: Port, query: &Query, now: Instant) {
        match self.check(query, Method::Get) {
            Err(refusal) => self.refuse(port, refusal),
            Ok(None) => match self.handshake(query, None, now) {
                Ok(opening) => self.table.answer(port, 200, ContentType::Text, opening),
                Err(refusal) => self.refuse(port, refusal),
            },
            Ok(Some(index)) => {
                let Some(polling) = self.table.get_mut(index).and_then(Session::polling) else { return };
                if polling.poll.is_some() {
                    return self.end(index, port);
                }
                polling.poll = Some(Poll { port, since: now });
                let is_closing = polling.closing.is_some();
                self.table.attach(port, index);
                if is_closing {
                    return self.table.close(index, By::Client);
                }
                if self.is_ending {
                    return self.table.close(index, By::Server);
                }
                self.table.answer_poll(index);
                self.release_later(index, now);
            }
        }
    }

    pub(super) fn post_begun(&mut self, port: Port, query: &Query) {
        match self.check(query, Method::Other) {
            Ok(Some(index)) => {
                let Some(polling) = self.table.get_mut(index).and_then(Session::polling) else { return };
                if polling.post.is_some() {
                    return self.end(index, port);
                }
                polling.post = Some(port);
                self.table.attach(port, index);
            }
            Ok(None) => self.refuse(port, Refusal::BadHandshakeMethod),
            Err(refusal) => self.refuse(port, refusal),
        }
    }

    pub(super) fn post_too_long(&mut self, port: Port) {
        let session = self.table.session_of(port).and_then(|index| self.table.get_mut(index));
        if let Some(polling) = session.and_then(Session::polling)
            && polling.post.take_if(|begun| *begun == port).is_some()
        {
            self.table.detach(port);
        }
    }

    pub(super) fn post(
        &mut self,
        port: Port,
        query: &Query,
        content_type: Option<&str>,
        body: Bytes,
        now: Instant,
    ) {
        let index = match self.check(query, Method::Other) {
            Ok(Some(index)) => index,
            Ok(None) => return self.refuse(port, Refusal::BadHandshakeMethod),
            Err(refusal) => return self.refuse(port, refusal),
        };
        let Some(polling) = self.table.get_mut(index).and_then(Session::polling) else { return };
        if polling.post.is_some_and(|begun| begun != port) {
            return self.end(index, port);
        }
        self.end_post(index, port);
        let limit = self.table.settings.max_payload_bytes;
        if body.len() > limit {
            let sentence = format!("The body has {} bytes; maxPayload is {limit}.\n", body.len());
            return self.table.answer(port, 413, ContentType::Text, sentence.into());
        }
        // In version 4 a payload is text, whatever its packets hold.
        let is_text = !content_type.is_some_and(is_octet_stream) && std::str::from_utf8(&body).is_ok();
        if !is_text {
            return self.end(index, port);
        }
        let sid = query.sid.clone().unwrap_or_default();
        self.read_on(Posted { port, index, endpoint: query.endpoint, sid, body, is_begun: false, now });
    }

    /// Takes note that a POST has come to its end, if it was known that it had begun.
    fn end_post(&mut self, index: u32, port: Port) {
        if let Some(polling) = self.table.get_mut(index).and_then(Session::polling)
            && polling.post.take_if(|begun| *begun == port).is_some()
        {
            self.table.detach(port);
        }
    }

    /// Receives the packets of a body, until what they lead to is enough for once: one packet may be an event for everybody, and a body may
    /// hold a hundred thousand of them.
    pub(super) fn read_on(&mut self, mut posted: Posted) {
        let Posted { port, index, now, .. } = posted;
        if self.table.find(&posted.sid, posted.endpoint) != Some(index) {
            return self.refuse(port, Refusal::BadRequest);
        }
        self.end_post(index, port);
        loop {
            let end = memchr::memchr(SEPARATOR, &posted.body);
            // An echo of a piece would keep the whole body in memory for as long as it waits.
            let piece = match end {
                Some(end) => Bytes::copy_from_slice(&posted.body[..end]),
                None if posted.is_begun => Bytes::copy_from_slice(&posted.body),
                None => posted.body.clone(),
            };
            posted.is_begun = true;
            let packet = packet::decode(Kind::Text, piece);
            if packet == Some(packet::Incoming::Close) {
                return self.close_by_post(index, port, now);
            }
            if !self.receive(index, packet, now) {
                return self.refuse(port, Refusal::BadRequest);
            }
            match end {
                Some(end) => posted.body.advance(end + 1),
                None => break,
            }
            // A question is answered before what stands behind it is read: the answer has its place among what that leads to.
            let has_asked = matches!(self.table.effects.back(), Some(Effect::Since(_)));
            if has_asked || self.table.effects.len() > MAX_EFFECTS || self.table.sent > MAX_SENT {
                // Its session may send no other POST until this one is answered.
                if let Some(polling) = self.table.get_mut(index).and_then(Session::polling) {
                    polling.post = Some(port);
                    self.table.attach(port, index);
                }
                return self.backlog.push_back(posted);
            }
        }
        self.table.answer(port, 200, ContentType::Text, packet::OK);
    }

    /// Ends a session whose client says so. The GET that waits is answered with it; if none does it may have been overtaken by the POST, and
    /// only the answer to the POST tells the client that it is over.
    fn close_by_post(&mut self, index: u32, port: Port, now: Instant) {
        self.abandon_upgrade(index, false);
        let sockets = self.table.change(index, |session| {
            let polling = session.polling().filter(|polling| polling.poll.is_none())?;
            polling.closing = Some(Closing { port, until: later(now, OVERTAKING) });
            Some(std::mem::take(&mut session.sockets))
        });
        if let Some(sockets) = sockets.flatten() {
            self.table.attach(port, index);
            self.table.depart(index, sockets);
        } else {
            self.table.close(index, By::Client);
            self.table.answer(port, 200, ContentType::Text, packet::OK);
        }
    }

    pub(super) fn other_method(&mut self, port: Port, query: &Query) {
        let refusal = match self.check(query, Method::Other) {
            Ok(None) => Refusal::BadHandshakeMethod,
            Ok(Some(_)) => Refusal::BadRequest,
            Err(refusal) => refusal,
        };
        self.refuse(port, refusal);
    }

    /// Which session a request is for; `None`: it asks for one.
    pub(super) fn check(&self, query: &Query, method: Method) -> Result<Option<u32>, Refusal> {
        let is_websocket = match &*query.transport {
            "polling" => false,
            "websocket" => true,
            _ => return Err(Refusal::TransportUnknown),
        };
        let mut found = None;
        match query.sid.as_deref().filter(|sid| !sid.is_empty()) {
            Some(sid) => {
                let index = self.table.find(sid, query.endpoint).ok_or(Refusal::SessionUnknown)?;
                let session = self.table.get(index).ok_or(Refusal::SessionUnknown)?;
                // Once it has been upgraded a session polls no more. A second WebSocket is for `upgrade` to judge.
                if method != Method::Upgrade
                    && (is_websocket || matches!(session.transport, Transport::WebSocket(_)))
                {
                    return Err(Refusal::BadRequest);
                }
                if method != Method::Get && session.is_closing() {
                    return Err(Refusal::SessionUnknown);
                }
                found = Some(index);
            }
            None if method == Method::Other => return Err(Refusal::BadHandshakeMethod),
            None => {}
        }
        if is_websocket != (method == Method::Upgrade) {
            return Err(Refusal::BadRequest);
        }
        if query.eio != "4" {
            return Err(Refusal::UnsupportedVersion);
        }
        Ok(found)
    }

    /// Opens a session, on a WebSocket if there is one, and returns its first packet.
    pub(super) fn handshake(
        &mut self,
        query: &Query,
        websocket: Option<Port>,
        now: Instant,
    ) -> Result<Bytes, Refusal> {
        let has_memory = self.table.account(self.socketio.held_bytes());
        let settings = &self.table.settings;
        if settings.max_sessions.is_some_and(|limit| self.table.len() >= limit) {
            return Err(Refusal::Full);
        }
        if !has_memory {
            return Err(Refusal::NoMemory);
        }
        let Ok(guest) = self.table.guests.admit(query.from) else { return Err(Refusal::TooManyGuests) };
        let endpoint = query.endpoint;
        let secret = sid::random();
        let connect_by = (endpoint == Endpoint::SocketIo).then(|| later(now, settings.connect_timeout));
        let (transport, upgrades) = match websocket {
            Some(port) => (Transport::WebSocket(port), ""),
            None => (Transport::Polling(Box::<Polling>::default()), r#""websocket""#),
        };
        let (interval, timeout, limit) =
            (settings.ping_interval, settings.ping_timeout, settings.max_payload_bytes);
        let index = self.table.open(Session {
            secret,
            endpoint,
            pinged: false,
            heard: false,
            heartbeat: later(now, interval),
            transport,
            _guest: guest.map(Box::new),
            sockets: Sockets::new(connect_by),
        });
        if let Some(port) = websocket {
            self.table.attach(port, index);
        }
        let (sid, interval, timeout) =
            (sid::encode(index, &secret), interval.as_millis(), timeout.as_millis());
        Ok(format!(
            r#"0{{"sid":"{sid}","upgrades":[{upgrades}],"pingInterval":{interval},"pingTimeout":{timeout},"maxPayload":{limit}}}"#
        )
        .into())
    }

    /// Ends a session because of a request that must not be; that is answered 400.
    fn end(&mut self, index: u32, port: Port) {
        self.table.close(index, By::Server);
        self.refuse(port, Refusal::BadRequest);
    }

    pub(super) fn refuse(&mut self, port: Port, refusal: Refusal) {
        let reply = self.refusal(refusal);
        self.table.reply(port, reply);
    }

    fn refusal(&self, refusal: Refusal) -> Reply {
        let limit;
        let is_refused = matches!(refusal, Refusal::Full | Refusal::NoMemory | Refusal::TooManyGuests);
        let message = match refusal {
            Refusal::TransportUnknown => "Transport unknown",
            Refusal::SessionUnknown => "Session ID unknown",
            Refusal::BadHandshakeMethod => "Bad handshake method",
            Refusal::BadRequest => "Bad request",
            Refusal::UnsupportedVersion => "Unsupported protocol version",
            Refusal::NoMemory => {
                limit = OverBudget.to_string();
                &limit
            }
            Refusal::TooManyGuests => {
                let max = self.table.settings.max_per_address.unwrap_or_default();
                limit = TooManyGuests { max }.to_string();
                &limit
            }
            Refusal::Full => {
                let sessions = self.table.len();
                limit =
                    format!("All {sessions} sessions are in use: try again later or raise --max-sessions");
                &limit
            }
        };
        Reply::Answer {
            status: if is_refused { 503 } else { 400 },
            content_type: ContentType::Json,
            // Clients know no code for the others.
            body: format!(
                r#"{{"code":{},"message":"{message}"}}"#,
                if is_refused { 4 } else { refusal as u8 }
            )
            .into(),
        }
    }
}

fn is_octet_stream(content_type: &str) -> bool {
    let media_type = content_type.split(';').next().unwrap_or_default();
    media_type.trim().eq_ignore_ascii_case("application/octet-stream")
}
