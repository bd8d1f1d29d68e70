//! A server of Engine.IO sessions in virtual time, and the connections to it, for the tests beside this file.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use switchboard_proto::engine::{
    Effect, Endpoint, EngineSettings, Engines, Publish, Published, Query, Reply, Request, Since,
};
use switchboard_proto::{Kind, Port};

pub(crate) const INTERVAL: Duration = Duration::from_millis(300);
pub(crate) const TIMEOUT: Duration = Duration::from_millis(200);
/// How long a request is waited for that may have been overtaken.
pub(crate) const OVERTAKING: Duration = Duration::from_millis(25);
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// The settings of the protocols' public test suites.
pub(crate) fn settings() -> EngineSettings {
    EngineSettings {
        ping_interval: INTERVAL,
        ping_timeout: TIMEOUT,
        max_payload_bytes: 1_000_000,
        connect_timeout: CONNECT_TIMEOUT,
        max_unsent_bytes: 100_000,
        ..EngineSettings::default()
    }
}

pub(crate) struct Server {
    pub(crate) engines: Engines,
    pub(crate) now: Instant,
    pub(crate) published: Vec<Publish>,
    pub(crate) asked: Vec<Since>,
    replies: HashMap<Port, Vec<Reply>>,
    next_port: u64,
    next_id: u64,
}

impl Server {
    pub(crate) fn new(settings: &EngineSettings) -> Server {
        Server {
            engines: Engines::new(settings),
            now: Instant::now(),
            published: Vec::new(),
            asked: Vec::new(),
            replies: HashMap::new(),
            next_port: 0,
            next_id: 0,
        }
    }

    /// Lets time pass, and each timer go off when it is due.
    pub(crate) fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(due) = self.engines.poll_timeout().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.engines.handle_timeout(self.now);
            self.take_effects();
        }
        self.now = end;
    }

    pub(crate) fn ask(&mut self, port: Port, request: Request) {
        self.engines.handle(port, request, self.now);
        self.take_effects();
    }

    fn take_effects(&mut self) {
        while let Some(effect) = self.engines.poll_effect() {
            match effect {
                Effect::Reply(port, reply) => self.replies.entry(port).or_default().push(reply),
                Effect::Publish(publish) => {
                    self.next_id += 1;
                    let message = Published {
                        topic: &publish.topic,
                        id: self.next_id,
                        event: publish.event.as_deref().unwrap_or("message"),
                        kind: publish.kind,
                        data: &publish.data,
                    };
                    self.engines.published(message, Some(publish.receipt), self.now);
                    self.published.push(*publish);
                }
                Effect::Since(question) => {
                    let found = format!(r#"{{"newest":{}}}"#, self.next_id);
                    self.engines.tell_since(question.receipt, &found, self.now);
                    self.asked.push(*question);
                }
            }
        }
    }

    /// Somebody else publishes, by another mechanism.
    pub(crate) fn publish(&mut self, topic: &str, event: &str, kind: Kind, data: &[u8]) {
        self.next_id += 1;
        let data = Bytes::copy_from_slice(data);
        let message = Published { topic, id: self.next_id, event, kind, data: &data };
        self.engines.published(message, None, self.now);
        self.take_effects();
    }

    pub(crate) fn close_all(&mut self) {
        self.engines.close_all(self.now);
        self.take_effects();
    }

    /// A connection that has not said anything.
    pub(crate) fn port(&mut self) -> Port {
        self.next_port += 1;
        Port(self.next_port)
    }

    /// What a connection was told since this was last asked.
    pub(crate) fn replies(&mut self, port: Port) -> Vec<Reply> {
        self.replies.remove(&port).unwrap_or_default()
    }

    /// The same in short: `200 body`, `accept`, `text`, `<hex of bytes>`, `close`.
    pub(crate) fn told(&mut self, port: Port) -> Vec<String> {
        self.replies(port).iter().map(in_short).collect()
    }

    pub(crate) fn get(&mut self, query: Query) -> Port {
        let port = self.port();
        self.ask(port, Request::Get(query));
        port
    }

    pub(crate) fn post(&mut self, query: Query, body: impl Into<Bytes>) -> Vec<String> {
        let port = self.port();
        self.ask(port, Request::Post { query, content_type: None, body: body.into() });
        self.told(port)
    }

    /// What a GET is answered at once; nothing if it waits.
    pub(crate) fn poll(&mut self, query: Query) -> Vec<String> {
        let port = self.get(query);
        self.told(port)
    }

    pub(crate) fn websocket(&mut self, query: Query) -> Port {
        let port = self.port();
        self.ask(port, Request::Upgrade(query));
        port
    }

    pub(crate) fn say(&mut self, port: Port, text: &str) {
        self.ask(port, Request::Message { kind: Kind::Text, data: Bytes::copy_from_slice(text.as_bytes()) });
    }

    pub(crate) fn say_bytes(&mut self, port: Port, bytes: &[u8]) {
        self.ask(port, Request::Message { kind: Kind::Binary, data: Bytes::copy_from_slice(bytes) });
    }

    /// Says something and returns what comes back.
    pub(crate) fn exchange(&mut self, port: Port, text: &str) -> Vec<String> {
        self.say(port, text);
        self.told(port)
    }

    /// Opens a session that polls, and returns its requests' query.
    pub(crate) fn polling(&mut self, endpoint: Endpoint) -> Query {
        let told = self.poll(query(endpoint, "polling"));
        let sid = sid_of(&told[0]);
        Query { sid: Some(sid), ..query(endpoint, "polling") }
    }

    /// Opens a session on a WebSocket.
    pub(crate) fn open(&mut self, endpoint: Endpoint) -> Port {
        let port = self.websocket(query(endpoint, "websocket"));
        assert_eq!(self.told(port).len(), 2, "accept and open packet");
        port
    }

    /// A Socket.IO client in `/`.
    pub(crate) fn connect(&mut self) -> Port {
        self.connect_to("")
    }

    /// A Socket.IO client in a namespace, as a packet names it.
    pub(crate) fn connect_to(&mut self, namespace: &str) -> Port {
        let port = self.open(Endpoint::SocketIo);
        assert_eq!(self.exchange(port, &format!("40{namespace}")).len(), 2, "CONNECT and auth");
        port
    }
}

pub(crate) fn query(endpoint: Endpoint, transport: &str) -> Query {
    Query { endpoint, sid: None, transport: transport.to_owned(), eio: "4".to_owned(), from: None }
}

/// The same session over a WebSocket.
pub(crate) fn over_websocket(query: &Query) -> Query {
    Query { transport: "websocket".to_owned(), ..query.clone() }
}

pub(crate) fn sid_of(text: &str) -> String {
    let (_, rest) = text.split_once(r#""sid":""#).expect("an id");
    rest.split('"').next().expect("its end").to_owned()
}

fn in_short(reply: &Reply) -> String {
    match reply {
        Reply::Answer { status, body, .. } => format!("{status} {}", String::from_utf8_lossy(body)),
        Reply::Accept => "accept".to_owned(),
        Reply::Send { kind: Kind::Text, data } => String::from_utf8_lossy(data).into_owned(),
        Reply::Send { kind: Kind::Binary, data } => format!("<{data:02x}>"),
        Reply::Close => "close".to_owned(),
    }
}
