//! SIGTERM in the middle of publishing: what a publisher was told is published reaches every subscriber that reads, before the subscriber is told
//! that the server ends.

use std::collections::HashSet;
use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::child::Settings;
use crate::client::{Client, Frame, close_code, eventually};
use crate::engine_client::{Engine, Polling, SOCKETIO};
use crate::events::{EventStream, events, post};
use crate::frames::{CLOSE, TEXT, close, text};
use crate::http::get;
use crate::server::Server;
use crate::{Case, case};

pub(crate) const CASES: &[Case] = &[
    case!(EventStream, what_was_acknowledged_before_the_end_reaches_every_subscriber).with(patient),
    case!(EventStream, a_subscriber_that_reads_slowly_still_gets_what_was_acknowledged).with(patient),
];

/// Servers that are ended, one after the other: where two things race, once is not enough.
const ROUNDS: usize = 5;

/// Requests that one publisher has under way.
const PIPELINED: usize = 16;

fn patient(settings: &mut Settings) {
    settings.app.grace = Duration::from_secs(60);
    // Whoever polls may come late on a busy machine.
    settings.app.history_events = 1 << 20;
}

/// A server as the case has it, once more.
fn another(server: &Server) -> Server {
    let mut settings = Settings::for_model(server.model);
    patient(&mut settings);
    Server::start(server.model, &settings)
}

fn what_was_acknowledged_before_the_end_reaches_every_subscriber(server: &mut Server) {
    end_while_publishing(server, 200);
    (1..ROUNDS).for_each(|round| end_while_publishing(&mut another(server), 200 + 150 * round));
}

/// Ends a server when so many events have been acknowledged.
fn end_while_publishing(server: &mut Server, least: usize) {
    let websockets: Vec<Client> = (0..4).map(|_| Client::open(server, "/broadcast?topic=t")).collect();
    let streams: Vec<EventStream> = (0..4).map(|_| EventStream::open(server, "/events?topic=t")).collect();
    let sockets: Vec<Client> = (0..3).map(|_| in_room(server)).collect();
    let poll = Client::connect(server);
    let socket = polling_in_room(server);
    let posters = [1, 1, PIPELINED].map(|at_once| (Client::connect(server), at_once));
    let (socketio, speaker) = (in_room(server), Client::open(server, "/broadcast?topic=t"));
    let count = AtomicUsize::new(0);
    let count = &count;
    thread::scope(|scope| {
        let mut subscribers = Vec::new();
        let websockets = websockets.into_iter().map(|client| scope.spawn(|| heard(client, plain)));
        subscribers.extend(websockets.map(|thread| ("a WebSocket", thread)));
        let streams = streams.into_iter().map(|stream| scope.spawn(|| heard_in_stream(stream)));
        subscribers.extend(streams.map(|thread| ("an event stream", thread)));
        let sockets = sockets.into_iter().map(|client| scope.spawn(|| heard(client, from_room)));
        subscribers.extend(sockets.map(|thread| ("a client of Socket.IO", thread)));
        subscribers.push(("a long poll", scope.spawn(|| heard_by_long_polls(poll))));
        subscribers.push(("a client of Socket.IO that polls", scope.spawn(|| heard_by_polls(socket))));
        let mut publishers = Vec::new();
        for (number, (client, at_once)) in posters.into_iter().enumerate() {
            publishers.push(scope.spawn(move || post_until_the_end(client, number, at_once, count)));
        }
        publishers.push(scope.spawn(|| emit_until_the_end(socketio, count)));
        publishers.push(scope.spawn(|| speak_until_the_end(speaker, count)));
        eventually("enough is published", || count.load(Ordering::Relaxed) >= least);
        server.signal(Signal::SIGTERM);
        let acknowledged: Vec<String> =
            publishers.into_iter().flat_map(|thread| thread.join().expect("it was ended")).collect();
        assert!(acknowledged.len() >= least);
        for (who, thread) in subscribers {
            let heard = thread.join().expect("it was ended as it should be");
            let lost: Vec<&String> = acknowledged.iter().filter(|name| !heard.contains(*name)).collect();
            assert!(
                lost.is_empty(),
                "{who} was not given {} of {} events that were acknowledged, {:?} among them",
                lost.len(),
                acknowledged.len(),
                &lost[..lost.len().min(5)]
            );
        }
    });
    server.finish();
}

