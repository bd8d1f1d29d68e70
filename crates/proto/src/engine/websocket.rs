//! The transport that is a WebSocket, and how a session comes to it (protocol sections "WebSocket" and "Upgrade").

use std::time::Instant;

use bytes::Bytes;

use super::http::{Method, Refusal};
use super::interface::{ContentType, Query, Reply};
use super::packet;
use super::session::{Session, Transport, Upgrade};
use super::table::By;
use super::{Engines, OVERTAKING, UPGRADE_TIMEOUT, later};
use crate::{Kind, Port};

impl Engines {
    pub(super) fn upgrade(&mut self, port: Port, query: &Query, now: Instant) {
        match self.check(query, Method::Upgrade) {
            Err(refusal) => self.refuse(port, refusal),
            Ok(None) => match self.handshake(query, Some(port), now) {
                Ok(data) => {
                    self.table.reply(port, Reply::Accept);
                    self.table.reply(port, Reply::Send { kind: Kind::Text, data });
                }
                Err(refusal) => self.refuse(port, refusal),
            },
            Ok(Some(index)) => {
                let is_upgrade = self.table.change(index, |session| {
                    let finish_by = later(now, UPGRADE_TIMEOUT);
                    let free = session.polling().filter(|polling| polling.upgrade.is_none())?;
                    free.upgrade = Some(Upgrade { port, probed: false, release_at: None, finish_by });
                    Some(())
                });
                self.table.reply(port, Reply::Accept);
                match is_upgrade.flatten() {
                    Some(()) => self.table.attach(port, index),
                    // "A client MUST NOT open more than one WebSocket connection per session." The first one goes on.
                    None => self.table.reply(port, Reply::Close),
                }
            }
        }
    }

    pub(super) fn message(&mut self, port: Port, kind: Kind, data: Bytes, now: Instant) {
        let Some(index) = self.table.session_of(port) else { return };
        let is_too_long = data.len() > self.table.settings.max_payload_bytes;
        match self.table.get(index).map(|session| &session.transport) {
            Some(Transport::WebSocket(_)) if is_too_long => self.table.close(index, By::Server),
            Some(Transport::WebSocket(_)) => {
                self.receive(index, packet::decode(kind, data), now);
            }
            Some(Transport::Polling(polling))
                if polling.upgrade.as_ref().is_some_and(|upgrade| upgrade.port == port) =>
            {
                self.probe(index, port, kind, &data, now);
            }
            _ => {}
        }
    }

    /// A message on a WebSocket that is not the transport yet. Anything but the two packets that make it one ends it; the session goes on
    /// polling.
    fn probe(&mut self, index: u32, port: Port, kind: Kind, data: &[u8], now: Instant) {
        match data {
            packet::PROBE if kind == Kind::Text => {
                let upgrade = self.table.get_mut(index).and_then(Session::polling);
                if let Some(upgrade) = upgrade.and_then(|polling| polling.upgrade.as_mut()) {
                    upgrade.probed = true;
                }
                self.table.reply(port, Reply::Send { kind: Kind::Text, data: packet::PROBE_ANSWER });
                self.release_later(index, now);
            }
            packet::UPGRADE if kind == Kind::Text => {
                let before = self.table.change(index, |session| {
                    std::mem::replace(&mut session.transport, Transport::WebSocket(port))
                });
                let Some(Transport::Polling(polling)) = before else { return };
                self.table.note_taken(polling.held_bytes);
                if let Some(poll) = polling.poll {
                    self.table.detach(poll.port);
                    if now < later(poll.since, OVERTAKING) {
                        // It has overtaken the packet, or should not have been sent.
                        self.refuse(poll.port, Refusal::BadRequest);
                    } else {
                        self.table.answer(poll.port, 200, ContentType::Text, packet::NOOP);
                    }
                }
                if let Some(post) = polling.post {
                    self.table.detach(post);
                }
                for packet in polling.unsent {
                    self.table.reply(port, Reply::Send { kind: packet.kind, data: packet.data });
                }
            }
            _ => self.abandon_upgrade(index, false),
        }
    }

    /// Sees to it that a GET is not held while the client waits for it to come back before it completes the upgrade.
    pub(super) fn release_later(&mut self, index: u32, now: Instant) {
        self.table.change(index, |session| {
            let polling = session.polling()?;
            let upgrade = polling.upgrade.as_mut().filter(|upgrade| upgrade.probed)?;
            upgrade.release_at = polling.poll.is_some().then(|| later(now, OVERTAKING));
            Some(())
        });
    }

    /// Answers the GET that waits with a noop.
    pub(super) fn release(&mut self, index: u32) {
        self.table.change(index, |session| session.polling()?.upgrade.as_mut()?.release_at.take());
        if self.table.get_mut(index).and_then(Session::polling).is_some_and(|polling| polling.poll.is_some())
        {
            self.table.send(index, Kind::Text, packet::NOOP);
        }
    }

    /// Ends the attempt of a WebSocket to become the transport; `is_lost`: its connection is gone already.
    pub(super) fn abandon_upgrade(&mut self, index: u32, is_lost: bool) {
        let upgrade = self.table.change(index, |session| session.polling()?.upgrade.take());
        if let Some(upgrade) = upgrade.flatten() {
            self.table.detach(upgrade.port);
            if !is_lost {
                self.table.reply(upgrade.port, Reply::Close);
            }
        }
    }
}
