//! A `Session` on its own (`Wire`, for bytes written by hand) and with a `Client` at the other end
//! (`Pair`), in virtual time: no socket, no clock, no thread.

use std::io::IoSlice;
use std::sync::Arc;
use std::time::{Duration, Instant};

use switchboard_proto::{
    App, Client, ClientEvent, ClientPlan, Dialect, Effect, EventName, Exchange, Kind, Outgoing, Port,
    Rejection, Reply, Request, Session, TopicName,
};

/// The request that opens a WebSocket, with the key of RFC 6455, section 1.3.
pub(crate) fn upgrade(path: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nHost: switchboard\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    .into_bytes()
}

pub(crate) fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// The smallest step of virtual time.
pub(crate) const TICK: Duration = Duration::from_nanos(1);

/// The name of a wire's connection towards its exchange.
const PORT: Port = Port(7);

/// A session, the exchange of a server that has no other connection, and the bytes that a test writes by hand.
pub(crate) struct Wire {
    pub(crate) session: Session,
    pub(crate) exchange: Exchange,
    pub(crate) now: Instant,
    pub(crate) subscribed: bool,
    pub(crate) published: Vec<Arc<Outgoing>>,
    /// How often the session said that its last byte is written.
    pub(crate) finished: u32,
}

impl Wire {
    pub(crate) fn new(app: App) -> Wire {
        let now = Instant::now();
        let app = Arc::new(app);
        let (session, exchange) = (Session::server(&app, now), Exchange::new(&app, now));
        Wire { session, exchange, now, subscribed: false, published: Vec::new(), finished: 0 }
    }

