//! An idle connection owns no buffers: counted at the allocator, since nothing else sees them all.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use switchboard_proto::engine::{self, Endpoint, EngineSettings, Engines, Query};
use switchboard_proto::{
    App, Budget, Client, ClientEvent, ClientPlan, Dialect, Effect, Exchange, Kind, Outgoing, Port, Reply,
    Request, Session, Since,
};

/// The system's allocator, which also knows how many bytes each thread holds and how often it asked for some:
/// tests run beside each other.
struct Counting;

thread_local! {
    static HELD_BYTES: Cell<isize> = const { Cell::new(0) };
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    // The thread may be past the end of its thread-local values: then nobody asks any more.
    let _ = HELD_BYTES.try_with(|held| held.set(held.get() + bytes));
}

// SAFETY: both calls go to the system's allocator unchanged; counting does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        let _ = ALLOCATIONS.try_with(|allocations| allocations.set(allocations.get() + 1));
        // SAFETY: the caller's promise, passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller's promise, passed on.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const REQUEST: &[u8] = b"GET /broadcast HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

const ECHO: &[u8] = b"GET /echo HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

/// Feeds `pieces`, answers that nothing has been published, writes all output.
fn feed(session: &mut Session, pieces: &[&[u8]], now: Instant) {
    for piece in pieces {
        session.receive(&mut piece.to_vec(), now);
        while let Some(request) = session.poll_event() {
            if let Request::Since { .. } | Request::Subscribe { .. } = request {
                session.reply(Reply::Since(Since::default()), now);
            }
        }
        let output = session.output();
        output.consume(output.len());
    }
}

/// Bytes that `talk` leaves behind in a session that was just accepted; in the first one on a thread it leaves that a spare buffer or two.
fn left_by(talk: impl Fn(&mut Session, Instant)) -> isize {
    let app = Arc::new(App { heartbeat: Some(Duration::from_secs(1)), ..App::default() });
    let now = Instant::now();
    talk(&mut Session::server(&app, now), now);
    let mut session = Session::server(&app, now);
    let before = HELD_BYTES.get();
    talk(&mut session, now);
    let left = HELD_BYTES.get() - before;
    drop(session);
    left
}

#[test]
fn a_connection_that_was_just_accepted_owns_nothing() {
    let app = Arc::new(App::default());
    let before = HELD_BYTES.get();
    let session = Session::server(&app, Instant::now());
    assert_eq!(HELD_BYTES.get() - before, 0);
    drop(session);
}

#[test]
fn an_idle_websocket_owns_nothing() {
    // The handshake in one piece and in two.
    assert_eq!(left_by(|session, now| feed(session, &[ECHO], now)), 0);
    assert_eq!(left_by(|session, now| feed(session, &[&ECHO[..50], &ECHO[50..]], now)), 0);
}

#[test]
fn a_connection_between_two_requests_owns_nothing() {
    let request = b"GET /poll?topic=news HTTP/1.1\r\nHost: h\r\nUser-Agent: test\r\n\r\n";
    let post = b"POST /publish HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nnews";
    assert_eq!(left_by(|session, now| feed(session, &[request, request], now)), 0);
    assert_eq!(left_by(|session, now| feed(session, &[&request[..20], &request[20..]], now)), 0);
    assert_eq!(
        left_by(|session, now| {
            session.receive(&mut post.to_vec(), now);
            while session.poll_event().is_some() {}
            session.reply(Reply::Published(Ok(1)), now);
            feed(session, &[b""], now);
        }),
        0
    );
}

#[test]
fn a_silent_subscriber_owns_little_more_than_the_name_of_its_topic() {
    let stream = b"GET /events?topic=news HTTP/1.1\r\nHost: h\r\n\r\n";
    let long_poll = b"GET /longpoll?topic=news HTTP/1.1\r\nHost: h\r\n\r\n";
    for (request, limit) in [(REQUEST, 80), (stream, 80), (long_poll, 300)] {
        let left = left_by(|session, now| feed(session, &[request], now));
        assert!((1..=limit).contains(&left), "{left} bytes for {}", String::from_utf8_lossy(request));
    }
}