/// Publishes by POST, so many requests under way at a time, until the server takes no more. Returns what was acknowledged.
fn post_until_the_end(mut client: Client, number: usize, at_once: usize, count: &AtomicUsize) -> Vec<String> {
    let mut acknowledged = Vec::new();
    for round in 0.. {
        let names: Vec<String> = (0..at_once).map(|i| format!("post-{number}-{round}-{i}")).collect();
        let requests: Vec<u8> = names.iter().flat_map(|name| post("topic=t", "", name.as_bytes())).collect();
        if client.stream.write_all(&requests).is_err() {
            break;
        }
        for name in names {
            match try_status(&mut client) {
                Some(202) => acknowledged.push(name),
                // An event that nobody gets is refused by this, or by the end of the connection.
                Some(503) | None => return acknowledged,
                Some(other) => panic!("an event was answered with {other}"),
            }
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
    acknowledged
}

/// The status of the next answer, if all of it comes.
fn try_status(client: &mut Client) -> Option<u16> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.extend(client.try_take(1).ok()?);
    }
    let head = String::from_utf8(head).expect("a head is text");
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).expect("a length");
    client.try_take(length.parse().expect("a number")).ok()?;
    head.split(' ').nth(1)?.parse().ok()
}

/// Publishes by Socket.IO, each event when the one before it was acknowledged.
fn emit_until_the_end(mut client: Client, count: &AtomicUsize) -> Vec<String> {
    let mut acknowledged = Vec::new();
    for id in 0.. {
        let name = format!("emit-{id}");
        let answer = format!("43{id}[");
        if client.stream.write_all(&text(&format!(r#"42{id}["publish","t",null,"{name}"]"#))).is_err() {
            break;
        }
        loop {
            match try_frame(&mut client) {
                Some((TEXT, packet)) if packet.starts_with(answer.as_bytes()) => {
                    if packet[answer.len()] == b'{' {
                        return acknowledged;
                    }
                    break acknowledged.push(name);
                }
                Some((TEXT, _)) => {}
                other => return end_of(client, other, acknowledged),
            }
        }
        count.fetch_add(1, Ordering::Relaxed);
    }
    acknowledged
}

/// Publishes by a WebSocket; what comes back has been published.
fn speak_until_the_end(mut client: Client, count: &AtomicUsize) -> Vec<String> {
    let mut acknowledged = Vec::new();
    for id in 0.. {
        let name = format!("said-{id}");
        if client.stream.write_all(&text(&name)).is_err() {
            break;
        }
        loop {
            match try_frame(&mut client) {
                Some((TEXT, said)) if said == name.as_bytes() => break acknowledged.push(name),
                Some((TEXT, _)) => {}
                other => return end_of(client, other, acknowledged),
            }
        }
        count.fetch_add(1, Ordering::Relaxed);
    }
    acknowledged
}

fn end_of(mut client: Client, last: Option<(u8, Vec<u8>)>, acknowledged: Vec<String>) -> Vec<String> {
    if let Some((opcode, _)) = last {
        assert_eq!(opcode, CLOSE);
        let _ = client.stream.write_all(&close(1001, ""));
        client.whatever_is_left();
    }
    acknowledged
}

/// The next frame, unless the connection has ended.
fn try_frame(client: &mut Client) -> Option<(u8, Vec<u8>)> {
    let header = client.try_take(2).ok()?;
    let length = match header[1] {
        126 => usize::from(u16::from_be_bytes(client.try_take(2).ok()?.try_into().expect("two bytes"))),
        short => usize::from(short),
    };
    Some((header[0] & 0x0f, client.try_take(length).ok()?))
}

/// What a subscriber hears on a WebSocket until it is told that the server ends.
fn heard(mut client: Client, name: fn(String) -> Option<String>) -> HashSet<String> {
    let mut heard = HashSet::new();
    loop {
        let Frame { opcode, payload, .. } = client.frame();
        if opcode == CLOSE {
            assert_eq!(close_code(&Frame { is_final: true, opcode, payload }), Some(1001));
            client.goodbye(1001);
            return heard;
        }
        heard.extend(name(String::from_utf8(payload).expect("text")));
    }
}

fn plain(message: String) -> Option<String> {
    Some(message)
}

/// The data of an event as a room gets it; of other packets nothing.
fn from_room(packet: String) -> Option<String> {
    let (name, _) = packet.strip_prefix(r#"42["message",""#)?.split_once('"')?;
    Some(name.to_owned())
}

/// A client of Socket.IO that is in the room.
fn in_room(server: &Server) -> Client {
    let mut engine = Engine::websocket(server, SOCKETIO).connected();
    engine.send(&[r#"420["join","t"]"#]);
    engine.expect(&["430[]"]);
    let Engine::WebSocket(client) = engine else { unreachable!("it was opened as one") };
    client
}

/// What a subscriber reads in an event stream until its end, which is not a reset.
fn heard_in_stream(mut stream: EventStream) -> HashSet<String> {
    let rest = String::from_utf8(stream.client.rest()).expect("text");
    // What is not followed by an empty line is no event.
    let events = rest.split_inclusive("\n\n").filter(|event| event.ends_with("\n\n"));
    events.flat_map(str::lines).filter_map(|line| line.strip_prefix("data: ")).map(str::to_owned).collect()
}

/// What long polls bring until the server ends, without a gap: the last question is answered with all that came since the one before.
fn heard_by_long_polls(mut client: Client) -> HashSet<String> {
    let (mut heard, mut newest) = (HashSet::new(), 0);
    loop {
        client.send(get(&format!("/longpoll?topic=t&since={newest}")));
        let response = client.response();
        if response.status != 200 {
            assert_eq!(response.status, 503, "{response:?}");
            return heard;
        }
        let answer = response.json();
        assert_eq!(answer.get("missed"), None, "{answer}");
        for event in events(&answer) {
            newest += 1;
            assert_eq!(event.id, newest);
            heard.insert(event.data);
        }
        if response.says_close() {
            return heard;
        }
    }
}

/// A client of Socket.IO that is in the room and polls.
fn polling_in_room(server: &Server) -> Polling {
    let mut engine = Engine::polling(server, SOCKETIO).connected();
    engine.send(&[r#"420["join","t"]"#]);
    engine.expect(&["430[]"]);
    let Engine::Polling(polling) = engine else { unreachable!("it was opened as one") };
    polling
}

/// What it hears until the session is closed.
fn heard_by_polls(mut polling: Polling) -> HashSet<String> {
    const CLOSE_PACKET: &str = "1";
    let mut heard = HashSet::new();
    loop {
        let packet = polling.next();
        if packet == CLOSE_PACKET {
            return heard;
        }
        heard.extend(from_room(packet));
    }
}

fn a_subscriber_that_reads_slowly_still_gets_what_was_acknowledged(server: &mut Server) {
    // More than the system takes for a client that does not read, and less than may wait for it.
    const EVENTS: usize = 48;
    let data = "x".repeat(32 << 10);
    let mut stream = EventStream::begun({
        let mut client = Client::connect_narrow(server);
        client.send(get("/events?topic=t"));
        client
    });
    let mut websocket = Client::connect_narrow(server).upgrade("/broadcast?topic=t");
    let mut publisher = Client::connect(server);
    (0..EVENTS).for_each(|_| assert_ne!(publisher.publish("t", &data), 0));
    server.signal(Signal::SIGTERM);
    // Nobody has read yet, and the publisher hears of the end first.
    publisher.expect_end();
    (0..EVENTS).for_each(|_| websocket.expect_text(&data));
    assert_eq!(close_code(&websocket.frame()), Some(1001));
    websocket.goodbye(1001);
    (1..=EVENTS as u64)
        .for_each(|id| assert_eq!((stream.next().data.len(), stream.last_id), (data.len(), Some(id))));
    stream.client.expect_end();
    assert_eq!(server.finish().dropped, 0);
}
