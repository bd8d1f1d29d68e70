//! Engine.IO over a WebSocket, and the way to it, on the bare endpoint.

use std::time::Duration;

use switchboard_proto::Port;
use switchboard_proto::engine::{Endpoint, Query, Request};

use super::engine::{INTERVAL, OVERTAKING, Server, TIMEOUT, over_websocket, query, settings};

const BAD_REQUEST: &str = r#"400 {"code":3,"message":"Bad request"}"#;
const TICK: Duration = Duration::from_millis(1);

fn start() -> (Server, Port) {
    let mut server = Server::new(&settings());
    let port = server.open(Endpoint::Bare);
    (server, port)
}

/// A session that polls, and a WebSocket that is to take over.
fn begin_upgrade() -> (Server, Query, Port) {
    let mut server = Server::new(&settings());
    let session = server.polling(Endpoint::Bare);
    let port = server.websocket(over_websocket(&session));
    assert_eq!(server.told(port), ["accept"]);
    (server, session, port)
}

#[test]
fn a_session_opens_on_a_websocket() {
    let mut server = Server::new(&settings());
    let port = server.websocket(query(Endpoint::Bare, "websocket"));
    let told = server.told(port);
    assert_eq!(told[0], "accept");
    assert!(told[1].starts_with(r#"0{"sid":""#) && told[1].contains(r#""upgrades":[],"#), "{}", told[1]);
}

#[test]
fn a_handshake_that_is_wrong_is_answered_400() {
    let mut server = Server::new(&settings());
    let right = query(Endpoint::Bare, "websocket");
    let wrong = [
        (Query { eio: "abc".to_owned(), ..right.clone() }, 5),
        (Query { transport: "abc".to_owned(), ..right.clone() }, 0),
        (Query { transport: "polling".to_owned(), ..right.clone() }, 3),
        (Query { sid: Some("abc".to_owned()), ..right }, 1),
    ];
    for (query, code) in wrong {
        let port = server.websocket(query);
        assert!(server.told(port)[0].starts_with(&format!(r#"400 {{"code":{code},"#)));
    }
}

#[test]
fn messages_come_back_as_they_went() {
    let (mut server, port) = start();
    assert_eq!(server.exchange(port, "4hello"), ["4hello"]);
    server.say_bytes(port, &[1, 2, 3, 4]);
    assert_eq!(server.told(port), ["<01020304>"]);
    assert_eq!(server.exchange(port, "bAQIDBA=="), ["<01020304>"], "a client without binary frames");
    assert_eq!(server.exchange(port, "6"), [""; 0]);
}

#[test]
fn a_bad_packet_closes_at_once() {
    for packet in ["abc", "", "2", "2probe", "9"] {
        let (mut server, port) = start();
        assert_eq!(server.exchange(port, packet), ["close"], "{packet}");
        assert_eq!(server.exchange(port, "4late"), [""; 0]);
        assert_eq!((server.engines.sessions(), server.engines.poll_timeout()), (0, None));
    }
}

#[test]
fn a_message_that_is_too_long_closes() {
    let (mut server, port) = start();
    assert_eq!(server.exchange(port, &"4".repeat(1_000_000)).len(), 1);
    assert_eq!(server.exchange(port, &"4".repeat(1_000_001)), ["close"]);
}

#[test]
fn the_close_packet_closes_at_once() {
    let (mut server, port) = start();
    assert_eq!(server.exchange(port, "1"), ["close"]);
}

#[test]
fn pings_are_answered_or_the_session_ends() {
    let (mut server, port) = start();
    for _ in 0..3 {
        server.wait(INTERVAL);
        assert_eq!(server.told(port), ["2"]);
        server.wait(TIMEOUT - TICK);
        server.say(port, "3");
    }
    server.wait(INTERVAL + TIMEOUT - TICK);
    assert_eq!(server.told(port), ["2"]);
    server.wait(TICK);
    assert_eq!(server.told(port), ["close"]);
}

#[test]
fn as_long_as_a_ping_waits_to_be_sent_nobody_is_late_with_the_pong() {
    let (mut server, port) = start();
    server.wait(INTERVAL);
    assert_eq!(server.told(port), ["2"]);
    server.ask(port, Request::PingWaits);
    server.wait(100 * TIMEOUT);
    assert_eq!(server.told(port), [""; 0]);
    server.ask(port, Request::PingSent);
    server.wait(TIMEOUT - TICK);
    server.say(port, "3");
    // The answer may come before the word that the question was sent.
    server.ask(port, Request::PingSent);
    server.wait(INTERVAL);
    assert_eq!(server.told(port), ["2"]);
    server.wait(TIMEOUT);
    assert_eq!(server.told(port), ["close"]);
}

#[test]
fn a_connection_that_is_lost_takes_its_session_along() {
    let (mut server, port) = start();
    server.ask(port, Request::Gone);
    assert_eq!(server.told(port), [""; 0]);
    assert_eq!((server.engines.sessions(), server.engines.poll_timeout()), (0, None));
}

#[test]
fn a_session_moves_from_polling_to_a_websocket_and_loses_nothing() {
    let (mut server, session, port) = begin_upgrade();
    let poll = server.get(session.clone());
    assert_eq!(server.exchange(port, "2probe"), ["3probe"]);
    server.wait(OVERTAKING);
    assert_eq!(server.told(poll), ["200 6"], "a poll that waits is released");
    let poll = server.get(session.clone());
    server.wait(OVERTAKING);
    assert_eq!(server.told(poll), ["200 6"], "and so is each one after it");
    assert_eq!(server.post(session.clone(), "4late\x1ebAQ=="), ["200 ok"]);
    assert_eq!(server.exchange(port, "5"), ["4late", "<01>"]);
    assert_eq!(server.exchange(port, "4hello"), ["4hello"]);
    assert_eq!(server.poll(session.clone()), [BAD_REQUEST], "it polls no more");
    assert_eq!(server.post(session, "4a"), [BAD_REQUEST]);
    assert_eq!(server.exchange(port, "4hello"), ["4hello"]);
}

#[test]
fn a_poll_that_has_overtaken_the_upgrade_is_refused_as_if_it_had_not() {
    let (mut server, session, port) = begin_upgrade();
    server.say(port, "2probe");
    let poll = server.get(session);
    server.wait(OVERTAKING - TICK);
    server.say(port, "5");
    assert_eq!(server.told(poll), [BAD_REQUEST]);
    assert_eq!(server.exchange(port, "4a"), ["3probe", "4a"]);
}

#[test]
fn an_upgrade_without_a_probe_releases_the_poll_as_well() {
    let (mut server, session, port) = begin_upgrade();
    let poll = server.get(session);
    server.wait(OVERTAKING);
    assert_eq!(server.exchange(port, "5"), [""; 0]);
    assert_eq!(server.told(poll), ["200 6"]);
    server.ask(poll, Request::Gone);
    assert_eq!(server.exchange(port, "4a"), ["4a"]);
}

#[test]
fn a_second_websocket_is_closed_and_the_first_goes_on() {
    let (mut server, session, port) = begin_upgrade();
    for packet in ["2probe", "5", "4hello"] {
        let second = server.websocket(over_websocket(&session));
        assert_eq!(server.told(second), ["accept", "close"]);
        server.ask(second, Request::Gone);
        server.say(port, packet);
    }
    assert_eq!(server.told(port), ["3probe", "4hello"]);
}

#[test]
fn a_websocket_that_says_something_else_is_closed_and_polling_goes_on() {
    for packet in ["4hello", "2", "abc", "1"] {
        let (mut server, session, port) = begin_upgrade();
        assert_eq!(server.exchange(port, packet), ["close"]);
        assert_eq!(server.post(session.clone(), "4a"), ["200 ok"]);
        assert_eq!(server.poll(session.clone()), ["200 4a"]);
        let again = server.websocket(over_websocket(&session));
        assert_eq!(server.told(again), ["accept"]);
    }
}

#[test]
fn a_websocket_that_is_lost_or_takes_too_long_leaves_polling_alone() {
    let (mut server, session, port) = begin_upgrade();
    server.say(port, "2probe");
    server.ask(port, Request::Gone);
    let poll = server.get(session.clone());
    assert_eq!(server.told(poll), [""; 0], "polls are held again");

    let port = server.websocket(over_websocket(&session));
    for _ in 0..34 {
        server.wait(INTERVAL);
        server.post(session.clone(), "3");
    }
    assert_eq!(server.told(port), ["accept", "close"]);
    assert_eq!(server.post(session, "4a"), ["200 ok"]);
}

#[test]
fn a_session_that_ends_during_an_upgrade_closes_both() {
    let (mut server, session, port) = begin_upgrade();
    let poll = server.get(session.clone());
    server.post(session, "x");
    assert_eq!(server.told(port), ["close"]);
    assert_eq!(server.told(poll), ["200 1"]);
}
