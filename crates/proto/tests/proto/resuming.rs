//! Clients that come back: what they have missed, also where the server was started again meanwhile.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use switchboard_proto::{App, Exchange, Kind};

use super::frames::{BINARY, TEXT, masked};
use super::pair::{Wire, secs, upgrade};

/// When the two runs of the server were started, and what their epochs are.
const RUNS: [(u64, &str); 2] = [(1_700_000_000_000, "18bcfe56800"), (1_700_000_001_000, "18bcfe56be8")];

/// A wire to the server's run of that number, on which so many events have been published.
fn run(number: usize, events: u64) -> Wire {
    let mut wire = Wire::new(App::default());
    restart(&mut wire, number, events);
    wire
}

/// The server is another one from now on.
fn restart(wire: &mut Wire, number: usize, events: u64) {
    let started = Some((wire.now, Duration::from_millis(RUNS[number].0)));
    let app = Arc::new(App { started, history_events: 3, ..App::default() });
    wire.session = switchboard_proto::Session::server(&app, wire.now);
    wire.exchange = Exchange::new(&app, wire.now);
    (1..=events).for_each(|i| publish(wire, &format!("{number}.{i}")));
}

fn publish(wire: &mut Wire, data: &str) {
    wire.publish("t", None, Kind::Text, data.as_bytes());
}

fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n")
}

fn body(answer: &str) -> Value {
    let body = answer.split_once("\r\n\r\n").expect("an answer").1;
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}"))
}

fn event(id: u64, data: &str) -> Value {
    json!({"id": id, "event": "message", "data": data})
}

/// What the text frames hold that a WebSocket was sent.
fn frames(wire: &mut Wire) -> Vec<Value> {
    let text = |(opcode, payload): (u8, Vec<u8>)| {
        assert_eq!(opcode, TEXT);
        serde_json::from_slice(&payload).expect("JSON")
    };
    wire.take_frames().into_iter().map(text).collect()
}

/// The same behind the answer to its handshake.
fn open_json(wire: &mut Wire, query: &str) -> Vec<Value> {
    wire.send(&upgrade(&format!("/broadcast?topic=t&format=json{query}")));
    let output = wire.take();
    let end = output.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("an answer") + 4;
    assert!(output.starts_with(b"HTTP/1.1 101 "));
    let frames = super::frames::read_frames(&output[end..]).into_iter();
    frames.map(|(_, payload)| serde_json::from_slice(&payload).expect("JSON")).collect()
}

#[test]
fn a_poll_tells_the_run_of_the_server_and_whether_it_is_another() {
    let mut wire = run(0, 2);
    let first = body(&wire.ask(get("/poll?topic=t")));
    assert_eq!(first, json!({"topic": "t", "newest": 2, "epoch": RUNS[0].1, "events": []}));
    let cursor = format!("2-{}", RUNS[0].1);
    publish(&mut wire, "0.3");
    let next = body(&wire.ask(get(&format!("/poll?topic=t&since={cursor}"))));
    assert_eq!(next, json!({"topic": "t", "newest": 3, "epoch": RUNS[0].1, "events": [event(3, "0.3")]}));
    // The other run has fewer events than the client knows of, as many, or more.
    for events in [0, 1, 2, 3, 5_u64] {
        restart(&mut wire, 1, events);
        let held = (1..=events).skip(events.saturating_sub(3) as usize);
        let events_held: Vec<Value> = held.map(|i| event(i, &format!("1.{i}"))).collect();
        let answer = body(&wire.ask(get(&format!("/poll?topic=t&since={cursor}"))));
        let mut expected = json!({"topic": "t", "newest": events, "epoch": RUNS[1].1, "restarted": true, "events": events_held});
        if events > 3 {
            expected["missed"] = json!(events - 3);
        }
        assert_eq!(answer, expected);
        // A long poll tells it at once, even if there is nothing else to tell: its client must not go on naming what says nothing.
        let answer = body(&wire.ask(get(&format!("/longpoll?topic=t&since={cursor}"))));
        assert_eq!(answer, expected);
        wire.send(get(&format!("/longpoll?topic=t&since={events}-{}", RUNS[1].1)).as_bytes());
        assert_eq!(wire.take_text(), "");
        publish(&mut wire, "news");
        let one = json!({"topic": "t", "newest": events + 1, "epoch": RUNS[1].1, "events": [event(events + 1, "news")]});
        assert_eq!(body(&wire.take_text()), one);
    }
}

