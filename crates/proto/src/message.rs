use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{BLOCK_BYTES, Budget, Cursor, Epoch, poll, sse, websocket};

/// Whether a message is text, which must be UTF-8, or any bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// UTF-8, checked as it arrived.
    Text,
    /// Any bytes.
    Binary,
}

/// How a subscriber takes what is published: the wire formats that an [`Outgoing`] is shared in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Format {
    /// One unmasked WebSocket frame, the data and nothing else.
    WebSocket,
    /// An event of an event stream.
    EventStream,
    /// The JSON that answers a poll.
    Poll,
    /// One unmasked WebSocket frame with the event as JSON.
    JsonWebSocket,
}

impl Format {
    /// All of them.
    pub const ALL: [Format; 4] =
        [Format::WebSocket, Format::EventStream, Format::Poll, Format::JsonWebSocket];

    /// Those of the subscribers that stay, and get everything that follows as it is encoded.
    pub const STREAMED: [Format; 3] = [Format::WebSocket, Format::EventStream, Format::JsonWebSocket];
}

/// The event name of what was published without one; it is what an `EventSource` calls its events by default.
pub(crate) const DEFAULT_EVENT: &str = "message";

/// An event that was published on a topic, on its way to many receivers, encoded at most once for each wire format.
#[derive(Debug, Serialize, Deserialize)]
pub struct Outgoing {
    topic: Arc<str>,
    id: u64,
    /// Which run of the server has given the number.
    epoch: Option<Epoch>,
    event: Option<Box<str>>,
    kind: Kind,
    data: Bytes,
    /// Each made when the first receiver of that kind asks for it, and shared by all the others.
    #[serde(skip)]
    encoded: [OnceLock<Bytes>; Format::ALL.len()],
    /// What its encodings are charged to.
    #[serde(skip)]
    budget: Option<Budget>,
}

impl Outgoing {
    /// An event that is not encoded for anyone yet. `event`: its name, where it is not `message`.
    pub fn new(topic: Arc<str>, id: u64, event: Option<&str>, kind: Kind, data: Bytes) -> Outgoing {
        let event = event.filter(|event| *event != DEFAULT_EVENT).map(Box::from);
        Outgoing { topic, id, epoch: None, event, kind, data, encoded: Default::default(), budget: None }
    }

    /// The same with the run of the server that has given the number.
    pub fn with_epoch(self, epoch: Option<Epoch>) -> Outgoing {
        Outgoing { epoch, ..self }
    }

    /// The same, charged to this budget as far as it is long. `data` is expected to be, if it came in this process.
    pub fn with_budget(self, budget: &Budget) -> Outgoing {
        Outgoing { budget: Some(budget.clone()), ..self }
    }

    /// Charges an event that has come from another process, as far as it is long.
    pub(crate) fn charge(&mut self, budget: &Budget) {
        self.data = budget.keep(std::mem::take(&mut self.data));
        self.budget = Some(budget.clone());
    }

    /// The topic it was published on.
    pub fn topic(&self) -> &Arc<str> {
        &self.topic
    }

    /// Its number among the events of its topic: 1, 2, …
    pub fn id(&self) -> u64 {
        self.id
    }

    /// What a client names that has had this event last.
    pub fn cursor(&self) -> Cursor {
        Cursor { id: self.id, epoch: self.epoch }
    }

    /// Its name.
    pub fn event(&self) -> &str {
        self.event.as_deref().unwrap_or(DEFAULT_EVENT)
    }

    /// Text or binary.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What was published, without any framing.
    pub fn data(&self) -> &Bytes {
        &self.data
    }

    /// The event as its receivers of that format get it.
    pub fn encoded(&self, format: Format) -> &Bytes {
        self.encoded[format as usize].get_or_init(|| {
            let bytes = match format {
                Format::WebSocket => websocket_frame(self.kind, &self.data),
                Format::EventStream => sse::encode(self),
                Format::Poll => poll::encode_one(self),
                Format::JsonWebSocket => websocket_frame(Kind::Text, &poll::encode_event(self)),
            };
            match &self.budget {
                Some(budget) => budget.keep(bytes),
                None => bytes,
            }
        })
    }

    /// The part of [`held_bytes`](Outgoing::held_bytes) that nobody is charged who has it: all of it, if it is short.
    pub(crate) fn uncharged_bytes(&self) -> usize {
        if self.data.len() <= BLOCK_BYTES { self.held_bytes() } else { size_of::<Outgoing>() }
    }

    /// What it may take in memory, its encodings included, in bytes.
    pub(crate) fn held_bytes(&self) -> usize {
        (1 + Format::ALL.len()) * self.data.len()
            + self.event.as_ref().map_or(0, |event| event.len())
            + size_of::<Outgoing>()
    }
}

/// The data as one unmasked WebSocket frame.
pub(crate) fn websocket_frame(kind: Kind, data: &[u8]) -> Bytes {
    let mut frame = Vec::with_capacity(websocket::MAX_HEADER_BYTES + data.len());
    websocket::encode_header(&mut frame, kind.into(), data.len(), None);
    frame.extend_from_slice(data);
    frame.into()
}
