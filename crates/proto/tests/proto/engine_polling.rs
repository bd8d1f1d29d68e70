//! Engine.IO by GET and POST, on the bare endpoint.

use std::time::Duration;

use switchboard_proto::Kind;
use switchboard_proto::engine::{ContentType, Endpoint, EngineSettings, Query, Reply, Request};

use super::engine::{INTERVAL, OVERTAKING, Server, TIMEOUT, over_websocket, query, settings, sid_of};

const BAD_REQUEST: &str = r#"400 {"code":3,"message":"Bad request"}"#;
const UNKNOWN: &str = r#"400 {"code":1,"message":"Session ID unknown"}"#;
const TICK: Duration = Duration::from_millis(1);

fn start() -> (Server, Query) {
    let mut server = Server::new(&settings());
    let session = server.polling(Endpoint::Bare);
    (server, session)
}

#[test]
fn a_handshake_says_what_the_session_is_like() {
    let mut server = Server::new(&settings());
    let told = server.poll(query(Endpoint::Bare, "polling")).remove(0);
    let sid = sid_of(&told);
    assert_eq!(sid.len(), 20);
    let rest = r#""upgrades":["websocket"],"pingInterval":300,"pingTimeout":200,"maxPayload":1000000}"#;
    assert_eq!(told, format!(r#"200 0{{"sid":"{sid}",{rest}"#));
    let other = server.poll(query(Endpoint::Bare, "polling")).remove(0);
    assert_ne!(sid_of(&other), sid);
}

#[test]
fn a_request_that_is_wrong_is_told_why() {
    let (mut server, session) = start();
    let bare = |transport: &str, eio: &str| Query { eio: eio.to_owned(), ..query(Endpoint::Bare, transport) };
    let unknown_transport = [r#"400 {"code":0,"message":"Transport unknown"}"#];
    assert_eq!(server.poll(bare("", "4")), unknown_transport);
    assert_eq!(server.poll(bare("abc", "4")), unknown_transport);
    let unsupported = [r#"400 {"code":5,"message":"Unsupported protocol version"}"#];
    assert_eq!(server.poll(bare("polling", "")), unsupported);
    assert_eq!(server.poll(bare("polling", "abc")), unsupported);
    assert_eq!(server.poll(Query { eio: "3".to_owned(), ..session.clone() }), unsupported);
    let method = [r#"400 {"code":2,"message":"Bad handshake method"}"#];
    assert_eq!(server.post(bare("polling", "4"), "4hello"), method);
    let port = server.port();
    server.ask(port, Request::OtherMethod(bare("polling", "4")));
    assert_eq!(server.told(port), method);
    server.ask(port, Request::OtherMethod(session.clone()));
    assert_eq!(server.told(port), [BAD_REQUEST]);
    server.ask(port, Request::PostBegun(bare("polling", "4")));
    assert_eq!(server.told(port), method);
    assert_eq!(server.poll(bare("websocket", "4")), [BAD_REQUEST], "without a handshake");
    for sid in ["abc", "AAAAAAAAAAAAAAAAAAAA", "________________________"] {
        assert_eq!(server.poll(Query { sid: Some(sid.to_owned()), ..session.clone() }), [UNKNOWN]);
    }
    let elsewhere = Query { endpoint: Endpoint::SocketIo, ..session.clone() };
    assert_eq!(server.poll(elsewhere), [UNKNOWN], "a session belongs to its path");
    let port = server.get(session.clone());
    assert_eq!(server.told(port), [""; 0], "all of this has not harmed the session");
    let json = server.get(bare("", "4"));
    let Reply::Answer { content_type, .. } = server.replies(json).remove(0) else { panic!("an answer") };
    assert_eq!(content_type, ContentType::Json);
}

#[test]
fn what_is_posted_comes_back_by_the_next_poll() {
    let (mut server, session) = start();
    for body in ["4hello", "4test1\x1e4test2\x1e4test3", "4hello\x1ebAQIDBA==", "4", "4€\x1e4"] {
        assert_eq!(server.post(session.clone(), body), ["200 ok"]);
        assert_eq!(server.poll(session.clone()), [format!("200 {body}")]);
    }
}

#[test]
fn a_poll_waits_and_takes_all_that_comes_of_one_post() {
    let (mut server, session) = start();
    let poll = server.get(session.clone());
    assert_eq!(server.told(poll), [""; 0]);
    assert_eq!(server.post(session.clone(), "4a\x1e4b"), ["200 ok"]);
    assert_eq!(server.told(poll), ["200 4a\x1e4b"]);
    server.ask(poll, Request::Gone);
    assert_eq!(server.post(session, "4c"), ["200 ok"], "a connection may end between polls");
}

#[test]
fn a_bad_packet_ends_the_session_at_once() {
    for body in ["abc", "", "4a\x1e", "2", "2probe", "7", "bA", "b!", "\x1e4a"] {
        let (mut server, session) = start();
        let poll = server.get(session.clone());
        assert_eq!(server.post(session.clone(), body), [BAD_REQUEST], "{body:?}");
        assert!(server.told(poll)[0].ends_with('1'), "{body:?}");
        assert_eq!(server.poll(session), [UNKNOWN]);
        assert_eq!(server.engines.sessions(), 0);
        assert_eq!(server.engines.poll_timeout(), None);
    }
}

#[test]
fn only_text_may_be_posted() {
    let (mut server, session) = start();
    assert_eq!(server.post(session.clone(), b"4\xff".to_vec()), [BAD_REQUEST]);
    assert_eq!(server.poll(session), [UNKNOWN]);
    let session = server.polling(Endpoint::Bare);
    let port = server.port();
    let content_type = Some("Application/Octet-Stream; x=y".to_owned());
    server.ask(port, Request::Post { query: session.clone(), content_type, body: "4a".into() });
    assert_eq!(server.told(port), [BAD_REQUEST]);
    assert_eq!(server.poll(session), [UNKNOWN]);
}

#[test]
fn a_body_that_is_too_long_is_refused_and_the_session_goes_on() {
    let (mut server, session) = start();
    assert!(server.post(session.clone(), "4".repeat(1_000_001))[0].starts_with("413 "));
    assert_eq!(server.post(session.clone(), "6".to_owned() + &"\x1e6".repeat(499_999)), ["200 ok"]);
    assert_eq!(server.post(session, "4a"), ["200 ok"]);
}

#[test]
fn two_polls_at_once_end_the_session() {
    let (mut server, session) = start();
    let first = server.get(session.clone());
    assert_eq!(server.poll(session.clone()), [BAD_REQUEST]);
    assert_eq!(server.told(first), ["200 1"]);
    assert_eq!(server.poll(session), [UNKNOWN]);
}

#[test]
fn a_post_during_a_post_ends_the_session() {
    let (mut server, session) = start();
    let first = server.port();
    server.ask(first, Request::PostBegun(session.clone()));
    assert_eq!(server.told(first), [""; 0]);
    assert_eq!(server.post(session.clone(), "4a"), [BAD_REQUEST]);
    server.ask(first, Request::Post { query: session.clone(), content_type: None, body: "4b".into() });
    assert_eq!(server.told(first), [UNKNOWN]);

    let session = server.polling(Endpoint::Bare);
    server.ask(first, Request::PostBegun(session.clone()));
    server.ask(first, Request::Post { query: session.clone(), content_type: None, body: "4b".into() });
    assert_eq!(server.told(first), ["200 ok"]);
    let second = server.port();
    server.ask(second, Request::PostBegun(session.clone()));
    server.ask(second, Request::Gone);
    assert_eq!(server.poll(session), [UNKNOWN], "a body that never came");
}

#[test]
fn a_poll_that_is_given_up_ends_the_session() {
    let (mut server, session) = start();
    let poll = server.get(session.clone());
    server.ask(poll, Request::Gone);
    assert_eq!(server.told(poll), [""; 0]);
    assert_eq!(server.poll(session), [UNKNOWN]);
}

#[test]
fn a_client_that_closes_gets_its_poll_back() {
    let (mut server, session) = start();
    let poll = server.get(session.clone());
    assert_eq!(server.post(session.clone(), "1\x1e4late"), ["200 ok"]);
    assert_eq!(server.told(poll), ["200 6"]);
    assert_eq!(server.poll(session), [UNKNOWN]);
}

#[test]
fn a_poll_that_was_overtaken_by_the_close_gets_its_answer_too() {
    let (mut server, session) = start();
    let post = server.port();
    let close = Request::Post { query: session.clone(), content_type: None, body: "4a\x1e1".into() };
    server.ask(post, close.clone());
    assert_eq!(server.told(post), [""; 0], "nobody can know yet that it is over");
    assert_eq!(server.post(session.clone(), "4b"), [UNKNOWN]);
    let socket = server.websocket(over_websocket(&session));
    assert_eq!(server.told(socket), [UNKNOWN]);
    assert_eq!(server.poll(session.clone()), ["200 4a\x1e6"]);
    assert_eq!(server.told(post), ["200 ok"]);
    assert_eq!(server.poll(session), [UNKNOWN]);

    // Or there is none.
    let session = server.polling(Endpoint::Bare);
    server.ask(post, Request::Post { query: session.clone(), content_type: None, body: "1".into() });
    server.wait(OVERTAKING);
    assert_eq!(server.told(post), ["200 ok"]);
    assert_eq!(server.poll(session), [UNKNOWN]);
    assert_eq!((server.engines.sessions(), server.engines.poll_timeout()), (0, None));
}

#[test]
fn pings_come_by_poll_and_pongs_by_post() {
    let (mut server, session) = start();
    for _ in 0..3 {
        let poll = server.get(session.clone());
        server.wait(INTERVAL - TICK);
        assert_eq!(server.told(poll), [""; 0]);
        server.wait(TICK);
        assert_eq!(server.told(poll), ["200 2"]);
        assert_eq!(server.post(session.clone(), "3"), ["200 ok"]);
    }
}

#[test]
fn without_a_pong_the_session_ends_at_the_ping_timeout() {
    let (mut server, session) = start();
    server.wait(INTERVAL + TIMEOUT - TICK);
    assert_eq!(server.engines.sessions(), 1);
    server.wait(TICK);
    assert_eq!(server.poll(session), [UNKNOWN]);
}

#[test]
fn what_has_come_is_looked_at_before_the_time() {
    // The server was stopped: what was sent in time is there, and nobody has looked at the clock before.
    let (mut server, session) = start();
    let poll = server.get(session.clone());
    server.wait(INTERVAL);
    assert_eq!(server.told(poll), ["200 2"]);
    server.now += 10 * TIMEOUT;
    let poll = server.get(session.clone());
    assert_eq!(server.told(poll), [""; 0], "a question does not end the session");
    assert_eq!(server.post(session.clone(), "3"), ["200 ok"]);
    server.engines.handle_timeout(server.now);
    assert_eq!(server.told(poll), [""; 0]);
    assert_eq!(server.post(session, "4hello"), ["200 ok"]);
    assert_eq!(server.told(poll), ["200 4hello"]);
    // Nor does somebody else's.
    let (mut server, session) = start();
    server.wait(INTERVAL);
    server.now += 10 * TIMEOUT;
    server.open(Endpoint::Bare);
    assert_eq!(server.post(session, "3"), ["200 ok"]);
}

#[test]
fn clients_are_judged_by_what_was_due_when_all_that_they_sent_was_known() {
    let (mut server, session) = start();
    server.wait(INTERVAL);
    let due = server.now + TIMEOUT;
    server.now = due + TIMEOUT;
    for heard in [None, Some(due - TICK)] {
        server.engines.handle_timeout_as_heard(server.now, heard);
        assert_eq!((server.engines.sessions(), server.engines.poll_timeout()), (1, Some(due)));
    }
    // The others are pinged all the same.
    let other = server.open(Endpoint::Bare);
    server.now += INTERVAL;
    server.engines.handle_timeout_as_heard(server.now, None);
    assert_eq!(server.exchange(other, "6"), ["2"]);
    server.engines.handle_timeout_as_heard(server.now, Some(due));
    assert_eq!(server.engines.sessions(), 1);
    assert_eq!(server.poll(session), [UNKNOWN]);
}

#[test]
fn the_time_for_a_pong_begins_when_the_ping_is_sent() {
    for late in [TICK, TIMEOUT / 3, TIMEOUT / 2, 10 * TIMEOUT] {
        let (mut server, session) = start();
        server.now += INTERVAL + late;
        server.engines.handle_timeout(server.now);
        assert_eq!(server.poll(session.clone()), ["200 2"]);
        server.wait(TIMEOUT - TICK);
        assert_eq!(server.post(session, "3"), ["200 ok"], "{late:?}");
    }
}

#[test]
fn a_server_that_was_late_itself_gives_the_client_its_time() {
    let (mut server, session) = start();
    server.now += Duration::from_secs(60);
    server.engines.handle_timeout(server.now);
    assert_eq!(server.poll(session), ["200 2"]);
}

#[test]
fn who_is_heard_need_not_hurry_with_the_pong() {
    let (mut server, session) = start();
    server.wait(INTERVAL + TIMEOUT / 2);
    assert_eq!(server.post(session.clone(), "6"), ["200 ok"]);
    server.wait(TIMEOUT);
    assert_eq!(server.post(session.clone(), "3"), ["200 ok"]);
    server.wait(INTERVAL);
    assert_eq!(server.post(session, "3"), ["200 ok"]);
}

#[test]
fn a_client_that_does_not_poll_is_closed_and_a_long_message_is_no_reason() {
    let (mut server, session) = start();
    let long = "4".repeat(500_000);
    assert_eq!(server.post(session.clone(), long.clone()), ["200 ok"]);
    assert_eq!(server.poll(session.clone()), [format!("200 {long}")]);
    let body = "4".to_owned() + &"\x1e4".repeat(10_000);
    assert_eq!(server.post(session.clone(), body), [BAD_REQUEST], "each packet counts with what it takes");
    assert_eq!(server.poll(session), [UNKNOWN]);
}

#[test]
fn one_session_too_many_is_told_so() {
    let mut server = Server::new(&EngineSettings { max_sessions: Some(1), ..settings() });
    let session = server.polling(Endpoint::Bare);
    let refused =
        r#"503 {"code":4,"message":"All 1 sessions are in use: try again later or raise --max-sessions"}"#;
    assert_eq!(server.poll(query(Endpoint::Bare, "polling")), [refused]);
    let port = server.websocket(query(Endpoint::Bare, "websocket"));
    assert_eq!(server.told(port), [refused]);
    server.post(session, "1");
    server.wait(OVERTAKING);
    server.polling(Endpoint::Bare);
}

#[test]
fn an_id_of_a_session_that_has_ended_is_no_id_of_the_next() {
    let (mut server, old) = start();
    server.post(old.clone(), "1");
    server.wait(OVERTAKING);
    let new = server.polling(Endpoint::Bare);
    assert_eq!(server.poll(old.clone()), [UNKNOWN]);
    let port = server.websocket(over_websocket(&old));
    assert_eq!(server.told(port), [UNKNOWN]);
    assert_eq!(server.post(new, "4a"), ["200 ok"]);
}

#[test]
fn a_server_that_ends_answers_polls() {
    let (mut server, session) = start();
    let poll = server.get(session);
    server.close_all();
    assert_eq!(server.told(poll), ["200 1"]);
    assert_eq!((server.engines.sessions(), server.engines.poll_timeout()), (0, None));
}

#[test]
fn requests_and_replies_can_travel_between_processes() {
    let (mut server, session) = start();
    let requests = [
        Request::Get(session.clone()),
        Request::Post {
            query: session.clone(), content_type: Some("text/plain".into()), body: "4€".into()
        },
        Request::Message { kind: Kind::Binary, data: vec![0, 255].into() },
        Request::Gone,
    ];
    for request in requests {
        let travelled = serde_json::to_string(&request).unwrap();
        assert_eq!(serde_json::from_str::<Request>(&travelled).unwrap(), request);
    }
    server.post(session.clone(), "4€");
    let port = server.get(session);
    for reply in server.replies(port) {
        let travelled = serde_json::to_string(&reply).unwrap();
        assert_eq!(serde_json::from_str::<Reply>(&travelled).unwrap(), reply);
    }
}