#[test]
fn a_tag_of_another_run_is_not_that_of_this_one() {
    let tag = |answer: &str| {
        let line = answer.lines().find_map(|line| line.strip_prefix("ETag: "));
        line.expect("a tag").to_owned()
    };
    let mut wire = run(0, 2);
    let ask = |since: &str, tag: &str| {
        format!("GET /poll?topic=t{since} HTTP/1.1\r\nHost: h\r\nIf-None-Match: {tag}\r\n\r\n")
    };
    let sinces = ["".to_owned(), "&since=1".into(), format!("&since=1-{}", RUNS[0].1)];
    let tags = sinces.each_ref().map(|since| tag(&wire.ask(get(&format!("/poll?topic=t{since}")))));
    for (i, since) in sinces.iter().enumerate() {
        for (j, tag) in tags.iter().enumerate() {
            assert_eq!(wire.ask(ask(since, tag)).starts_with("HTTP/1.1 304 "), i == j, "{tags:?}");
        }
    }
    restart(&mut wire, 1, 2);
    for (since, tag) in sinces.iter().zip(&tags) {
        assert!(wire.ask(ask(since, tag)).starts_with("HTTP/1.1 200 "));
    }
}

#[test]
fn a_stream_goes_on_after_a_restart() {
    let resume = |id: &str| format!("GET /events?topic=t HTTP/1.1\r\nHost: h\r\nLast-Event-ID: {id}\r\n\r\n");
    let stream = |wire: &mut Wire, request: String| {
        let answer = wire.ask(request);
        answer.split_once("\r\n\r\nretry: 1000\n\n").expect("a stream").1.to_owned()
    };
    let mut wire = run(0, 2);
    let [old, new] = RUNS.map(|(_, epoch)| epoch);
    // Who has had nothing yet knows where it is all the same: a browser remembers the id of an event without data.
    assert_eq!(stream(&mut wire, get("/events?topic=t")), format!("id: 2-{old}\n\n"));
    publish(&mut wire, "0.3");
    assert_eq!(wire.take_text(), format!("id: 3-{old}\ndata: 0.3\n\n"));
    let events = |ids: std::ops::RangeInclusive<u64>| -> String {
        ids.map(|i| format!("id: {i}-{new}\ndata: 1.{i}\n\n")).collect()
    };
    // The other run has nothing, less than the client knows of, or more.
    restart(&mut wire, 1, 0);
    let gap = |last: u64, missed: u64| {
        format!("id: {last}-{new}\nevent: gap\ndata: {{\"missed\":{missed},\"restarted\":true}}\n\n")
    };
    assert_eq!(stream(&mut wire, resume(&format!("3-{old}"))), gap(0, 0));
    restart(&mut wire, 1, 2);
    assert_eq!(stream(&mut wire, resume(&format!("3-{old}"))), gap(0, 0) + &events(1..=2));
    restart(&mut wire, 1, 5);
    assert_eq!(stream(&mut wire, resume(&format!("3-{old}"))), gap(2, 2) + &events(3..=5));
    // In the same run it goes on as ever, whichever form the client uses.
    for id in [format!("3-{new}"), "3".to_owned()] {
        restart(&mut wire, 1, 5);
        assert_eq!(stream(&mut wire, resume(&id)), events(4..=5));
    }
    restart(&mut wire, 1, 5);
    let gap = format!("id: 2-{new}\nevent: gap\ndata: {{\"missed\":1}}\n\n");
    assert_eq!(stream(&mut wire, resume(&format!("1-{new}"))), gap + &events(3..=5));
    // What is no cursor is as good as none.
    restart(&mut wire, 1, 5);
    assert_eq!(stream(&mut wire, resume("3-x")), format!("id: 5-{new}\n\n"));
}

