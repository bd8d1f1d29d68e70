//! The sign-in in virtual time: codes, their pictures, and what is heard of them on each mechanism.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use switchboard_proto::login::{self, MAX_OPEN_CODES, REMEMBERED};
use switchboard_proto::{App, Kind, Request, Session};

use super::frames::{CLOSE, TEXT, masked};
use super::pair::{TICK, Wire, secs, upgrade};

fn request(method: &str, target: &str, body: &str) -> String {
    let length = body.len();
    format!("{method} {target} HTTP/1.1\r\nHost: h:9001\r\nContent-Length: {length}\r\n\r\n{body}")
}

fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: h:9001\r\n\r\n")
}

fn status(answer: &str) -> u16 {
    let status = answer.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
    status.unwrap_or_else(|| panic!("no answer: {answer}"))
}

fn body(answer: &str) -> Value {
    let body = answer.split_once("\r\n\r\n").expect("an answer").1;
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}"))
}

/// Opens a code.
fn open(wire: &mut Wire) -> String {
    let answer = wire.ask(request("POST", "/login/codes", ""));
    assert_eq!(status(&answer), 201, "{answer}");
    let opened = body(&answer);
    let code = opened["code"].as_str().expect("a code").to_owned();
    assert_eq!(opened, json!({"code": code, "topic": format!("login:{code}"), "expires_in": 60}));
    assert!(answer.contains(&format!("\r\nLocation: /login/codes/{code}\r\n")), "{answer}");
    code
}

fn confirm(wire: &mut Wire, code: &str, name: &str) -> String {
    wire.ask(request("POST", &format!("/login/codes/{code}"), name))
}

fn state(wire: &mut Wire, code: &str) -> Value {
    body(&wire.ask(get(&format!("/login/codes/{code}"))))
}

#[test]
fn a_code_is_confirmed_and_then_forgotten() {
    let mut wire = Wire::new(App { keep_alive: secs(1000), ..App::default() });
    let code = open(&mut wire);
    assert_eq!(state(&mut wire, &code), json!({"state": "waiting", "expires_in": 60}));
    wire.wait(secs(20) - TICK);
    assert_eq!(state(&mut wire, &code), json!({"state": "waiting", "expires_in": 41}));
    for name in ["", " ", "two\nlines", &"x".repeat(65)] {
        assert_eq!(status(&confirm(&mut wire, &code, name)), 400, "{name:?}");
    }
    assert_eq!(body(&confirm(&mut wire, &code, " Ann <b> \n")), json!({"confirmed": true}));
    assert_eq!(status(&confirm(&mut wire, &code, "Guest")), 409);
    assert_eq!(state(&mut wire, &code), json!({"state": "confirmed", "name": "Ann <b>", "expires_in": 0}));
    let poll = get(&format!("/poll?topic=login:{code}&since=0"));
    let events = json!([{"id": 1, "event": "confirmed", "data": "{\"name\":\"Ann <b>\"}"}]);
    assert_eq!(body(&wire.ask(&poll))["events"], events);
    wire.wait(REMEMBERED);
    for answer in [wire.ask(get(&format!("/login/codes/{code}"))), confirm(&mut wire, &code, "Guest")] {
        assert_eq!(status(&answer), 404, "{answer}");
    }
    assert_eq!(body(&wire.ask(poll))["newest"], 0);
    assert_eq!(wire.exchange.poll_timeout(), None);
}

#[test]
fn a_code_expires_at_its_time() {
    let mut wire = Wire::new(App { keep_alive: secs(1000), ..App::default() });
    let code = open(&mut wire);
    wire.send(get(&format!("/longpoll?topic=login:{code}&since=0&timeout=100")).as_bytes());
    wire.wait(secs(60) - TICK);
    assert_eq!(wire.take_text(), "");
    wire.wait(TICK);
    wire.deliver_published();
    assert_eq!(body(&wire.take_text())["events"], json!([{"id": 1, "event": "expired", "data": "{}"}]));
    assert_eq!(state(&mut wire, &code), json!({"state": "expired", "expires_in": 0}));
    assert_eq!(status(&confirm(&mut wire, &code, "Ann")), 410);
    assert_eq!(status(&wire.ask(get(&format!("/login/codes/{code}/qr.svg")))), 410);
    wire.wait(REMEMBERED);
    assert_eq!(status(&wire.ask(get(&format!("/login/codes/{code}/qr.svg")))), 404);
}

#[test]
fn without_history_the_event_is_heard_live_and_the_state_is_there_for_the_others() {
    let app = Arc::new(App { history_events: 0, ..App::default() });
    let mut wire = Wire::new(App::clone(&app));
    let code = open(&mut wire);
    wire.send(&upgrade(&format!("/broadcast?topic=login:{code}&format=json")));
    wire.take();
    let confirm = login::Request::Confirm { code: code.clone(), name: "Ann".into() };
    wire.ask_elsewhere(Request::Login(confirm));
    let [(TEXT, event)] = &wire.take_frames()[..] else { panic!("no event") };
    let event: Value = serde_json::from_slice(event).unwrap();
    assert_eq!(event, json!({"id": 1, "event": "confirmed", "data": "{\"name\":\"Ann\"}"}));
    let mut wire = Wire { session: Session::server(&app, wire.now), ..wire };
    let answer = body(&wire.ask(get(&format!("/poll?topic=login:{code}&since=0"))));
    assert_eq!((&answer["newest"], &answer["missed"]), (&json!(1), &json!(1)));
    assert_eq!(state(&mut wire, &code)["state"], "confirmed");
}

