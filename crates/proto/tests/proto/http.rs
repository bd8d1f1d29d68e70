//! Every request head that a user, or somebody else, may send.

use switchboard_proto::http::{MAX_HEAD_BYTES, refusal};
use switchboard_proto::{App, Kind};

use super::pair::{Heard, Pair, Wire};

/// An answer, taken apart.
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn field(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.filter(|(key, _)| *key == name).map(|(_, value)| value).next()
    }
}

/// Sends `request` at once, and again byte by byte; both must be answered alike.
fn ask(request: impl AsRef<[u8]>) -> Answer {
    let request = request.as_ref();
    let mut at_once = Wire::new(App::default());
    at_once.send(request);
    let answer = at_once.take();
    let mut slowly = Wire::new(App::default());
    request.iter().for_each(|byte| slowly.send(&[*byte]));
    assert_eq!(String::from_utf8_lossy(&slowly.take()), String::from_utf8_lossy(&answer));

    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer");
    let status = head.strip_prefix("HTTP/1.1 ").unwrap()[..3].parse().unwrap();
    let answer = Answer { status, head: head.into(), body: body.into() };
    if status != 101 {
        let is_head = request.starts_with(b"HEAD ");
        let length: usize = answer.field("Content-Length").map_or(0, |length| length.parse().unwrap());
        assert_eq!(answer.body.len(), if is_head { 0 } else { length });
        assert_eq!(length > 0, status != 204, "an answer says what it is about");
        match answer.field("Connection").is_some_and(|connection| connection.contains("close")) {
            true => at_once.assert_drains(),
            false => {
                at_once.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n");
                assert!(at_once.take().starts_with(b"HTTP/1.1 200 "), "the connection is still good");
            }
        }
    }
    answer
}

fn status(request: impl AsRef<[u8]>) -> u16 {
    ask(request).status
}

/// A request to upgrade `/echo` of these header lines after Host.
fn upgrade_with(lines: &[&str]) -> String {
    format!("GET /echo HTTP/1.1\r\nHost: h\r\n{}\r\n\r\n", lines.join("\r\n"))
}

const UPGRADE: &str = "Upgrade: websocket";
const CONNECTION: &str = "Connection: Upgrade";
const VERSION: &str = "Sec-WebSocket-Version: 13";
const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";

