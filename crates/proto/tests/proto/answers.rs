//! What answers look like on the wire, and who has them already.

use switchboard_proto::CorsOrigins;
use switchboard_proto::http::{Answer, Method, ReplyTo, etag};

use super::reading::{encode, read};

fn keep() -> ReplyTo {
    ReplyTo { is_http_11: true, keep_alive: true, ..ReplyTo::default() }
}

/// What every answer says that does not say something else about it.
const ALWAYS: &str = "X-Content-Type-Options: nosniff\r\nCache-Control: no-store\r\n";

#[test]
fn an_answer_says_no_more_than_its_reader_needs() {
    let answer = Answer::json(200, "{}").with("ETag", "\"1\"");
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n";
    assert_eq!(encode(&answer, &keep()), format!("{head}{ALWAYS}ETag: \"1\"\r\n\r\n{{}}"));
    assert_eq!(
        encode(&answer, &ReplyTo::default()),
        format!("{head}Connection: close\r\n{ALWAYS}ETag: \"1\"\r\n\r\n{{}}")
    );
    let old = ReplyTo { is_http_11: false, ..keep() };
    assert_eq!(
        encode(&answer, &old),
        format!("{head}Connection: keep-alive\r\n{ALWAYS}ETag: \"1\"\r\n\r\n{{}}")
    );
    // RFC 9110, section 9.3.2: the same head.
    let head_only = ReplyTo { is_head: true, ..keep() };
    assert_eq!(encode(&answer, &head_only), format!("{head}{ALWAYS}ETag: \"1\"\r\n\r\n"));
    assert!(answer.body(&head_only).is_empty() && &answer.body(&keep())[..] == b"{}");
}

#[test]
fn a_status_without_content_says_nothing_about_it() {
    // RFC 9110, section 8.6.
    assert_eq!(encode(&Answer::empty(204), &keep()), format!("HTTP/1.1 204 No Content\r\n{ALWAYS}\r\n"));
    let not_modified = Answer::not_modified("\"7\"");
    assert_eq!(
        encode(&not_modified, &keep()),
        format!("HTTP/1.1 304 Not Modified\r\n{ALWAYS}ETag: \"7\"\r\n\r\n")
    );
    assert_eq!(
        encode(&Answer::new(202, ""), &keep()),
        format!(
            "HTTP/1.1 202 Accepted\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 0\r\n{ALWAYS}\r\n"
        )
    );
}

#[test]
fn a_stream_ends_with_its_connection() {
    let stream = Answer::stream("text/event-stream").with("Cache-Control", "no-cache");
    assert!(stream.ends_connection(&keep()));
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n";
    let no_cache = "X-Content-Type-Options: nosniff\r\nCache-Control: no-cache\r\n\r\n";
    assert_eq!(encode(&stream, &keep()), format!("{head}Connection: close\r\n{no_cache}"));
    // Of its head there is no more to come.
    let head_only = ReplyTo { is_head: true, ..keep() };
    assert!(!stream.ends_connection(&head_only));
    assert_eq!(encode(&stream, &head_only), format!("{head}{no_cache}"));
}

#[test]
fn every_answer_has_its_name() {
    for status in [200, 202, 204, 304, 400, 403, 404, 405, 408, 413, 417, 426, 429, 431, 501, 503] {
        let line = encode(&Answer::new(status, "x\n"), &keep());
        let reason = line.strip_prefix(&format!("HTTP/1.1 {status} ")).unwrap().lines().next().unwrap();
        assert!(!reason.is_empty(), "{status}");
    }
    assert!(encode(&Answer::new(599, "x\n"), &keep()).starts_with("HTTP/1.1 599 \r\n"));
    let not_allowed = encode(&Answer::method_not_allowed(&Method::Other("PUT".into()), "GET, HEAD"), &keep());
    assert!(not_allowed.contains("\r\nAllow: GET, HEAD\r\n") && not_allowed.contains("PUT is not served"));
}

#[test]
fn an_answer_that_asks_for_an_upgrade_names_it_for_this_connection_only() {
    let answer = Answer::upgrade_required("Ask.\n");
    let connection = |reply: &ReplyTo| {
        let encoded = encode(&answer, reply);
        assert!(encoded.contains("\r\nUpgrade: websocket\r\n"));
        encoded.lines().find_map(|line| line.strip_prefix("Connection: ").map(str::to_owned)).unwrap()
    };
    assert_eq!(connection(&keep()), "Upgrade");
    assert_eq!(connection(&ReplyTo::default()), "close, Upgrade");
    assert_eq!(connection(&ReplyTo { is_http_11: false, ..keep() }), "keep-alive, Upgrade");
}

#[test]
fn a_value_cannot_end_its_field() {
    let answer = Answer::new(200, "x").with("X", "a\r\nSet-Cookie: b\0".to_owned());
    assert!(encode(&answer, &keep()).contains("\r\nX: aSet-Cookie: b\r\n"));
}

#[test]
fn a_reply_is_what_its_request_wants() {
    let reply = |request: &str| ReplyTo::new(&read(request).request(), &CorsOrigins::SameOrigin);
    let head = reply("HEAD / HTTP/1.1\r\nHost: h\r\n\r\n");
    assert!(head.is_head && head.is_http_11 && head.keep_alive);
    let old = reply("GET / HTTP/1.0\r\n\r\n");
    assert!(!old.is_head && !old.is_http_11 && !old.keep_alive);
}

#[test]
fn a_tag_is_found_in_a_list_whether_weak_or_strong() {
    // RFC 9110, sections 8.8.3 and 13.1.2.
    for tags in [
        "\"a\"",
        "W/\"a\"",
        "\"b\", \"a\"",
        "\"b\",W/\"a\"",
        " , \"b\" ,,\t\"a\"",
        "*",
        " * ",
        "\"x,y\", \"a\"",
    ] {
        assert!(etag::matches(tags, "\"a\"") && etag::matches(tags, "W/\"a\""), "{tags}");
    }
    for tags in [
        "",
        "a",
        "\"b\"",
        "\"A\"",
        "w/\"a\"",
        "\"a",
        "a\"",
        "\"b,\"a\",\"",
        "*, \"b\"",
        "\"\"",
        "\"b\" x \"a\"",
    ] {
        assert!(!etag::matches(tags, "\"a\""), "{tags}");
    }
    let request = "GET / HTTP/1.1\r\nHost: h\r\nIf-None-Match: \"a\"\r\nIf-None-Match: \"b\"\r\n\r\n";
    let request = read(request).request();
    assert!(request.has("\"b\"") && !request.has("\"c\""));
}