#[test]
fn nobody_else_publishes_on_the_topic_of_a_code() {
    let mut wire = Wire::new(App::default());
    let code = open(&mut wire);
    for topic in [format!("login:{code}"), "login:".into(), "login:of%20nobody".into()] {
        let answer = wire.ask(request("POST", &format!("/publish?topic={topic}"), "x"));
        assert!(status(&answer) == 403 && answer.contains("use another name"), "{answer}");
    }
    assert_eq!(status(&wire.ask(request("POST", "/publish?topic=login", "x"))), 202);
    assert_eq!(body(&wire.ask(get(&format!("/poll?topic=login:{code}"))))["newest"], 0);
    wire.send(&upgrade(&format!("/broadcast?topic=login:{code}")));
    wire.take();
    wire.send(&masked(TEXT, "x"));
    let [(CLOSE, close)] = &wire.take_frames()[..] else { panic!("it goes on") };
    assert_eq!(close[..2], 1008_u16.to_be_bytes());
    wire.assert_drains();
    // Over Socket.IO the acknowledgement says so.
    let mut wire = Wire::open(App::default(), "/socket.io/?EIO=4&transport=websocket");
    wire.send(&masked(TEXT, "40"));
    wire.take();
    wire.send(&masked(TEXT, r#"421["publish","login:x","confirmed","{}"]"#));
    let [(TEXT, told)] = &wire.take_frames()[..] else { panic!("it is not told") };
    assert!(told.starts_with(br#"431[{"error":"topics that begin with login:"#), "{}", told.escape_ascii());
    assert!(wire.published.is_empty());
}

#[test]
fn so_many_codes_may_wait_and_no_more() {
    let mut wire = Wire::new(App { max_topics: 1, keep_alive: secs(1000), ..App::default() });
    wire.publish("t", None, Kind::Text, b"the only topic that there may be");
    let first = open(&mut wire);
    wire.wait(secs(10));
    (1..MAX_OPEN_CODES).for_each(|_| drop(open(&mut wire)));
    let answer = wire.ask(request("POST", "/login/codes", ""));
    assert_eq!(status(&answer), 503);
    for part in ["\r\nRetry-After: 50\r\n", "\r\nSwitchboard-Refused: codes\r\n", "1024 codes "] {
        assert!(answer.contains(part), "{answer}");
    }
    assert_eq!(status(&confirm(&mut wire, &first, "Ann")), 200);
    open(&mut wire);
    // All of them end, and nothing of them stays.
    wire.wait(secs(60) + REMEMBERED + Duration::from_millis(1));
    assert_eq!(wire.exchange.poll_timeout(), None);
}

#[test]
fn each_place_knows_its_methods_and_its_answers_are_not_kept() {
    let mut wire = Wire::new(App::default());
    let code = open(&mut wire);
    let (one, picture) = (format!("/login/codes/{code}"), format!("/login/codes/{code}/qr.svg"));
    let all = "GET, HEAD, POST, OPTIONS";
    for (target, allow) in [("/login/codes", "POST, OPTIONS"), (&one, all), (&picture, "GET, HEAD, OPTIONS")]
    {
        let options = wire.ask(request("OPTIONS", target, ""));
        assert!(status(&options) == 204 && options.contains(&format!("\r\nAllow: {allow}\r\n")), "{options}");
        for method in ["GET", "HEAD", "POST", "PUT", "DELETE"] {
            let is_allowed = allow.split(", ").any(|allowed| allowed == method);
            let answer = wire.ask(request(method, target, ""));
            assert_eq!(status(&answer) != 405, is_allowed, "{method} {target}: {answer}");
            assert!(answer.contains("\r\nCache-Control: no-store\r\n"), "{answer}");
            assert_eq!(method == "HEAD", answer.ends_with("\r\n\r\n"), "{answer}");
        }
    }
    let svg = wire.ask(get(&picture));
    assert!(svg.contains("\r\nContent-Type: image/svg+xml\r\n") && svg.contains("\r\n\r\n<svg "), "{svg}");
    for target in ["/login/codes/", "/login/codes/a/b", "/login/codes/a/qr.svg/"] {
        assert_eq!(status(&wire.ask(get(target))), 404, "{target}");
    }
    assert_eq!(status(&wire.ask(get("/login/codes/nobody/qr.svg"))), 404);
    // Where nobody says who is asked, the picture would lead nowhere.
    let answer = wire.ask(format!("GET {picture} HTTP/1.0\r\n\r\n"));
    assert!(status(&answer) == 400 && answer.contains("Host"), "{answer}");
}