    /// A connection whose handshake on `path` is over.
    pub(crate) fn open(app: App, path: &str) -> Wire {
        let mut wire = Wire::new(app);
        wire.send(&upgrade(path));
        let answer = wire.take();
        assert!(answer.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&answer));
        wire
    }

    /// Hands `bytes` to the session in one piece.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.session.receive(&mut bytes.to_vec(), self.now);
        self.pass_on();
    }

    /// Passes on what the session asks, and gives it the answers.
    pub(crate) fn pass_on(&mut self) {
        while let Some(request) = self.session.poll_event() {
            match &request {
                Request::Subscribe { .. } => self.subscribed = true,
                Request::Unsubscribe { .. } => self.subscribed = false,
                _ => {}
            }
            self.exchange.handle(PORT, request, self.now);
            self.take_effects();
        }
    }

    /// Has the exchange refuse everything that somebody would have to be told of, and gives what follows to the session.
    pub(crate) fn close_exchange(&mut self) {
        self.exchange.close();
        self.take_effects();
    }

    /// Publishes as another connection would, and delivers it here if it is subscribed to.
    pub(crate) fn publish(&mut self, topic: &str, event: Option<&str>, kind: Kind, data: &[u8]) {
        let topic = TopicName::new(topic).expect("a topic");
        let event = event.map(|event| EventName::new(event).expect("an event"));
        let data = data.to_vec().into();
        self.ask_elsewhere(Request::Publish { topic, event, kind, data, is_answered: false });
    }

    /// The newest event of a topic.
    pub(crate) fn exchange_event(&mut self, topic: &str) -> Arc<Outgoing> {
        let topic = TopicName::new(topic).expect("a name");
        let request = Request::Since { topic, since: Some(0.into()), is_portion: false };
        self.exchange.handle(Port(8), request, self.now);
        let Some(Effect::Reply(_, Reply::Since(found))) = self.exchange.poll_effect() else {
            panic!("no answer")
        };
        found.events.last().expect("an event").clone()
    }

    /// Has another connection ask for something, and delivers here what is published because of it.
    pub(crate) fn ask_elsewhere(&mut self, request: Request) {
        self.exchange.handle(Port(8), request, self.now);
        self.take_effects();
        self.deliver_published();
    }

    /// Delivers what was published, if it is subscribed to.
    pub(crate) fn deliver_published(&mut self) {
        for message in std::mem::take(&mut self.published) {
            self.deliver(&message);
        }
        self.pass_on();
    }

    fn deliver(&mut self, message: &Outgoing) {
        if self.session.subscription().is_some_and(|(topic, _)| topic == message.topic()) {
            self.session.deliver(message, self.now);
        }
    }

    fn take_effects(&mut self) {
        while let Some(effect) = self.exchange.poll_effect() {
            match effect {
                Effect::Publish(message) => self.published.push(message),
                Effect::Reply(PORT, reply) => {
                    // Whoever subscribes gets what follows this answer, and nothing of what came before it.
                    if self.session.subscription().is_some() {
                        std::mem::take(&mut self.published).iter().for_each(|message| self.deliver(message));
                    }
                    self.session.reply(reply, self.now);
                }
                Effect::Reply(..) => {}
            }
        }
    }

    /// Writes up to `limit` bytes of the output, as a socket with so much room would. What follows from its being written, since something waited for room, is
    /// written as well.
    pub(crate) fn take_some(&mut self, limit: usize) -> Vec<u8> {
        let mut taken = Vec::new();
        loop {
            if self.session.poll_timeout().is_some_and(|due| due < self.now + TICK) && !self.is_closed() {
                self.session.handle_timeout(self.now);
                self.pass_on();
            }
            if taken.len() >= limit || self.session.output().is_empty() {
                break;
            }
            let mut slices = [IoSlice::new(&[]); 4];
            let used = self.session.output().slices(&mut slices);
            let before = taken.len();
            taken.extend(slices[..used].iter().flat_map(|slice| slice.iter()));
            taken.truncate(limit);
            let written = taken.len() - before;
            self.session.output().consume(written);
        }
        self.finished += u32::from(self.session.poll_finish());
        taken
    }

    /// Writes the whole output.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        self.take_some(usize::MAX)
    }

    /// Writes the whole output, which is frames.
    pub(crate) fn take_frames(&mut self) -> Vec<(u8, Vec<u8>)> {
        super::frames::read_frames(&self.take())
    }

    /// Hands `text` to the session, and returns all that it writes.
    pub(crate) fn ask(&mut self, text: impl AsRef<[u8]>) -> String {
        self.send(text.as_ref());
        self.take_text()
    }

    /// Writes the whole output, which is text.
    pub(crate) fn take_text(&mut self) -> String {
        String::from_utf8(self.take()).expect("text")
    }

    /// The peer sends no more.
    pub(crate) fn end(&mut self) {
        self.session.receive_eof(self.now);
        self.pass_on();
    }

    /// Lets `time` pass, with a wake-up at each of the session's and the exchange's own times and none in between.
    pub(crate) fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let of_session = self.session.poll_timeout().filter(|_| !self.is_closed());
            let of_exchange = self.exchange.poll_timeout();
            let due = of_session.into_iter().chain(of_exchange).min().filter(|due| *due <= end);
            let Some(due) = due else { break };
            self.now = self.now.max(due);
            if of_exchange.is_some_and(|other| other <= due) {
                self.tick();
                let next = self.exchange.poll_timeout();
                assert!(next.is_none() || next > of_exchange, "a timer that spins");
            }
            if of_session.is_some_and(|other| other <= due) {
                self.session.handle_timeout(self.now);
                self.pass_on();
                let next = self.session.poll_timeout();
                assert!(self.is_closed() || next.is_none_or(|next| next > due), "a timer that spins");
            }
        }
        self.now = end;
        // One wake-up too many must be harmless.
        self.session.handle_timeout(self.now);
        self.pass_on();
    }

    /// Wakes the exchange.
    pub(crate) fn tick(&mut self) {
        self.exchange.handle_timeout(self.now);
        self.take_effects();
        self.deliver_published();
    }

    /// Whether the session wants its socket closed.
    pub(crate) fn is_closed(&self) -> bool {
        self.session.is_over()
    }

    /// Whether the session does what a connection that ends in an answer does: says once that all is
    /// written, reads on, and is content when the peer ends.
    pub(crate) fn assert_drains(&mut self) {
        self.finished += u32::from(self.session.poll_finish());
        assert_eq!(self.finished, 1, "shutdown(SHUT_WR) once the answer is written, and once only");
        assert!(self.session.wants().read, "what the peer still sends is read");
        self.send(b"whatever the peer still had to say");
        assert!(self.session.output().is_empty(), "and not answered");
        assert!(!self.session.poll_finish());
        assert!(!self.is_closed());
        self.session.receive_eof(self.now);
        assert!(self.is_closed(), "the peer has ended too");
    }
}

