//! One budget for all that clients can make a server hold: what is charged, what happens when it is used up, and that all of it is given back.

use switchboard_proto::{App, Budget, Kind, Request, Session};

use super::frames::{BINARY, CLOSE, TEXT, masked};
use super::pair::Wire;

const KIB: usize = 1 << 10;

/// A server with so much memory.
fn app(max_memory: usize) -> App {
    App { memory: Budget::new(max_memory), ..App::default() }
}

fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n")
}

fn post(topic: &str, body: &[u8]) -> Vec<u8> {
    let head =
        format!("POST /publish?topic={topic} HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// What the close frame says, code and reason.
fn closed(frames: &[(u8, Vec<u8>)]) -> (u16, String) {
    let Some((CLOSE, payload)) = frames.last() else { panic!("no close frame in {frames:?}") };
    (u16::from_be_bytes([payload[0], payload[1]]), String::from_utf8_lossy(&payload[2..]).into_owned())
}

/// Whether others are still served.
fn assert_serves(app: &App) {
    let mut wire = Wire::new(app.clone());
    assert!(wire.ask(get("/poll?topic=t")).starts_with("HTTP/1.1 200 "));
    assert!(wire.ask(post("t", b"a short message")).starts_with("HTTP/1.1 202 "));
    let mut wire = Wire::open(app.clone(), "/echo");
    wire.send(&masked(TEXT, "short"));
    assert_eq!(wire.take_frames(), [(TEXT, b"short".to_vec())]);
}

#[test]
fn a_request_that_is_not_whole_is_refused_when_the_memory_is_used_up() {
    for head in [
        "POST /publish HTTP/1.1\r\nHost: h\r\nContent-Length: 10000000\r\n\r\n",
        "POST /publish HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n989680\r\n",
        "POST /socket.io/?EIO=4&transport=polling&sid=x HTTP/1.1\r\nHost: h\r\nContent-Length: 900000\r\n\r\n",
    ] {
        let app = app(1024 * KIB);
        let mut wires: Vec<Wire> = Vec::new();
        let mut refused = None;
        for _ in 0..100 {
            let mut wire = Wire::new(app.clone());
            wire.send(head.as_bytes());
            let before = wire.take_text();
            if !before.is_empty() {
                // A session that is not there is known before its body comes.
                assert!(before.contains("Session ID unknown"), "{before}");
                return;
            }
            (0..3).for_each(|_| wire.send(&[b'x'; 64 * KIB]));
            let answer = wire.take_text();
            if !answer.is_empty() {
                refused = Some((wire, answer));
                break;
            }
            wires.push(wire);
        }
        let (mut wire, answer) = refused.expect("there is no end to what it holds");
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("--max-memory"), "{answer}");
        assert!(answer.contains("\r\nSwitchboard-Refused: memory\r\n"), "{answer}");
        assert!(wire.session.counts().is_refused);
        wire.assert_drains();
        assert!((2..=6).contains(&wires.len()), "{}", wires.len());
        assert_serves(&app);
        drop((wires, wire));
        assert_eq!(app.memory.used_bytes(), 0);
    }
}

#[test]
fn a_message_that_is_not_whole_ends_its_websocket_when_the_memory_is_used_up() {
    let fragments: &[&[u8]] = &[&masked(BINARY, [7; 60 * KIB])];
    // A frame that does not end, and a message of fragments that never end.
    let frame = [&b"\x82\xFF\0\0\0\0\0\x90\0\0\0\0\0\0"[..], &[7; 60 * KIB]].concat();
    let mut fragment = fragments[0].to_vec();
    fragment[0] &= 0x7F;
    let mut next = fragment.clone();
    next[0] = 0;
    for (first, then) in [(frame, vec![7; 60 * KIB]), (fragment, next)] {
        let app = app(1024 * KIB);
        let mut wires: Vec<Wire> = (0..8).map(|_| Wire::open(app.clone(), "/echo")).collect();
        for (part, wire) in (0..8).flat_map(|part| (0..8).map(move |wire| (part, wire))) {
            let wire = &mut wires[wire];
            if !wire.is_closed() && wire.session.output().is_empty() {
                wire.send(if part == 0 { &first } else { &then });
            }
        }
        let ended: Vec<_> =
            wires.iter_mut().map(|wire| wire.take_frames()).filter(|frames| !frames.is_empty()).collect();
        assert!((1..8).contains(&ended.len()), "{} of 8", ended.len());
        for frames in ended {
            let (code, reason) = closed(&frames);
            assert!(code == 1013 && reason.contains("--max-memory"), "{code} {reason}");
        }
        assert!(app.memory.used_bytes() <= app.memory.max_bytes(), "{}", app.memory.used_bytes());
        drop(wires);
        assert_eq!(app.memory.used_bytes(), 0);
    }
}

#[test]
fn what_nobody_reads_is_charged_until_it_is_written() {
    let app = app(1024 * KIB);
    let mut wire = Wire::open(app.clone(), "/echo");
    wire.send(&masked(BINARY, [7; 60 * KIB]));
    let used = app.memory.used_bytes();
    assert!((60 * KIB..70 * KIB).contains(&used), "{used}");
    wire.take_some(40 * KIB);
    wire.take();
    assert_eq!(app.memory.used_bytes(), 0);
    // Those that are written by a ring as well.
    wire.send(&masked(BINARY, [7; 60 * KIB]));
    let lent = wire.session.output().lend().unwrap();
    assert_eq!(app.memory.used_bytes(), used);
    let length = lent.as_slice().len();
    drop(lent);
    wire.session.output().returned(length);
    assert_eq!(app.memory.used_bytes(), 0);
    // A message of a few bytes costs nothing, however often it is sent.
    for _ in 0..100 {
        wire.send(&masked(TEXT, "short"));
        assert_eq!(app.memory.used_bytes(), 0);
        wire.take();
    }
}

#[test]
fn echoes_that_nobody_reads_end_their_websocket_when_the_memory_is_used_up() {
    let app = app(256 * KIB);
    let mut wires: Vec<Wire> = (0..8).map(|_| Wire::open(app.clone(), "/echo")).collect();
    wires.iter_mut().for_each(|wire| wire.send(&masked(BINARY, [7; 60 * KIB])));
    let closed_ones = wires.iter_mut().filter(|wire| wire.session.counts().is_refused).count();
    assert!((3..=5).contains(&closed_ones), "{closed_ones}");
    // They are told so once they read.
    for wire in &mut wires {
        let frames = wire.take_frames();
        assert_eq!(frames[0], (BINARY, vec![7; 60 * KIB]));
        assert_eq!(frames.len() == 2, wire.session.counts().is_refused);
    }
    assert_eq!(app.memory.used_bytes(), 0);
}

#[test]
fn what_is_published_is_charged_once_however_many_it_waits_for() {
    let app = app(4096 * KIB);
    let mut wire = Wire::open(app.clone(), "/broadcast?topic=t");
    let mut others: Vec<Session> = Vec::new();
    for _ in 0..50 {
        let mut other = Wire::open(app.clone(), "/broadcast?topic=t");
        other.take();
        others.push(other.session);
    }
    let before = app.memory.used_bytes();
    wire.publish("t", None, Kind::Binary, &[7; 500 * KIB]);
    let message = wire.exchange_event("t");
    others.iter_mut().for_each(|other| other.deliver(&message, wire.now));
    drop(message);
    let used = app.memory.used_bytes() - before;
    // The data came from nowhere here, so that only its frame is charged.
    assert!((500 * KIB..600 * KIB).contains(&used), "{used}");
    drop((others, wire));
    assert_eq!(app.memory.used_bytes(), 0);
}

#[test]
fn the_history_gives_way_to_what_clients_need() {
    // An answer with all that is held would need more memory than is left.
    let app = App { max_unsent_bytes: 64 * KIB, ..app(1024 * KIB) };
    let mut wire = Wire::new(app.clone());
    for size in [100, 20 * KIB] {
        for _ in 0..200 {
            assert!(wire.ask(post("t", &vec![b'x'; size])).starts_with("HTTP/1.1 202 "));
            wire.published.clear();
        }
        assert!(app.memory.used_bytes() <= 1024 * KIB + 100 * KIB, "{}", app.memory.used_bytes());
    }
    let answer = wire.ask(get("/poll?topic=t&since=399"));
    assert!(answer.contains("\"id\":400,"), "the newest is held");
    assert!(wire.ask(get("/poll?topic=t&since=1")).contains("\"missed\":"));
    assert_serves(&app);
    drop(wire);
    assert_eq!(app.memory.used_bytes(), 0);
}

#[test]
fn an_answer_that_is_too_long_for_the_memory_is_a_refusal() {
    let app = app(600 * KIB);
    let mut wire = Wire::new(app.clone());
    wire.ask(post("t", &[b'x'; 300 * KIB]));
    let mut readers: Vec<Wire> = (0..5).map(|_| Wire::new(app.clone())).collect();
    let mut statuses = Vec::new();
    for reader in &mut readers {
        std::mem::swap(&mut reader.exchange, &mut wire.exchange);
        reader.send(get("/poll?topic=t&since=0").as_bytes());
        std::mem::swap(&mut reader.exchange, &mut wire.exchange);
        statuses.push(String::from_utf8_lossy(&reader.take_some(12)).into_owned());
    }
    assert_eq!(statuses, ["HTTP/1.1 503"; 5]);
    // Whoever publishes more than there is room for is told as well.
    assert!(wire.ask(post("t", &[b'x'; 400 * KIB])).contains("Switchboard-Refused: memory"));
    assert!(wire.ask(post("t", b"short")).starts_with("HTTP/1.1 202 "));
}

#[test]
fn topics_and_sessions_are_charged() {
    let app = app(8192 * KIB);
    let mut wire = Wire::new(app.clone());
    (0..5000).for_each(|i| wire.publish(&format!("topic {i}"), None, Kind::Text, b"x"));
    let with_topics = app.memory.used_bytes();
    assert!(with_topics >= 5000 * 256, "{with_topics}");
    let handshake = get("/socket.io/?EIO=4&transport=polling");
    let mut opened = 0;
    let last = loop {
        let answer = wire.ask(&handshake);
        if !answer.starts_with("HTTP/1.1 200 ") {
            break answer;
        }
        opened += 1;
        assert!(opened < 100_000, "there is no end to them");
    };
    assert!(last.starts_with("HTTP/1.1 503 ") && last.contains("--max-memory"), "{last}");
    assert!(opened > 10_000, "{opened}");
    wire.ask_elsewhere(Request::FAREWELL);
    drop(wire);
    assert_eq!(app.memory.used_bytes(), 0);
}