#[test]
fn what_a_message_took_is_given_back() {
    // A mask of zeros, so that the payload stands as it is.
    let whole = b"\x82\x85\0\0\0\0hello";
    let fragments = b"\x01\x83\0\0\0\0hel\x89\x81\0\0\0\0!\x80\x82\0\0\0\0lo";
    let big = [&b"\x82\xFF\0\0\0\0\0\x01\0\0\0\0\0\0"[..], &[7; 65_536]].concat();
    for frame in [&whole[..], fragments, &big] {
        for cut in [0, 1, 5, 8, 10, frame.len() - 1] {
            let pieces = [REQUEST, &frame[..cut], &frame[cut..]];
            let pieces = [&[ECHO][..], &pieces[1..]].concat();
            assert_eq!(left_by(|session, now| feed(session, &pieces, now)), 0, "cut at {cut}");
        }
    }
}

#[test]
fn a_delivery_that_is_written_leaves_nothing() {
    let subscription = left_by(|session, now| feed(session, &[REQUEST], now));
    let left = left_by(|session, now| {
        feed(session, &[REQUEST], now);
        for bytes in [10, 3000, 100_000] {
            let message =
                Outgoing::new("broadcast".into(), 1, None, Kind::Binary, Bytes::from(vec![0; bytes]));
            session.deliver(&message, now);
            session.deliver(&message, now);
            feed(session, &[b""], now);
        }
    });
    assert_eq!(left, subscription);
}

#[test]
fn half_a_message_takes_its_own_size_and_not_what_its_header_says() {
    // 16 MiB announced, a few bytes sent: what the peer wants held, it has to send.
    let left = left_by(|session, now| {
        feed(session, &[REQUEST, b"\x82\xFF\0\0\0\0\x01\0\0\0\0\0\0\0few"], now);
    });
    assert!(left > 0, "three bytes must be somewhere");
    assert!(left < 300 << 10, "{left} bytes held for three");
}

#[test]
fn a_broadcast_in_flight_is_held_once() {
    let app = Arc::new(App::default());
    let now = Instant::now();
    let message = Outgoing::new("broadcast".into(), 1, None, Kind::Binary, Bytes::from(vec![0; 1 << 20]));
    let mut sessions: Vec<_> = (0..10).map(|_| Session::server(&app, now)).collect();
    sessions.iter_mut().for_each(|session| feed(session, &[REQUEST], now));
    let before = HELD_BYTES.get();
    sessions.iter_mut().for_each(|session| session.deliver(&message, now));
    let held = HELD_BYTES.get() - before;
    assert!((1 << 20..(1 << 20) + 20_000).contains(&held), "{held} bytes for one frame of 1 MiB");
}

#[test]
fn a_request_carries_the_message_out() {
    let app = Arc::new(App::default());
    let now = Instant::now();
    let mut session = Session::server(&app, now);
    feed(&mut session, &[REQUEST], now);
    session.receive(&mut b"\x82\x85\0\0\0\0hello".to_owned(), now);
    let Some(Request::Publish { data, .. }) = session.poll_event() else { panic!("no request") };
    assert_eq!(&data[..], b"hello");
}

#[test]
fn an_idle_socketio_session_takes_two_hundred_bytes() {
    let settings = EngineSettings::default();
    let now = Instant::now();
    // The tables double where they grow. What they reserve then without having touched it counts here, but takes no memory.
    for sessions in [14_000, 15_000, 28_000, 50_000, 57_000] {
        let before = HELD_BYTES.get();
        let mut engines = Engines::new(&settings);
        for port in (1..=sessions).map(Port) {
            let query = Query {
                endpoint: Endpoint::SocketIo,
                sid: None,
                transport: "websocket".into(),
                eio: "4".into(),
                from: None,
            };
            engines.handle(port, engine::Request::Upgrade(query), now + Duration::from_millis(port.0));
            engines.handle(port, engine::Request::Message { kind: Kind::Text, data: "40".into() }, now);
            while engines.poll_effect().is_some() {}
        }
        let each = (HELD_BYTES.get() - before) / sessions as isize;
        assert!(each <= 200, "{each} bytes each with {sessions} sessions");
    }
}

