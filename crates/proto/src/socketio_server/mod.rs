//! Socket.IO v5 as a server speaks it (<https://socket.io/docs/v4/socket-io-protocol/>), on top of the sessions of [`crate::engine`].
//!
//! A session may be connected to several namespaces at once; in each of them it is a socket, with an id that others may know. In reading order:
//! this file, what connects and disconnects and how packets become events; `events`, what the application does; `rooms`, who gets what
//! is published; `packet`, `payload` and `places`, how all of it is written; `sockets`, what is remembered of a session.

use std::collections::{HashMap, VecDeque};
use std::num::NonZeroU64;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bytes::Bytes;

mod events;
mod packet;
mod payload;
mod places;
mod rooms;
mod sockets;

use crate::Kind;
use crate::TopicName;
use crate::engine::{Table, random};
pub(crate) use events::CHAT_TOPIC;
use packet::{Packet, Type, encode};
use payload::Array;
use rooms::Members;
pub(crate) use sockets::Sockets;
use sockets::{Assembling, Socket};

/// What all sessions have in common.
#[derive(Debug)]
pub(crate) struct Server {
    rooms: HashMap<TopicName, Members>,
    /// Rooms that have come to be, or that nobody is in any more.
    room_changes: VecDeque<(TopicName, bool)>,
    /// What rooms and their members take.
    rooms_bytes: usize,
    /// The number of the last socket.
    sockets: u64,
    /// Before the number in each socket's id, so that two servers give different ones.
    prefix: [u8; 7],
}

/// The namespaces that exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Namespace {
    /// `/`
    Main,
    /// `/custom`
    Custom,
}

impl Namespace {
    pub(crate) const ALL: [Namespace; 2] = [Namespace::Main, Namespace::Custom];

    fn named(name: &str) -> Option<Namespace> {
        match name {
            "/" => Some(Namespace::Main),
            "/custom" => Some(Namespace::Custom),
            _ => None,
        }
    }

    /// How a packet names it.
    fn prefix(self) -> &'static str {
        match self {
            Namespace::Main => "",
            Namespace::Custom => "/custom,",
        }
    }
}

/// A packet that is none, or none for this state: the session must be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Where an event came from.
#[derive(Debug, Clone, Copy)]
struct Sender {
    session: u32,
    namespace: Namespace,
}

impl Server {
    pub(crate) fn new() -> Server {
        Server {
            rooms: HashMap::new(),
            room_changes: VecDeque::new(),
            rooms_bytes: 0,
            sockets: 0,
            prefix: random(),
        }
    }

    /// Takes a text message, with Engine.IO's `4` before it.
    pub(crate) fn receive_text(
        &mut self,
        table: &mut Table,
        session: u32,
        message: &Bytes,
    ) -> Result<(), Malformed> {
        let sockets = &mut table.get_mut(session).ok_or(Malformed)?.sockets;
        if sockets.is_assembling() {
            return Err(Malformed);
        }
        let packet = read(message)?;
        if packet.attachments == 0 {
            let array = Array::parse(packet.payload, 0);
            return self.act(table, session, &packet, array, Vec::new());
        }
        // What can be known to be wrong is not waited for.
        let place = sockets.check(&packet)?;
        sockets.assemble(Assembling::new(message.clone(), place, packet.attachments));
        Ok(())
    }

    /// Takes a binary message: an attachment of the packet before it.
    pub(crate) fn receive_binary(
        &mut self,
        table: &mut Table,
        session: u32,
        data: Bytes,
    ) -> Result<(), Malformed> {
        let limit_bytes = table.settings.max_unsent_bytes.max(table.settings.max_payload_bytes);
        let budget = table.settings.memory.clone();
        let sockets = &mut table.get_mut(session).ok_or(Malformed)?.sockets;
        if let Some(Assembling { message, place, attachments, .. }) =
            sockets.attach(data, limit_bytes, &budget)?
        {
            let packet = read(&message)?;
            let array = Array::again(packet.payload, &place);
            self.act(table, session, &packet, Some(array), attachments)?;
        }
        Ok(())
    }