/// What a client was told, kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Heard {
    Upgraded,
    Rejected(Rejection),
    Text(String),
    Binary(Vec<u8>),
    Closed(Option<u16>),
}

/// A session and a client, connected.
pub(crate) struct Pair {
    pub(crate) wire: Wire,
    pub(crate) client: Client,
    pub(crate) heard: Vec<Heard>,
    /// False: the client leaves what the server wrote in the socket.
    pub(crate) reads: bool,
}

impl Pair {
    pub(crate) fn new(app: App, path: &str) -> Pair {
        static SEED: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
        let plan = ClientPlan {
            host: "switchboard".into(),
            path: path.into(),
            max_message_bytes: 64 << 20,
            dialect: Dialect::Plain,
        };
        let seed = SEED.fetch_add(0x9E37_79B9, std::sync::atomic::Ordering::Relaxed);
        Pair { wire: Wire::new(app), client: Client::new(&plan, seed), heard: Vec::new(), reads: true }
    }

    pub(crate) fn say(&mut self, kind: Kind, payload: &[u8]) {
        self.client.send_with(kind, payload.len(), |space| space.copy_from_slice(payload));
    }

    /// Moves bytes both ways until neither side has any to move. Obeys `wants`, as every model must.
    pub(crate) fn settle(&mut self) {
        while self.client_to_server() | self.server_to_client() {}
    }

    fn client_to_server(&mut self) -> bool {
        if self.client.output().is_empty() || !self.wire.session.wants().read {
            return false;
        }
        let bytes = self.client.output().single().expect("a client writes in one piece").to_vec();
        self.client.output().consume(bytes.len());
        self.wire.send(&bytes);
        true
    }

    fn server_to_client(&mut self) -> bool {
        if !self.reads || self.wire.session.output().is_empty() {
            return false;
        }
        assert!(self.wire.session.wants().write, "there is output that the session does not want written");
        let mut bytes = self.wire.take();
        let mut input = &mut bytes[..];
        while let Some(event) = self.client.next(&mut input).expect("the server keeps to the protocol") {
            self.heard.push(match event {
                ClientEvent::Upgraded => Heard::Upgraded,
                ClientEvent::Rejected(rejection) => Heard::Rejected(rejection),
                ClientEvent::Message(Kind::Text, payload) => {
                    Heard::Text(std::str::from_utf8(&payload).expect("checked").to_owned())
                }
                ClientEvent::Message(Kind::Binary, payload) => Heard::Binary(payload.to_vec()),
                ClientEvent::Other => unreachable!("only Socket.IO has events"),
                ClientEvent::Closed(code) => Heard::Closed(code),
            });
        }
        true
    }

    /// What the client was told since it was last asked.
    pub(crate) fn take_heard(&mut self) -> Vec<Heard> {
        std::mem::take(&mut self.heard)
    }
}

/// Settles all `pairs` as one server: what one publishes is delivered to every subscriber.
pub(crate) fn settle_all(pairs: &mut [Pair]) {
    loop {
        pairs.iter_mut().for_each(Pair::settle);
        let published: Vec<_> = pairs.iter_mut().flat_map(|pair| pair.wire.published.drain(..)).collect();
        if published.is_empty() {
            return;
        }
        for message in published {
            for pair in pairs.iter_mut().filter(|pair| pair.wire.subscribed) {
                pair.wire.session.deliver(&message, pair.wire.now);
            }
        }
    }
}