#[test]
fn the_handshake_of_the_rfc_gets_the_answer_of_the_rfc() {
    let answer = ask(upgrade_with(&[UPGRADE, CONNECTION, KEY, VERSION]));
    assert_eq!(answer.status, 101);
    assert_eq!(answer.field("Sec-WebSocket-Accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    assert_eq!(answer.field("Upgrade"), Some("websocket"));
    assert_eq!(answer.field("Connection"), Some("Upgrade"));
    assert_eq!(answer.field("Sec-WebSocket-Extensions"), None);
}

#[test]
fn an_upgrade_may_be_written_in_many_ways() {
    let browser = ["Connection: keep-alive, Upgrade", "upgrade: WebSocket", VERSION, KEY, "Cookie: a=b"];
    let two_lines = ["Connection: keep-alive", "Connection: upgrade", UPGRADE, VERSION, KEY];
    let list = ["Upgrade: h2c , websocket", CONNECTION, VERSION, KEY];
    let extensions = [UPGRADE, CONNECTION, VERSION, KEY, "Sec-WebSocket-Extensions: permessage-deflate"];
    let empty_body = [UPGRADE, CONNECTION, VERSION, KEY, "Content-Length: 0"];
    for lines in [&browser[..], &two_lines, &list, &extensions, &empty_body] {
        assert_eq!(status(upgrade_with(lines)), 101, "{lines:?}");
    }
    for target in ["/echo?room=1", "http://h/echo", "https://h:8443/broadcast?x"] {
        let request = format!(
            "GET {target} HTTP/1.1\r\nHost: h\r\n{UPGRADE}\r\n{CONNECTION}\r\n{VERSION}\r\n{KEY}\r\n\r\n"
        );
        assert_eq!(status(request), 101, "{target}");
    }
    // An empty line before a request, and lines that end in a bare LF (RFC 9112, section 2.2).
    assert_eq!(status(["\r\n", &upgrade_with(&[UPGRADE, CONNECTION, VERSION, KEY])].concat()), 101);
    assert_eq!(status(upgrade_with(&[UPGRADE, CONNECTION, VERSION, KEY]).replace("\r\n", "\n")), 101);
}

#[test]
fn an_upgrade_without_version_13_is_told_the_version() {
    for lines in [
        &[UPGRADE, CONNECTION, KEY][..],
        &[UPGRADE, CONNECTION, KEY, "Sec-WebSocket-Version: 8"],
        &[UPGRADE, CONNECTION, KEY, "Sec-WebSocket-Version: 013"],
        &[UPGRADE, CONNECTION, KEY, "Sec-WebSocket-Version: 13, 8"],
    ] {
        let answer = ask(upgrade_with(lines));
        assert_eq!(answer.status, 426, "{lines:?}");
        assert_eq!(answer.field("Sec-WebSocket-Version"), Some("13"));
        assert_eq!(answer.field("Upgrade"), Some("websocket"));
    }
}

#[test]
fn a_websocket_asked_for_as_a_page_says_how_to_ask() {
    for lines in [&["Accept: */*"][..], &[UPGRADE, VERSION, KEY], &[CONNECTION, VERSION, KEY]] {
        let answer = ask(upgrade_with(lines));
        assert_eq!(answer.status, 426, "{lines:?}");
        assert_eq!(answer.field("Upgrade"), Some("websocket"));
        assert!(answer.field("Connection").unwrap().contains("Upgrade"));
        assert!(answer.body.contains("/echo"));
    }
    // HTTP/1.0 has no upgrades (RFC 9110, section 7.8).
    let old = upgrade_with(&[UPGRADE, CONNECTION, VERSION, KEY]).replace("HTTP/1.1", "HTTP/1.0");
    assert_eq!(status(old), 426);
}

#[test]
fn a_bad_upgrade_is_a_bad_request() {
    for key in [
        "",
        "Sec-WebSocket-Key:",
        "Sec-WebSocket-Key: short",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZSE=",
        "Sec-WebSocket-Key: !!!!!!!!!!!!!!!!!!!!!!==",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ] {
        let key = if key.is_empty() { "X: y" } else { key };
        assert_eq!(status(upgrade_with(&[UPGRADE, CONNECTION, VERSION, key])), 400, "{key}");
    }
    assert_eq!(status(upgrade_with(&[UPGRADE, CONNECTION, VERSION, VERSION, KEY])), 400);
    for body in ["Content-Length: 5", "Transfer-Encoding: chunked"] {
        assert_eq!(status(upgrade_with(&[UPGRADE, CONNECTION, VERSION, KEY, body])), 400, "{body}");
    }
}

#[test]
fn a_page_says_what_is_here() {
    let answer = ask("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.field("Content-Type"), Some("text/html; charset=utf-8"));
    assert!(answer.body.contains("/echo") && answer.body.contains("/broadcast"));
    for target in ["/?x=/nothing", "http://h", "http://h/", "http://h:80/?q"] {
        assert_eq!(status(format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n")), 200, "{target}");
    }
    assert_eq!(status("GET / HTTP/1.0\r\n\r\n"), 200, "HTTP/1.0 knows no Host");
    assert_eq!(status("GET / HTTP/1.1\r\nHost:\r\n\r\n"), 200, "which may be empty");
}

#[test]
fn another_path_is_not_here() {
    for target in ["/nothing", "/echo/", "//echo", "/Echo", "/echo%2F", "http://h/nothing"] {
        assert_eq!(status(format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n")), 404, "{target}");
    }
    let there = upgrade_with(&[UPGRADE, CONNECTION, VERSION, KEY]).replace("/echo", "/nothing");
    assert_eq!(status(there), 404);
}

#[test]
fn another_method_is_told_which_there_are() {
    for (method, status) in [("POST", 405), ("PUT", 405), ("TRACE", 405), ("get", 405), ("OPTIONS", 204)] {
        for (path, allowed) in [("/echo", "GET, HEAD, OPTIONS"), ("/publish", "POST, OPTIONS")] {
            if (method, path) != ("POST", "/publish") {
                let answer = ask(format!("{method} {path} HTTP/1.1\r\nHost: h\r\n\r\n"));
                assert_eq!((answer.status, answer.field("Allow")), (status, Some(allowed)), "{method}");
            }
        }
    }
}

#[test]
fn the_answer_to_head_is_a_head_whatever_the_answer() {
    // RFC 9110, section 9.3.2; `ask` looks for the body that must not be there.
    for (request, expected) in [
        ("HEAD / HTTP/1.1\r\nHost: h\r\n\r\n", 200),
        ("HEAD /echo HTTP/1.1\r\nHost: h\r\n\r\n", 426),
        ("HEAD /nothing HTTP/1.1\r\nHost: h\r\n\r\n", 404),
        ("HEAD / HTTP/1.1\r\n\r\n", 400),
    ] {
        assert_eq!(status(request), expected, "{request}");
    }
}

#[test]
fn anything_malformed_is_a_bad_request() {
    for request in [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a,b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a@b\r\n\r\n",
        "GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 1, 2\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nContent-Length: +1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nContent-Length:\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 0x10\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nX: folded\r\n over two lines\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nX : space before the colon\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nno colon\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\n: no name\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nX: nul\0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nX: bare\rCR\r\n\r\n",
        "GET  / HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET / HTTP/1.1 \r\nHost: h\r\n\r\n",
        "GET / HTTP/2.0\r\nHost: h\r\n\r\n",
        "GET / http/1.1\r\nHost: h\r\n\r\n",
        "GET /\r\n\r\n",
        "GET echo HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET ftp://h/echo HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET * HTTP/1.1\r\nHost: h\r\n\r\n",
        "CONNECT h:80 HTTP/1.1\r\nHost: h\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "hello\r\n\r\n",
    ] {
        assert_eq!(status(request), 400, "{request:?}");
    }
}

#[test]
fn another_protocol_altogether_is_told_so_at_once() {
    // The first record of a TLS handshake: no line will ever end.
    let mut wire = Wire::new(App::default());
    wire.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03");
    assert!(wire.take().starts_with(b"HTTP/1.1 400 Bad Request\r\n"));
    wire.assert_drains();
}

/// A request for `/` whose head is `bytes` long.
fn head_of(bytes: usize) -> Vec<u8> {
    let (start, end) = ("GET / HTTP/1.1\r\nHost: h\r\nX: ", "\r\n\r\n");
    [start, &"x".repeat(bytes - start.len() - end.len()), end].concat().into_bytes()
}

#[test]
fn a_head_of_16_kib_is_read_and_one_more_byte_is_too_many() {
    assert_eq!(MAX_HEAD_BYTES, 16 << 10);
    assert_eq!(status(head_of(MAX_HEAD_BYTES)), 200);
    assert_eq!(status(head_of(MAX_HEAD_BYTES + 1)), 431);
    assert_eq!(status(head_of(100_000)), 431);
    // It need not end to be too long.
    let unfinished = head_of(100_000);
    let mut wire = Wire::new(App::default());
    wire.send(&unfinished[..MAX_HEAD_BYTES]);
    assert_eq!(wire.take(), b"");
    wire.send(b"x");
    assert!(wire.take().starts_with(b"HTTP/1.1 431 Request Header Fields Too Large\r\n"));
}

#[test]
fn what_stands_behind_16_kib_does_not_matter() {
    // Malformed, but only where nobody reads any more.
    let mut head = head_of(20_000);
    head.truncate(19_000);
    head.extend_from_slice(b"\r\nno colon\r\n\r\n");
    assert_eq!(status(head), 431);
    // Frames behind a head do not count.
    let mut wire = Wire::new(App::default());
    let request = upgrade_with(&[UPGRADE, CONNECTION, VERSION, KEY]).into_bytes();
    let frame = super::frames::masked(super::frames::BINARY, [0; 20_000]);
    wire.send(&[request, frame].concat());
    assert!(wire.take().starts_with(b"HTTP/1.1 101 "));
}

#[test]
fn a_hundred_header_lines_are_read_and_one_more_is_too_many() {
    let request = |lines: usize| format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n", "X: y\r\n".repeat(lines - 1));
    assert_eq!(status(request(100)), 200);
    assert_eq!(status(request(101)), 431);
    assert_eq!(status(request(1000)), 431);
}

#[test]
fn a_refusal_names_the_limit_for_people_and_for_programs() {
    let refused = String::from_utf8(refusal("FD_SETSIZE", "select cannot watch it; use poll")).unwrap();
    let (head, body) = refused.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 503 Service Unavailable\r\n"));
    assert!(head.contains("\r\nSwitchboard-Refused: FD_SETSIZE\r\n"));
    assert_eq!(body, "select cannot watch it; use poll\n");
}

#[test]
fn a_client_is_told_why_it_was_refused() {
    let mut pair = Pair::new(App::default(), "/nothing");
    pair.settle();
    let [Heard::Rejected(rejection)] = &pair.heard[..] else { panic!("{:?}", pair.heard) };
    assert_eq!((rejection.status, &rejection.reason[..]), (404, "Not Found"));
    // What a rejected client still wanted to say is not read as frames.
    pair.say(Kind::Text, b"hello?");
    pair.settle();
    assert_eq!(pair.heard.len(), 1);
}
