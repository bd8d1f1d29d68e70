//! The server ends: what is refused from then on, and how each kind of connection hears of it.

use switchboard_proto::{App, CloseReason, Kind};

use super::frames::{CLOSE, TEXT, masked, plain};
use super::pair::{TICK, Wire, secs, upgrade};

fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n")
}

fn post(target: &str, body: &str) -> String {
    format!("POST {target} HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

#[test]
fn nothing_is_acknowledged_any_more() {
    let mut wire = Wire::new(App::default());
    assert!(wire.ask(post("/publish?topic=t", "x")).starts_with("HTTP/1.1 202 "));
    let code = wire.ask(post("/login/codes", ""));
    let code = code.split("\"code\":\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap().to_owned();
    wire.exchange.close();
    wire.exchange.close();
    let session = |wire: Wire| Wire {
        session: switchboard_proto::Session::server(&App::default().into(), wire.now),
        ..wire
    };
    for request in [
        post("/publish?topic=t", "y"),
        post("/publish?topic=another", "y"),
        post("/login/codes", ""),
        post(&format!("/login/codes/{code}"), "Ann"),
    ] {
        wire = session(wire);
        wire.published.clear();
        let answer = wire.ask(&request);
        assert!(answer.starts_with("HTTP/1.1 503 ") && wire.published.is_empty(), "{request}: {answer}");
    }
    // What was published before is still there for those who ask.
    wire = session(wire);
    assert!(wire.ask(get("/poll?topic=t&since=0")).contains("\"newest\":1"));
}

#[test]
fn what_is_said_on_a_topic_is_answered_by_1001() {
    let mut wire = Wire::open(App::default(), "/broadcast?topic=t");
    wire.exchange.close();
    wire.send(&masked(TEXT, "too late"));
    let frames = wire.take_frames();
    let [(CLOSE, close)] = &frames[..] else { panic!("{frames:?}") };
    assert_eq!(close[..2], 1001_u16.to_be_bytes());
    assert!(wire.published.is_empty());
}

#[test]
fn over_socket_io_the_acknowledgement_says_that_it_is_too_late() {
    let mut wire = Wire::open(App::default(), "/socket.io/?EIO=4&transport=websocket");
    wire.send(&masked(TEXT, "40"));
    wire.take();
    wire.send(&masked(TEXT, r#"421["publish","t",null,"x"]"#));
    assert_eq!(wire.take(), plain(TEXT, "431[1]"));
    wire.exchange.close();
    wire.send(&masked(TEXT, r#"422["publish","t",null,"x"]"#));
    let frames = wire.take_frames();
    let [(TEXT, answer)] = &frames[..] else { panic!("{frames:?}") };
    assert!(String::from_utf8_lossy(answer).starts_with(r#"432[{"error":"the server is going away"#));
}

#[test]
fn between_two_long_polls_there_is_time_for_one_more() {
    for (published, expected) in [(true, "HTTP/1.1 200 "), (false, "HTTP/1.1 503 ")] {
        let mut wire = Wire::new(App::default());
        wire.publish("t", None, Kind::Text, b"one");
        assert!(wire.ask(get("/longpoll?topic=t&since=0")).starts_with("HTTP/1.1 200 "));
        if published {
            wire.publish("t", None, Kind::Text, b"two");
        }
        wire.exchange.close();
        wire.session.close(CloseReason::GoingAway, wire.now);
        assert!(!wire.is_closed());
        let answer = wire.ask(get("/longpoll?topic=t&since=1"));
        assert!(answer.starts_with(expected) && answer.contains("Connection: close"), "{answer}");
        assert_eq!(answer.contains("two"), published);
        wire.assert_drains();
    }
}

#[test]
fn who_does_not_poll_again_is_waited_for_no_longer_than_the_grace() {
    for (grace, patience) in [(secs(1), secs(1)), (secs(60), secs(2))] {
        let mut wire = Wire::new(App { grace, ..App::default() });
        wire.publish("t", None, Kind::Text, b"one");
        wire.ask(get("/longpoll?topic=t&since=0"));
        wire.session.close(CloseReason::GoingAway, wire.now);
        wire.wait(patience - TICK);
        wire.session.close(CloseReason::GoingAway, wire.now);
        assert!(!wire.is_closed());
        wire.wait(TICK);
        assert!(wire.is_closed());
    }
    // Who asked for something else is not waited for, nor is anything else served.
    let mut wire = Wire::new(App::default());
    wire.publish("t", None, Kind::Text, b"one");
    wire.ask(get("/longpoll?topic=t&since=0"));
    wire.session.close(CloseReason::GoingAway, wire.now);
    wire.send(&upgrade("/echo"));
    assert!(wire.take_text().starts_with("HTTP/1.1 503 "));
    let mut wire = Wire::new(App::default());
    wire.ask(get("/poll"));
    wire.session.close(CloseReason::GoingAway, wire.now);
    assert!(wire.is_closed());
}

#[test]
fn a_session_that_polls_is_given_what_waits_for_it_and_its_end() {
    let mut wire = Wire::new(App::default());
    let opening = wire.ask(get("/socket.io/?EIO=4&transport=polling"));
    let sid = opening.split("\"sid\":\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap().to_owned();
    let target = format!("/socket.io/?EIO=4&transport=polling&sid={sid}");
    wire.ask(post(&target, "40"));
    wire.ask(get(&target));
    wire.ask(post(&target, r#"420["join","t"]"#));
    wire.ask(get(&target));
    wire.publish("t", None, Kind::Text, b"the last");
    wire.exchange.close();
    wire.session.close(CloseReason::GoingAway, wire.now);
    let answer = wire.ask(get(&target));
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("Connection: close"), "{answer}");
    assert!(body.starts_with(r#"42["message","the last""#) && body.ends_with("\u{1e}1"), "{body}");
    wire.assert_drains();
}