#[test]
fn a_client_allocates_nothing_for_a_message() {
    let app = Arc::new(App::default());
    let now = Instant::now();
    let plan = ClientPlan {
        host: "h".into(),
        path: "/echo".into(),
        max_message_bytes: 1 << 20,
        dialect: Dialect::Plain,
    };
    let (mut session, mut client) = (Session::server(&app, now), Client::new(&plan, 1));
    let mut wire = vec![0; 4096];
    let mut allocations = 0;
    for round in 0..100 {
        let sent = client.output().len();
        wire[..sent].copy_from_slice(client.output().single().expect("in one piece"));
        client.output().consume(sent);
        session.receive(&mut wire[..sent], now);
        let answered = session.output().len();
        wire[..answered].copy_from_slice(session.output().single().expect("in one piece"));
        session.output().consume(answered);

        let before = ALLOCATIONS.get();
        let mut input = &mut wire[..answered];
        let event = client.next(&mut input).expect("no violation").expect("an echo");
        assert_eq!(matches!(event, ClientEvent::Upgraded), round == 0);
        assert_eq!(client.next(&mut input), Ok(None));
        client.send_with(Kind::Binary, 64, |space| space.fill(round));
        // The handshake is allowed some, and the first message its buffer.
        if round > 1 {
            allocations += ALLOCATIONS.get() - before;
        }
    }
    assert_eq!(allocations, 0);
}

/// Longest message, and longest body, of the clients below.
const LONGEST: usize = 256 << 10;

/// What they may make the server hold.
const BUDGET: usize = 4 << 20;

/// What a client may hold that is charged to nobody: what is no longer than a block, of its input, of its output and of what waits for its session, its head, and its
/// place in all tables. And what one read brings before it is known that it is too much.
const EACH: usize = 48 << 10;

/// What the last event takes beyond its data, since it is encoded when the first receiver wants it; and the tables of a server without clients.
const SLACK: usize = 5 * LONGEST + (512 << 10);

/// By which way a client comes in, and what it does there over and over.
#[derive(Debug, Clone, Copy)]
enum Entrance {
    Head,
    Body,
    ChunkedBody,
    Publish,
    PublishTopics,
    Polls,
    LongPoll,
    EventStream,
    Echo,
    Fragments,
    Broadcast,
    JsonBroadcast,
    Polling,
    EngineWebSocket,
    Attachments,
    Rooms,
    Login,
}

const ENTRANCES: [Entrance; 17] = [
    Entrance::Head,
    Entrance::Body,
    Entrance::ChunkedBody,
    Entrance::Publish,
    Entrance::PublishTopics,
    Entrance::Polls,
    Entrance::LongPoll,
    Entrance::EventStream,
    Entrance::Echo,
    Entrance::Fragments,
    Entrance::Broadcast,
    Entrance::JsonBroadcast,
    Entrance::Polling,
    Entrance::EngineWebSocket,
    Entrance::Attachments,
    Entrance::Rooms,
    Entrance::Login,
];

/// A server and clients that say much and read nothing.
struct House {
    app: Arc<App>,
    exchange: Exchange,
    sessions: Vec<Session>,
    now: Instant,
    /// The sessions of Engine.IO that poll, by client.
    sids: Vec<String>,
    before: isize,
}

fn websocket(path: &str) -> Vec<u8> {
    String::from_utf8_lossy(ECHO).replace("/echo", path).into_bytes()
}

/// A frame that is masked by zeros.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first, 0xFF];
    frame.extend((payload.len() as u64).to_be_bytes());
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}

