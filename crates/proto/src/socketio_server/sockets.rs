use std::num::NonZeroU64;
use std::time::Instant;

use bytes::Bytes;

use super::packet::{Packet, Type};
use super::payload::{Array, Place};
use super::{Malformed, Namespace};
use crate::{Budget, Charge, TopicName};

/// Questions that may wait for a socket's acknowledgement.
const MAX_QUESTIONS: usize = 64;

/// What Socket.IO remembers of a session. Nearly all have one socket in `/` and nothing else.
#[derive(Debug, Default)]
pub(crate) struct Sockets {
    main: Option<Socket>,
    rare: Option<Box<Rare>>,
}

#[derive(Debug, Default)]
struct Rare {
    custom: Option<Socket>,
    /// When there must have been a CONNECT; none any more once there was.
    connect_by: Option<Instant>,
    assembling: Option<Assembling>,
}

/// A session's place in a namespace.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) number: NonZeroU64,
    more: Option<Box<More>>,
}

#[derive(Debug, Default)]
struct More {
    rooms: Vec<TopicName>,
    /// Questions that are not answered.
    questions: Vec<u64>,
    next_question: u64,
}

/// A packet that waits for its attachments.
#[derive(Debug)]
pub(super) struct Assembling {
    pub(super) message: Bytes,
    /// Its payload has been parsed: where its first element stands.
    pub(super) place: Place,
    pub(super) attachments: Vec<Bytes>,
    wanted: usize,
    bytes: usize,
    charge: Charge,
}

impl Sockets {
    pub(crate) fn new(connect_by: Option<Instant>) -> Sockets {
        let rare = connect_by.map(|_| Box::new(Rare { connect_by, ..Rare::default() }));
        Sockets { main: None, rare }
    }

    pub(crate) fn connect_by(&self) -> Option<Instant> {
        self.rare.as_ref()?.connect_by
    }

    pub(super) fn get(&self, namespace: Namespace) -> Option<&Socket> {
        match namespace {
            Namespace::Main => self.main.as_ref(),
            Namespace::Custom => self.rare.as_ref()?.custom.as_ref(),
        }
    }

    pub(super) fn get_mut(&mut self, namespace: Namespace) -> Option<&mut Socket> {
        match namespace {
            Namespace::Main => self.main.as_mut(),
            Namespace::Custom => self.rare.as_mut()?.custom.as_mut(),
        }
    }

    pub(super) fn connect(&mut self, namespace: Namespace, socket: Socket) -> Result<(), Malformed> {
        if self.get(namespace).is_some() {
            return Err(Malformed);
        }
        match namespace {
            Namespace::Main => self.main = Some(socket),
            Namespace::Custom => self.rare.get_or_insert_default().custom = Some(socket),
        }
        if let Some(rare) = &mut self.rare {
            rare.connect_by = None;
        }
        self.tidy();
        Ok(())
    }

    pub(super) fn remove(&mut self, namespace: Namespace) -> Option<Socket> {
        let socket = match namespace {
            Namespace::Main => self.main.take(),
            Namespace::Custom => self.rare.as_mut()?.custom.take(),
        };
        self.tidy();
        socket
    }

    /// Whether a packet whose attachments are still to come may be waited for.
    pub(super) fn check(&self, packet: &Packet<'_>) -> Result<Place, Malformed> {
        let namespace = Namespace::named(packet.namespace).ok_or(Malformed)?;
        self.get(namespace).ok_or(Malformed)?;
        let array = Array::parse(packet.payload, packet.attachments).ok_or(Malformed)?;
        if packet.packet_type == Type::Event {
            array.event_name().ok_or(Malformed)?;
        }
        Ok(array.place(packet.payload))
    }

    pub(super) fn is_assembling(&self) -> bool {
        self.rare.as_ref().is_some_and(|rare| rare.assembling.is_some())
    }

    pub(super) fn assemble(&mut self, assembling: Assembling) {
        self.rare.get_or_insert_default().assembling = Some(assembling);
    }

    /// Takes an attachment; returns the packet with all its attachments if it was the last.
    pub(super) fn attach(
        &mut self,
        data: Bytes,
        limit_bytes: usize,
        budget: &Budget,
    ) -> Result<Option<Assembling>, Malformed> {
        let slot = &mut self.rare.as_mut().ok_or(Malformed)?.assembling;
        let assembling = slot.as_mut().ok_or(Malformed)?;
        assembling.bytes += data.len();
        if assembling.bytes > limit_bytes || assembling.charge.set(budget, assembling.bytes).is_err() {
            return Err(Malformed);
        }
        assembling.attachments.push(data);
        if assembling.attachments.len() < assembling.wanted {
            return Ok(None);
        }
        let complete = slot.take();
        self.tidy();
        Ok(complete)
    }

    pub(crate) fn has_rooms(&self) -> bool {
        Namespace::ALL
            .iter()
            .any(|namespace| self.get(*namespace).is_some_and(|socket| !socket.rooms().is_empty()))
    }

    /// Gives back what is not needed any more.
    fn tidy(&mut self) {
        self.rare
            .take_if(|rare| rare.custom.is_none() && rare.connect_by.is_none() && rare.assembling.is_none());
    }
}

impl Socket {
    pub(super) fn new(number: NonZeroU64) -> Socket {
        Socket { number, more: None }
    }

    pub(super) fn rooms(&self) -> &[TopicName] {
        self.more.as_ref().map_or(&[], |more| &more.rooms)
    }

    /// Whether it was not in the room before.
    pub(super) fn join(&mut self, room: &TopicName) -> bool {
        let is_new = !self.is_in(room);
        if is_new {
            self.more.get_or_insert_default().rooms.push(room.clone());
        }
        is_new
    }

    pub(super) fn is_in(&self, room: &str) -> bool {
        self.rooms().iter().any(|joined| **joined == *room)
    }

    /// Whether it was in the room.
    pub(super) fn leave(&mut self, room: &str) -> bool {
        let Some(more) = &mut self.more else { return false };
        let before = more.rooms.len();
        more.rooms.retain(|joined| **joined != *room);
        more.rooms.len() < before
    }

    /// The id for a question, if not too many wait already.
    pub(super) fn new_question(&mut self) -> Option<u64> {
        let more = self.more.get_or_insert_default();
        if more.questions.len() >= MAX_QUESTIONS {
            return None;
        }
        let id = more.next_question;
        more.next_question += 1;
        more.questions.push(id);
        Some(id)
    }

    /// Whether a question of this id was waiting. A second acknowledgement of it says nothing.
    pub(super) fn take_question(&mut self, id: u64) -> bool {
        let Some(more) = &mut self.more else { return false };
        let position = more.questions.iter().position(|waiting| *waiting == id);
        position.map(|position| more.questions.swap_remove(position)).is_some()
    }
}

impl Assembling {
    pub(super) fn new(message: Bytes, place: Place, wanted: usize) -> Assembling {
        let (bytes, charge) = (message.len(), Charge::default());
        Assembling { bytes, message, place, attachments: Vec::new(), wanted, charge }
    }
}