    /// Does what a packet says, when all of it is there. `array`: its payload, if that is one.
    fn act(
        &mut self,
        table: &mut Table,
        session: u32,
        packet: &Packet<'_>,
        array: Option<Array<'_>>,
        attachments: Vec<Bytes>,
    ) -> Result<(), Malformed> {
        if packet.packet_type == Type::Connect {
            return self.connect(table, session, packet);
        }
        // What is for a namespace that this session is not connected to is as wrong as what is no packet.
        let namespace = Namespace::named(packet.namespace).ok_or(Malformed)?;
        let sockets = &mut table.get_mut(session).ok_or(Malformed)?.sockets;
        let socket = sockets.get_mut(namespace).ok_or(Malformed)?;
        let sender = Sender { session, namespace };
        match packet.packet_type {
            Type::Disconnect if packet.payload.is_empty() => {
                self.disconnect(table, sender);
                Ok(())
            }
            Type::Event => {
                let array = array.ok_or(Malformed)?;
                if let Some(name) = array.event_name().ok_or(Malformed)? {
                    self.event(table, sender, &name, packet.id, array, attachments);
                }
                Ok(())
            }
            Type::Ack => {
                let array = array.ok_or(Malformed)?;
                if packet.id.is_some_and(|id| socket.take_question(id)) {
                    let answer = Emission::new(namespace, r#""answered""#, array.inner(), attachments);
                    answer.send(table, session);
                }
                Ok(())
            }
            Type::Connect | Type::ConnectError | Type::Disconnect => Err(Malformed),
        }
    }

    fn connect(&mut self, table: &mut Table, session: u32, packet: &Packet<'_>) -> Result<(), Malformed> {
        let auth = if packet.payload.is_empty() { "{}" } else { packet.payload.trim() };
        if !payload::is_object(auth) {
            return Err(Malformed);
        }
        let Some(namespace) = Namespace::named(packet.namespace) else {
            let refusal = format!(r#"44{},{{"message":"Invalid namespace"}}"#, packet.namespace);
            table.send(session, Kind::Text, refusal.into());
            return Ok(());
        };
        self.sockets += 1;
        let number = NonZeroU64::new(self.sockets).ok_or(Malformed)?;
        let connected =
            table.change(session, |session| session.sockets.connect(namespace, Socket::new(number)));
        connected.ok_or(Malformed)??;
        let sid = self.socket_id(number);
        let welcome = encode(Type::Connect, namespace, 0, None, [r#"{"sid":""#, &sid, r#""}"#]);
        table.send(session, Kind::Text, welcome);
        Emission::new(namespace, r#""auth""#, auth, Vec::new()).send(table, session);
        Ok(())
    }

    /// Takes a socket out of its namespace and its rooms.
    fn disconnect(&mut self, table: &mut Table, sender: Sender) {
        let socket =
            table.get_mut(sender.session).and_then(|session| session.sockets.remove(sender.namespace));
        if let Some(socket) = socket {
            self.leave_all(sender, &socket);
        }
    }

    /// Tells a session that each of its sockets is disconnected.
    pub(crate) fn disconnect_all(&mut self, table: &mut Table, session: u32) {
        for namespace in Namespace::ALL {
            if is_connected(table, session, namespace) {
                table.send(session, Kind::Text, encode(Type::Disconnect, namespace, 0, None, []));
                self.disconnect(table, Sender { session, namespace });
            }
        }
    }

    /// A socket's id is not a secret: others see it, and nothing is granted to who knows it.
    fn socket_id(&self, number: NonZeroU64) -> String {
        let mut bytes = [0; 15];
        bytes[..7].copy_from_slice(&self.prefix);
        bytes[7..].copy_from_slice(&number.get().to_be_bytes());
        BASE64_URL_SAFE_NO_PAD.encode(bytes)
    }
}

fn read(message: &Bytes) -> Result<Packet<'_>, Malformed> {
    let text = std::str::from_utf8(message).ok().and_then(|text| text.strip_prefix('4')).ok_or(Malformed)?;
    Packet::parse(text).ok_or(Malformed)
}

fn is_connected(table: &Table, session: u32, namespace: Namespace) -> bool {
    table.get(session).is_some_and(|session| session.sockets.get(namespace).is_some())
}

/// An event or an acknowledgement, encoded once for however many it goes to.
#[derive(Debug)]
struct Emission {
    head: Bytes,
    attachments: Vec<Bytes>,
}

impl Emission {
    /// An event: `name` is JSON, `arguments` what follows it between the brackets, which may be nothing.
    fn new(namespace: Namespace, name: &str, arguments: &str, attachments: Vec<Bytes>) -> Emission {
        Emission::with_id(Type::Event, namespace, None, [name, arguments], attachments)
    }

    fn with_id(
        packet_type: Type,
        namespace: Namespace,
        id: Option<u64>,
        [name, arguments]: [&str; 2],
        attachments: Vec<Bytes>,
    ) -> Emission {
        let comma = if name.is_empty() || arguments.is_empty() { "" } else { "," };
        let head = encode(packet_type, namespace, attachments.len(), id, ["[", name, comma, arguments, "]"]);
        Emission { head, attachments }
    }

    fn ack(namespace: Namespace, id: u64, arguments: &str, attachments: Vec<Bytes>) -> Emission {
        Emission::with_id(Type::Ack, namespace, Some(id), ["", arguments], attachments)
    }

    /// The same, charged as long as anybody has it.
    fn kept(self, table: &Table) -> Emission {
        Emission { head: table.settings.memory.keep(self.head), ..self }
    }

    fn send(self, table: &mut Table, session: u32) {
        table.send(session, Kind::Text, table.settings.memory.keep(self.head));
        for attachment in self.attachments {
            table.send(session, Kind::Binary, attachment);
        }
    }

    /// Sends to one of several.
    fn send_copy(&self, table: &mut Table, session: u32) {
        table.send(session, Kind::Text, self.head.clone());
        for attachment in &self.attachments {
            table.send(session, Kind::Binary, attachment.clone());
        }
    }

    /// Sends to all of a namespace, or all but one.
    fn send_all(self, table: &mut Table, namespace: Namespace, except: Option<u32>) {
        let emission = self.kept(table);
        for session in table.indices() {
            if Some(session) != except && is_connected(table, session, namespace) {
                emission.send_copy(table, session);
            }
        }
    }
}
