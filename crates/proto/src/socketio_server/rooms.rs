//! Rooms, and what is published on the topics of the same names.

use std::collections::BTreeSet;

use super::events::{CHAT_EVENT, CHAT_TOPIC, acknowledge};
use super::sockets::Socket;
use super::{Emission, Namespace, Sender, Server, Sockets, is_connected, payload};
use crate::engine::{Published, Receipt, Table};
use crate::{Kind, TopicName};

/// The sockets in a room, as sessions and namespaces.
pub(super) type Members = BTreeSet<(u32, Namespace)>;

/// What a socket's being in a room takes, with the room's own part: its name stands with the socket, with the room, and with the topic.
fn member_bytes(room: &str) -> usize {
    3 * room.len() + 128
}

impl Server {
    pub(super) fn enter(&mut self, room: &TopicName, sender: Sender) {
        let member = (sender.session, sender.namespace);
        self.rooms_bytes += member_bytes(room);
        match self.rooms.get_mut(room) {
            Some(members) => members.insert(member),
            None => {
                self.room_changes.push_back((room.clone(), true));
                self.rooms.entry(room.clone()).or_default().insert(member)
            }
        };
    }

    pub(super) fn exit(&mut self, room: &str, sender: Sender) {
        let Some(members) = self.rooms.get_mut(room) else { return };
        if members.remove(&(sender.session, sender.namespace)) {
            self.rooms_bytes -= member_bytes(room);
        }
        if members.is_empty()
            && let Some((room, _)) = self.rooms.remove_entry(room)
        {
            self.room_changes.push_back((room, false));
        }
    }

    /// What rooms and their members take.
    pub(crate) fn held_bytes(&self) -> usize {
        self.rooms_bytes
    }

    pub(crate) fn poll_room(&mut self) -> Option<(TopicName, bool)> {
        self.room_changes.pop_front()
    }

    pub(super) fn leave_all(&mut self, sender: Sender, socket: &Socket) {
        for room in socket.rooms() {
            self.exit(room, sender);
        }
    }

    /// Takes the sockets of a session that has ended out of their rooms.
    pub(crate) fn forget(&mut self, session: u32, sockets: &Sockets) {
        for namespace in Namespace::ALL {
            if let Some(socket) = sockets.get(namespace) {
                self.leave_all(Sender { session, namespace }, socket);
            }
        }
    }

    /// Delivers what was published, by whomever.
    pub(crate) fn published(&mut self, table: &mut Table, message: Published<'_>, receipt: Option<Receipt>) {
        if let Some(receipt) = receipt.filter(|receipt| is_there(table, receipt)) {
            let sender = Sender { session: receipt.session, namespace: receipt.namespace };
            acknowledge(table, sender, receipt.ack, Ok(message.id.to_string()));
        }
        // The sockets of the namespace where it was said have heard it.
        let told = receipt.filter(|receipt| receipt.is_chat).map(|receipt| receipt.namespace);
        let is_chat = message.topic == CHAT_TOPIC && told != Some(Namespace::Main);
        let members = self.rooms.get(message.topic);
        // Most of what is published is for nobody here.
        if members.is_none() && !is_chat {
            return;
        }
        let (data, attachments) = match message.kind {
            Kind::Text => (payload::quoted(&String::from_utf8_lossy(message.data)), Vec::new()),
            Kind::Binary => (r#"{"_placeholder":true,"num":0}"#.to_owned(), vec![message.data.clone()]),
        };
        if is_chat {
            let name = payload::quoted(CHAT_EVENT);
            Emission::new(Namespace::Main, &name, &data, attachments.clone()).send_all(
                table,
                Namespace::Main,
                None,
            );
        }
        let Some(members) = members else { return };
        let name = payload::quoted(message.event);
        let arguments =
            format!(r#"{data},{{"topic":{},"id":{}}}"#, payload::quoted(message.topic), message.id);
        for namespace in Namespace::ALL.into_iter().filter(|namespace| told != Some(*namespace)) {
            let emission = Emission::new(namespace, &name, &arguments, attachments.clone()).kept(table);
            for (session, _) in members.iter().filter(|(_, member)| *member == namespace) {
                emission.send_copy(table, *session);
            }
        }
    }

    /// Tells who wanted to publish that it could not be.
    pub(crate) fn not_published(&mut self, table: &mut Table, receipt: Receipt, reason: &str) {
        if is_there(table, &receipt) {
            let sender = Sender { session: receipt.session, namespace: receipt.namespace };
            acknowledge(table, sender, receipt.ack, Err(reason.to_owned()));
        }
    }

    /// Tells who asked what there is on a topic.
    pub(crate) fn tell_since(&mut self, table: &mut Table, receipt: Receipt, found: &str) {
        if is_there(table, &receipt) {
            let sender = Sender { session: receipt.session, namespace: receipt.namespace };
            acknowledge(table, sender, receipt.ack, Ok(found.to_owned()));
        }
    }
}

/// Whether the socket of a receipt is still the one that it was written for.
fn is_there(table: &Table, receipt: &Receipt) -> bool {
    let session =
        table.get(receipt.session).filter(|_| is_connected(table, receipt.session, receipt.namespace));
    let socket = session.and_then(|session| session.sockets.get(receipt.namespace));
    socket.is_some_and(|socket| socket.number == receipt.socket)
}
