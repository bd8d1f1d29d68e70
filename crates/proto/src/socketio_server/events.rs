//! The application: what each event of a client does. An event that is not here does nothing, and asking for its acknowledgement is in vain.

use bytes::Bytes;

use super::packet::{Type, encode};
use super::payload::{self, Array};
use super::{Emission, Namespace, Sender, Server, is_connected, places};
use crate::engine::{Effect, Publish, Receipt, Since, Table};
use crate::{Cursor, EventName, Kind, OverBudget, TopicName};

/// Rooms that a socket may be in.
const MAX_ROOMS: usize = 64;

/// How deep arrays and objects may be in each other in what is passed on to other clients. Many take JSON apart by recursion, the reference implementation to put
/// attachments into their places: where the sender's own depth were the limit, one event would disconnect all who hear it.
const MAX_DEPTH: usize = 1000;

/// The topic that all of the namespace `/` takes part in, and the event that it is told by.
pub(crate) const CHAT_TOPIC: &str = "chat";
pub(super) const CHAT_EVENT: &str = "chat message - server";

/// The event by which a client takes part.
const CHAT_FROM_CLIENT: &str = "chat message - client";

impl Server {
    /// Does what an event asks for; `array` begins with its name.
    pub(super) fn event(
        &mut self,
        table: &mut Table,
        sender: Sender,
        name: &str,
        ack: Option<u64>,
        array: Array<'_>,
        attachments: Vec<Bytes>,
    ) {
        let Sender { session, namespace } = sender;
        let again = |attachments| {
            Emission::new(namespace, array.first.unwrap_or_default(), array.tail(), attachments)
        };
        // One event of these goes to clients that did not ask for it.
        if matches!(name, "to-others" | "to-all" | CHAT_FROM_CLIENT)
            && places::depth(array.inner()) > MAX_DEPTH
        {
            let error = format!("arrays and objects in each other are passed on up to {MAX_DEPTH} levels");
            return acknowledge(table, sender, ack, Err(error));
        }
        match name {
            "message" => {
                Emission::new(namespace, r#""message-back""#, array.tail(), attachments).send(table, session)
            }
            "message-with-ack" => {
                if let Some(id) = ack {
                    Emission::ack(namespace, id, array.tail(), attachments).send(table, session);
                }
            }
            // The three ways to send: socket.emit, socket.broadcast.emit, io.emit.
            "to-me" => again(attachments).send(table, session),
            "to-others" => again(attachments).send_all(table, namespace, Some(session)),
            "to-all" => again(attachments).send_all(table, namespace, None),
            CHAT_FROM_CLIENT => self.chat(table, sender, ack, array, &attachments),
            "join" | "leave" => {
                let room = array.arguments().first().and_then(|room| payload::string(room.get()));
                let room = match room.as_deref() {
                    None | Some("") => Err(format!("{name} takes the name of a room")),
                    Some(room) => TopicName::new(room).map_err(|error| error.to_string()),
                };
                let done = room.and_then(|room| match name {
                    "join" => self.join(table, sender, &room),
                    _ => {
                        self.leave(table, sender, &room);
                        Ok(())
                    }
                });
                acknowledge(table, sender, ack, done.map(|()| String::new()));
            }
            "publish" => self.publish(table, sender, ack, array, &attachments),
            "since" => since(table, sender, ack, array),
            "clients" => {
                if let Some(id) = ack {
                    let ids = self.clients(table, namespace);
                    Emission::ack(namespace, id, &ids, Vec::new()).send(table, session);
                }
            }
            "ask-me" => {
                let socket = table.get_mut(session).and_then(|session| session.sockets.get_mut(namespace));
                if let Some(id) = socket.and_then(|socket| socket.new_question()) {
                    let pieces = [r#""question""#, array.tail()];
                    Emission::with_id(Type::Event, namespace, Some(id), pieces, attachments)
                        .send(table, session);
                }
            }
            "disconnect-me" => {
                table.send(session, Kind::Text, encode(Type::Disconnect, namespace, 0, None, []));
                self.disconnect(table, sender);
            }
            _ => {}
        }
    }

    fn chat(
        &mut self,
        table: &mut Table,
        sender: Sender,
        ack: Option<u64>,
        array: Array<'_>,
        attachments: &[Bytes],
    ) {
        let name = payload::quoted(CHAT_EVENT);
        Emission::new(sender.namespace, &name, array.tail(), attachments.to_vec()).send_all(
            table,
            sender.namespace,
            None,
        );
        let arguments = array.arguments();
        let plain = match &*arguments {
            [only] => plain(only.get(), attachments),
            _ => None,
        };
        let (kind, data) = plain.unwrap_or_else(|| (Kind::Text, format!("[{}]", array.tail()).into()));
        let event = Some(EventName::own(CHAT_EVENT));
        emit_publish(table, sender, ack, true, (TopicName::own(CHAT_TOPIC), event, kind, data));
    }

    fn publish(
        &mut self,
        table: &mut Table,
        sender: Sender,
        ack: Option<u64>,
        array: Array<'_>,
        attachments: &[Bytes],
    ) {
        let arguments = array.arguments();
        let parsed = match &*arguments {
            [topic, event, data] => payload::string(topic.get())
                .zip(match event.get() {
                    "null" => Some(None),
                    event => payload::string(event).map(Some),
                })
                .map(|(topic, event)| (topic, event, data)),
            _ => None,
        };
        let Some((topic, event, data)) = parsed else {
            let usage = "publish takes a topic, the event's name or null, and the data".to_owned();
            return acknowledge(table, sender, ack, Err(usage));
        };
        let names = (TopicName::new(&topic), event.as_deref().map(EventName::new).transpose());
        let (topic, event) = match names {
            (Ok(topic), Ok(event)) => (topic, event),
            (Err(error), _) | (_, Err(error)) => {
                return acknowledge(table, sender, ack, Err(error.to_string()));
            }
        };
        let plain = plain(data.get(), attachments);
        let (kind, data) = plain.unwrap_or_else(|| (Kind::Text, data.get().to_owned().into()));
        emit_publish(table, sender, ack, false, (topic, event, kind, data));
    }

    /// The ids of a namespace's sockets, as a JSON array.
    fn clients(&self, table: &Table, namespace: Namespace) -> String {
        let mut ids = String::from("[");
        for session in table.indices().filter_map(|index| table.get(index)) {
            let Some(socket) = session.sockets.get(namespace) else { continue };
            if ids.len() > 1 {
                ids.push(',');
            }
            ids.push('"');
            ids.push_str(&self.socket_id(socket.number));
            ids.push('"');
        }
        ids.push(']');
        ids
    }

    fn join(&mut self, table: &mut Table, sender: Sender, room: &TopicName) -> Result<(), String> {
        let socket =
            table.get_mut(sender.session).and_then(|session| session.sockets.get_mut(sender.namespace));
        let Some(socket) = socket else { return Ok(()) };
        if socket.rooms().len() >= MAX_ROOMS && !socket.is_in(room) {
            return Err(format!("a socket is in {MAX_ROOMS} rooms at the most: leave one first"));
        }
        if table.settings.memory.is_used_up() {
            return Err(OverBudget.to_string());
        }
        let socket =
            table.get_mut(sender.session).and_then(|session| session.sockets.get_mut(sender.namespace));
        if socket.is_some_and(|socket| socket.join(room)) {
            self.enter(room, sender);
        }
        Ok(())
    }

    fn leave(&mut self, table: &mut Table, sender: Sender, room: &str) {
        let socket =
            table.get_mut(sender.session).and_then(|session| session.sockets.get_mut(sender.namespace));
        if socket.is_some_and(|socket| socket.leave(room)) {
            self.exit(room, sender);
        }
    }
}

/// An argument that can be published as it is, an attachment or a string. All else has to go as JSON.
fn plain(argument: &str, attachments: &[Bytes]) -> Option<(Kind, Bytes)> {
    if let Some(text) = payload::string(argument) {
        return Some((Kind::Text, text.into_owned().into()));
    }
    let attachment = attachments.get(payload::placeholder(argument)?)?;
    Some((Kind::Binary, attachment.clone()))
}

/// What there is on a topic. The answer has to take its place among the events that the same client gets, and only who has the topics knows it.
fn since(table: &mut Table, sender: Sender, ack: Option<u64>, array: Array<'_>) {
    let arguments = array.arguments();
    let parsed = match &*arguments {
        [topic, cursor] => payload::string(topic.get()).zip(match cursor.get() {
            "null" => Some(None),
            cursor => match payload::string(cursor) {
                Some(text) => text.parse().ok().map(Some),
                None => cursor.parse().ok().map(|id: u64| Some(Cursor::from(id))),
            },
        }),
        _ => None,
    };
    let Some((topic, since)) = parsed else {
        let usage = "since takes a topic, and the last event that was had: 7, \"7-19ac0f3b2d1\" or null";
        return acknowledge(table, sender, ack, Err(usage.to_owned()));
    };
    let topic = match TopicName::new(&topic) {
        Ok(topic) => topic,
        Err(error) => return acknowledge(table, sender, ack, Err(error.to_string())),
    };
    if ack.is_some()
        && let Some(receipt) = receipt(table, sender, ack, false)
    {
        let since = Since { topic, since, receipt };
        table.effects.push_back(Effect::Since(Box::new(since)));
    }
}

fn emit_publish(
    table: &mut Table,
    sender: Sender,
    ack: Option<u64>,
    is_chat: bool,
    (topic, event, kind, data): (TopicName, Option<EventName>, Kind, Bytes),
) {
    // A chat's sender may be gone by now, for not having polled what it got itself.
    let Some(receipt) = receipt(table, sender, ack, is_chat) else { return };
    table.effects.push_back(Effect::Publish(Box::new(Publish { topic, event, kind, data, receipt })));
}

fn receipt(table: &Table, sender: Sender, ack: Option<u64>, is_chat: bool) -> Option<Receipt> {
    let Sender { session, namespace } = sender;
    let socket = table.get(session)?.sockets.get(namespace)?.number;
    Some(Receipt { session, socket, namespace, ack, is_chat })
}

/// Acknowledges, if that was asked for: with the text of the arguments, or with what was wrong.
pub(super) fn acknowledge(
    table: &mut Table,
    sender: Sender,
    ack: Option<u64>,
    result: Result<String, String>,
) {
    let Some(id) = ack.filter(|_| is_connected(table, sender.session, sender.namespace)) else { return };
    let arguments = result.unwrap_or_else(|error| format!(r#"{{"error":{}}}"#, payload::quoted(&error)));
    Emission::ack(sender.namespace, id, &arguments, Vec::new()).send(table, sender.session);
}