#[test]
fn a_websocket_with_json_is_told_where_it_is_and_then_each_event() {
    let mut wire = run(0, 2);
    let hello = json!({"topic": "t", "newest": 2, "epoch": RUNS[0].1});
    assert_eq!(open_json(&mut wire, ""), [hello]);
    publish(&mut wire, "0.3");
    wire.publish("t", Some("news"), Kind::Binary, &[0xff]);
    let news = json!({"id": 4, "event": "news", "base64": "/w=="});
    assert_eq!(frames(&mut wire), [event(3, "0.3"), news]);
    // What it says itself stays raw data.
    wire.send(&[masked(TEXT, "{\"data\":1}"), masked(BINARY, [7])].concat());
    wire.deliver_published();
    let own = json!({"id": 6, "event": "message", "base64": "Bw=="});
    assert_eq!(frames(&mut wire), [event(5, "{\"data\":1}"), own]);
    // It comes again, to another run.
    let cursor = format!("&since=4-{}", RUNS[0].1);
    let hello = |newest: u64| json!({"topic": "t", "newest": newest, "epoch": RUNS[1].1, "restarted": true});
    restart(&mut wire, 1, 0);
    assert_eq!(open_json(&mut wire, &cursor), [hello(0)]);
    restart(&mut wire, 1, 2);
    assert_eq!(open_json(&mut wire, &cursor), [hello(2), event(1, "1.1"), event(2, "1.2")]);
    restart(&mut wire, 1, 5);
    let mut missed = hello(5);
    missed["missed"] = json!(2);
    assert_eq!(open_json(&mut wire, &cursor), [missed, event(3, "1.3"), event(4, "1.4"), event(5, "1.5")]);
    // And to the same.
    restart(&mut wire, 1, 5);
    let hello = json!({"topic": "t", "newest": 5, "epoch": RUNS[1].1});
    assert_eq!(open_json(&mut wire, "&since=4"), [hello, event(5, "1.5")]);
}

#[test]
fn a_websocket_without_it_carries_the_data_alone() {
    let mut wire = run(1, 5);
    wire.send(&upgrade(&format!("/broadcast?topic=t&since=4-{}", RUNS[0].1)));
    let output = wire.take();
    assert!(output.ends_with(b"\r\n\r\n\x81\x031.3\x81\x031.4\x81\x031.5"), "{}", output.escape_ascii());
    publish(&mut wire, "1.6");
    assert_eq!(wire.take_frames(), [(TEXT, b"1.6".to_vec())]);
}

#[test]
fn what_makes_no_sense_is_a_bad_request() {
    let mut wire = run(0, 2);
    for target in ["/poll?since=1-", "/poll?since=1-XYZ", "/longpoll?since=x-1", "/events?since=1-0"] {
        let answer = wire.ask(get(target));
        assert!(
            answer.starts_with("HTTP/1.1 400 ") && answer.contains("7-19ac0f3b2d1"),
            "{target}: {answer}"
        );
    }
    for target in ["/broadcast?since=1-", "/broadcast?format=xml", "/broadcast?format="] {
        let answer = wire.ask(upgrade(target));
        assert!(
            answer.starts_with("HTTP/1.1 400 ") && answer.contains("the parameter "),
            "{target}: {answer}"
        );
    }
    assert!(wire.ask(upgrade("/broadcast?format=xml")).contains("format is json"));
}

#[test]
fn over_socketio_the_answer_takes_its_place_among_the_events() {
    let mut wire = run(1, 5);
    wire.send(&upgrade("/socket.io/?EIO=4&transport=websocket"));
    wire.take();
    let mut ask = |text: &str| {
        wire.send(&masked(TEXT, text));
        let frames = wire.take_frames().into_iter();
        let told: Vec<String> = frames.map(|(_, text)| String::from_utf8(text).unwrap()).collect();
        (told, wire.now)
    };
    ask("40");
    ask(r#"420["join","t"]"#);
    let since = |id: u64, epoch: &str| format!(r#"421["since","t","{id}-{epoch}"]"#);
    let acknowledged =
        |told: &str| -> Value { serde_json::from_str::<[Value; 1]>(&told[3..]).unwrap()[0].clone() };
    let (told, _) = ask(&since(4, RUNS[1].1));
    let expected = json!({"topic": "t", "newest": 5, "epoch": RUNS[1].1, "events": [event(5, "1.5")]});
    assert_eq!(acknowledged(&told[0]), expected);
    let (told, _) = ask(&since(4, RUNS[0].1));
    let events = [event(3, "1.3"), event(4, "1.4"), event(5, "1.5")];
    let expected = json!({"topic": "t", "newest": 5, "epoch": RUNS[1].1, "missed": 2, "restarted": true, "events": events});
    assert_eq!(acknowledged(&told[0]), expected);
    let (told, now) = ask(r#"421["since","nothing",null]"#);
    assert_eq!(acknowledged(&told[0])["newest"], 0);
    assert_eq!(told.len(), 1);
    // What follows comes as an event, and only so.
    wire.now = now + secs(1);
    publish(&mut wire, "1.6");
    let told = wire.take_frames();
    assert_eq!(told, [(TEXT, br#"42["message","1.6",{"topic":"t","id":6}]"#.to_vec())]);
}
