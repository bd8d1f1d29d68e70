//! An idle connection owns no buffers: counted at the allocator, since nothing else sees them all.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use switchboard_proto::engine::{self, Endpoint, EngineSettings, Engines, Query};
use switchboard_proto::{
    App, Client, ClientEvent, ClientPlan, Dialect, Kind, Outgoing, Port, Reply, Request, Session, Since,
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