fn post(target: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("POST {target} HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

impl House {
    fn new(clients: usize) -> House {
        let before = HELD_BYTES.get();
        let app = Arc::new(App {
            memory: Budget::new(BUDGET),
            max_message_bytes: LONGEST,
            history_bytes: 2 << 20,
            ..App::default()
        });
        let now = Instant::now();
        let exchange = Exchange::new(&app, now);
        let sessions = (0..clients).map(|_| Session::server(&app, now)).collect();
        House { app, exchange, sessions, now, sids: vec![String::new(); clients], before }
    }

    /// Hands over bytes as a loop would: as much at a time as it reads, and as long as the session wants to read.
    fn send(&mut self, client: usize, bytes: &[u8]) {
        for part in bytes.chunks(64 << 10) {
            if !self.sessions[client].wants().read || self.sessions[client].is_over() {
                return;
            }
            self.sessions[client].receive(&mut part.to_vec(), self.now);
            self.pass_on();
        }
    }

    fn pass_on(&mut self) {
        loop {
            let mut is_settled = true;
            for client in 0..self.sessions.len() {
                while let Some(request) = self.sessions[client].poll_event() {
                    is_settled = false;
                    self.exchange.handle(Port(client as u64), request, self.now);
                    self.take_effects();
                }
            }
            if self.exchange.poll_timeout().is_some_and(|due| due <= self.now) {
                is_settled = false;
                self.exchange.handle_timeout(self.now);
                self.take_effects();
            }
            if is_settled {
                return;
            }
        }
    }

    fn take_effects(&mut self) {
        while let Some(effect) = self.exchange.poll_effect() {
            match effect {
                Effect::Publish(message) => {
                    for session in &mut self.sessions {
                        if session.subscription().is_some_and(|(topic, _)| topic == message.topic()) {
                            session.deliver(&message, self.now);
                        }
                    }
                }
                Effect::Reply(Port(client), reply) => {
                    if let Reply::Engine(engine::Reply::Answer { body, .. }) = &reply
                        && let Some(rest) =
                            std::str::from_utf8(body).ok().and_then(|body| body.strip_prefix("0{\"sid\":\""))
                    {
                        self.sids[client as usize] = rest.split('"').next().unwrap_or_default().to_owned();
                    }
                    self.sessions[client as usize].reply(reply, self.now);
                }
            }
        }
    }

    /// What is allocated for all of it.
    fn held_bytes(&self) -> usize {
        usize::try_from(HELD_BYTES.get() - self.before).expect("no less than nothing")
    }

    /// The connection has ended, and another comes in its place. Its session of Engine.IO may well be left behind.
    fn reconnect(&mut self, client: usize) {
        if let Some(farewell) = self.sessions[client].poll_farewell() {
            self.exchange.handle(Port(client as u64), farewell, self.now);
            self.take_effects();
        }
        self.sessions[client] = Session::server(&self.app, self.now);
        self.pass_on();
    }

    /// What a client says next by this way; `is_first`: its connection is new.
    fn say(&mut self, client: usize, entrance: Entrance, is_first: bool, size: usize) {
        let payload = vec![b'x'; size];
        let topic = size % 7;
        let begin = |path: &str| if is_first { websocket(path) } else { Vec::new() };
        match entrance {
            Entrance::Head => {
                let start = if is_first { &b"GET / HTTP/1.1\r\nX: "[..] } else { b"" };
                self.send(client, &[start, &payload[..size.min(9000)]].concat());
            }
            Entrance::Body => {
                let head = "POST /publish HTTP/1.1\r\nHost: h\r\nContent-Length: 262144\r\n\r\n";
                self.send(client, &[head.as_bytes(), &payload[..size.min(LONGEST - 1)]].concat());
            }
            Entrance::ChunkedBody => {
                let head = "POST /publish HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
                let start = if is_first { head } else { "" };
                self.send(client, &[format!("{start}{size:x}\r\n").as_bytes(), &payload, b"\r\n"].concat());
            }
            Entrance::Publish => self.send(client, &post(&format!("/publish?topic=t{topic}"), &payload)),
            Entrance::PublishTopics => {
                let one = |i: usize| post(&format!("/publish?topic={}{i}", "n".repeat(200)), b"x");
                self.send(client, &(0..100).flat_map(|i| one(size * 100 + i)).collect::<Vec<_>>());
            }
            Entrance::Polls => {
                let one = format!("GET /poll?topic=t{topic}&since=0 HTTP/1.1\r\nHost: h\r\n\r\n");
                self.send(client, one.repeat(1 + size / 1000).as_bytes());
            }
            Entrance::LongPoll => {
                let head = "GET /longpoll?topic=nothing HTTP/1.1\r\nHost: h\r\n\r\n";
                self.send(client, &[head.as_bytes(), &payload].concat());
            }
            Entrance::EventStream => {
                self.send(
                    client,
                    format!("GET /events?topic=t{topic}&since=0 HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes(),
                );
            }
            Entrance::Echo => self.send(client, &[begin("/echo"), frame(0x82, &payload)].concat()),
            Entrance::Fragments => {
                self.send(client, &[begin("/echo"), frame(if is_first { 2 } else { 0 }, &payload)].concat());
            }
            Entrance::Broadcast => {
                self.send(
                    client,
                    &[begin(&format!("/broadcast?topic=t{topic}&since=0")), frame(0x82, &payload)].concat(),
                );
            }
            Entrance::JsonBroadcast => {
                let path = format!("/broadcast?topic=t{topic}&format=json&since=0");
                self.send(client, &[begin(&path), frame(0x82, &payload)].concat());
            }
            Entrance::Polling => {
                if is_first {
                    self.send(client, b"GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: h\r\n\r\n");
                    self.poll_post(client, b"40");
                }
                let events: Vec<String> = (0..1 + size / 300)
                    .map(|i| {
                        format!(
                            "42[\"{}\",\"{}\"]",
                            ["to-all", "to-me", "message"][i % 3],
                            "x".repeat(i % 300)
                        )
                    })
                    .collect();
                self.poll_post(client, events.join("\x1e").as_bytes());
                self.poll_post(client, format!("42[\"to-me\",\"{}\"]", "x".repeat(size)).as_bytes());
            }
            Entrance::EngineWebSocket => {
                if is_first {
                    self.send(client, &websocket("/socket.io/?EIO=4&transport=websocket"));
                    self.send(client, &frame(0x81, b"40"));
                }
                let event = format!("42[\"to-all\",\"{}\"]", "x".repeat(size));
                self.send(client, &frame(0x81, event.as_bytes()));
                let event = format!("42[\"publish\",\"t{topic}\",\"e\",\"{}\"]", "x".repeat(size));
                self.send(client, &frame(0x81, event.as_bytes()));
            }
            Entrance::Attachments => {
                if is_first {
                    self.send(client, &websocket("/socket.io/?EIO=4&transport=websocket"));
                    self.send(client, &frame(0x81, b"40"));
                    let places: Vec<String> =
                        (0..500).map(|i| format!("{{\"_placeholder\":true,\"num\":{i}}}")).collect();
                    self.send(
                        client,
                        &frame(0x81, format!("45500-[\"to-me\",{}]", places.join(",")).as_bytes()),
                    );
                }
                (0..5).for_each(|_| self.send(client, &frame(0x82, &payload[..size.min(20_000)])));
            }
            Entrance::Rooms => {
                if is_first {
                    self.send(client, &websocket("/socket.io/?EIO=4&transport=websocket"));
                    self.send(client, &frame(0x81, b"40"));
                }
                for i in 0..64 {
                    let event = format!("42[\"join\",\"{}{i}\"]", "r".repeat(250));
                    self.send(client, &frame(0x81, event.as_bytes()));
                }
            }
            Entrance::Login => {
                (0..20).for_each(|_| self.send(client, &post("/login/codes", b"")));
            }
        }
    }

    fn poll_post(&mut self, client: usize, body: &[u8]) {
        let target = format!("/socket.io/?EIO=4&transport=polling&sid={}", self.sids[client]);
        self.send(client, &post(&target, body));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// However clients come in and whatever they say without reading a byte: what is held is no more than the budget and a slack that is known.
    #[test]
    fn what_clients_make_a_server_hold_stays_within_its_budget(
        clients in vec(0..ENTRANCES.len(), 4..24),
        sizes in vec(prop_oneof![0..200_usize, 200..20_000_usize, 20_000..LONGEST], 20..60),
        seed in any::<u32>(),
    ) {
        let mut house = House::new(clients.len());
        let mut is_first = vec![true; clients.len()];
        let (mut state, mut highest) = (seed, 0);
        let limit = BUDGET + clients.len() * EACH + SLACK;
        for size in sizes {
            for (client, entrance) in clients.iter().enumerate() {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                if house.sessions[client].is_over() || state >> 28 == 0 {
                    house.reconnect(client);
                    is_first[client] = true;
                }
                let first = std::mem::replace(&mut is_first[client], false);
                house.say(client, ENTRANCES[*entrance], first, size);
                highest = highest.max(house.held_bytes());
                prop_assert!(
                    highest <= limit,
                    "{highest} bytes held, {} charged, of {limit}, by {:?}",
                    house.app.memory.used_bytes(),
                    ENTRANCES[*entrance]
                );
            }
        }
        // All of it is given back.
        let memory = house.app.memory.clone();
        drop(house);
        prop_assert_eq!(memory.used_bytes(), 0);
    }
}
