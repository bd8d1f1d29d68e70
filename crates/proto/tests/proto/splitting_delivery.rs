//! However the network cuts what is asked of topics, the same is answered and the same is published.

use proptest::collection::vec;
use proptest::prelude::*;
use switchboard_proto::{App, Kind};

use super::frames::{TEXT, masked};
use super::pair::{Wire, upgrade};
use super::script::cuts;

fn request(method: &str, target: &str, lines: &str, body: &str) -> Vec<u8> {
    format!("{method} {target} HTTP/1.1\r\nHost: h\r\n{lines}\r\n{body}").into_bytes()
}

fn get(target: &str) -> Vec<u8> {
    request("GET", target, "", "")
}

/// One conversation for each mechanism.
fn conversations() -> Vec<(&'static str, Vec<u8>)> {
    let publish = request("POST", "/publish?topic=t&event=e", "Content-Length: 5\r\n", "h\r\nlo");
    let chunked = request(
        "POST",
        "/publish?topic=t",
        "Transfer-Encoding: chunked\r\n",
        "3;x\r\na\nb\r\n0\r\nX: y\r\n\r\n",
    );
    let head = request("HEAD", "/poll?topic=t&since=0", "", "");
    let tag = request("GET", "/poll?topic=t&since=0", "If-None-Match: *\r\n", "");
    let resumed = request("GET", "/events?topic=t", "Last-Event-ID: 1\r\n", "");
    vec![
        ("polls", [publish.clone(), get("/poll?topic=t&since=0"), head, tag, chunked.clone()].concat()),
        (
            "long polls",
            [get("/longpoll?topic=t&since=0"), get("/longpoll?topic=t&since=1"), publish.clone()].concat(),
        ),
        ("a stream", [chunked, publish, resumed, get("/ignored")].concat()),
        (
            "a WebSocket",
            [
                get("/longpoll?topic=t"),
                upgrade("/broadcast?topic=t&since=1"),
                masked(TEXT, "x"),
                masked(TEXT, "y"),
            ]
            .concat(),
        ),
        ("a bad end", [get("/longpoll?topic=t"), get("/nothing"), b"no request\r\n\r\n".to_vec()].concat()),
    ]
}

/// What is written, and what is on the topic then, when this comes in these pieces and other things are published at the end.
fn run(pieces: &[&[u8]]) -> (String, String) {
    let mut wire = Wire::new(App::default());
    wire.publish("t", None, Kind::Text, b"before");
    for piece in pieces {
        wire.send(piece);
        wire.deliver_published();
    }
    wire.publish("t", None, Kind::Text, b"one more");
    wire.publish("t", None, Kind::Binary, b"\xff");
    wire.publish("other", None, Kind::Text, b"something else");
    let mut other = Wire::new(App::default());
    std::mem::swap(&mut wire.exchange, &mut other.exchange);
    let published = other.ask("GET /poll?topic=t&since=0 HTTP/1.1\r\nHost: h\r\n\r\n");
    (String::from_utf8_lossy(&wire.take()).into_owned(), published)
}

#[test]
fn every_single_cut_is_harmless() {
    for (name, bytes) in conversations() {
        let at_once = run(&[&bytes]);
        assert!(at_once.0.contains("one more") || name == "polls", "{name}: {}", at_once.0);
        for cut in 0..=bytes.len() {
            assert_eq!(run(&[&bytes[..cut], &bytes[cut..]]), at_once, "{name}, cut at {cut}");
        }
    }
}

proptest! {
    #[test]
    fn any_cuts_are_harmless(order in vec(0..5_usize, 1..4), cuts in cuts()) {
        let conversations = conversations();
        let bytes: Vec<u8> = order.iter().flat_map(|i| conversations[*i].1.clone()).collect();
        prop_assert_eq!(run(&cuts.pieces(&bytes)), run(&[&bytes]));
    }
}
