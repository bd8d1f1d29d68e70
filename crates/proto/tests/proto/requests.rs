//! What requests ask for, one after the other on one connection.

use switchboard_proto::http::{MAX_HEAD_BYTES, MAX_PARAMETERS, Method, Preflight, Reader, Upgrade};

use super::pair::upgrade;
use super::reading::{read, read_pieces};

fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n")
}

fn get_with(lines: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: h\r\n{lines}\r\n\r\n")
}

#[test]
fn a_reader_is_small_and_idle_between_requests() {
    assert!(size_of::<Reader>() <= 16);
    assert!(read("").is_idle);
    assert!(read(get("/")).is_idle);
    assert!(!read("G").is_idle);
    assert!(!read("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nx").is_idle);
}

#[test]
fn several_requests_in_one_read_come_in_order() {
    let post = "POST /b HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello";
    let chunked = "POST /c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n";
    let read = read([&get("/a"), post, chunked, &get("/d"), "GET /e"].concat());
    let found: Vec<_> = read.requests.iter().map(|request| (&request.path[..], &request.body[..])).collect();
    assert_eq!(found, [("/a", &b""[..]), ("/b", b"hello"), ("/c", b"hi"), ("/d", b"")]);
    assert!(!read.is_idle && read.refused.is_none());
}

#[test]
fn frames_behind_an_upgrade_are_left_alone() {
    let read = read([&upgrade("/echo")[..], b"\r\n\x81frames"].concat());
    assert!(matches!(read.requests[0].upgrade, Upgrade::WebSocket { .. }));
    assert_eq!(read.left, b"\r\n\x81frames");
}

#[test]
fn empty_lines_before_a_request_are_skipped() {
    // RFC 9112, section 2.2. They are nothing of a request: the connection stays idle.
    let request = ["\r\n", &get("/a"), "\r\n\n\r\n", &get("/b"), "\r\n"].concat();
    let read_all = read(&request);
    assert_eq!(read_all.requests.len(), 2);
    assert!(read_all.is_idle);
    assert!(read("\r\n".repeat(MAX_HEAD_BYTES)).is_idle, "however many");
    assert_eq!(read("\rGET / HTTP/1.1\r\nHost: h\r\n\r\n").refusal(), 400);
}

#[test]
fn a_connection_is_kept_unless_somebody_says_otherwise() {
    let keep_alive = |version: &str, connection: &str| {
        let line = if connection.is_empty() { "X: y".into() } else { format!("Connection: {connection}") };
        read(format!("GET / {version}\r\nHost: h\r\n{line}\r\n\r\n")).request().keep_alive
    };
    // RFC 9112, section 9.3.
    for (connection, in_11, in_10) in [
        ("", true, false),
        ("keep-alive", true, true),
        ("Keep-Alive, X-Hop", true, true),
        ("close", false, false),
        ("CLOSE", false, false),
        ("x, close", false, false),
        ("keep-alive, close", false, false),
        ("closed", true, false),
    ] {
        assert_eq!(keep_alive("HTTP/1.1", connection), in_11, "{connection}");
        assert_eq!(keep_alive("HTTP/1.0", connection), in_10, "{connection}");
    }
    let two_lines = get_with("Connection: keep-alive\r\nConnection: close");
    assert!(!read(two_lines).request().keep_alive);
}

#[test]
fn a_method_is_one_of_four_or_another() {
    for (method, expected) in [
        ("GET", Method::Get),
        ("HEAD", Method::Head),
        ("POST", Method::Post),
        ("OPTIONS", Method::Options),
        ("PUT", Method::Other("PUT".into())),
        ("get", Method::Other("get".into())),
        ("M-SEARCH", Method::Other("M-SEARCH".into())),
    ] {
        let request = read(format!("{method} / HTTP/1.1\r\nHost: h\r\n\r\n")).request();
        assert_eq!(request.method, expected);
        assert_eq!(request.method.as_str(), method);
    }
}

#[test]
fn a_path_is_decoded_once_and_strictly() {
    for (target, path) in [
        ("/", "/"),
        ("/%65cho", "/echo"),
        ("/a%2Fb%2f", "/a/b/"),
        ("/%252e", "/%2e"),
        ("/caf%C3%A9", "/caf\u{e9}"),
        ("/a+b", "/a+b"),
        ("/x?/y?z", "/x"),
        ("/a:b@c://d", "/a:b@c://d"),
        ("//h/x", "//h/x"),
        ("http://h", "/"),
        ("http://h?a=/b", "/"),
        ("HTTPS://h:1/x%20y?z", "/x y"),
    ] {
        assert_eq!(read(get(target)).request().path, path, "{target}");
    }
    for target in [
        "/%",
        "/%4",
        "/%zz",
        "/%+1",
        "/%C3",
        "/%C3%28",
        "/%ff",
        "/a%00b",
        "/x#y",
        "*",
        "x",
        "?x",
        "http:///x",
        "http://",
        "http://a@h/",
        "http://a,b/",
        "ftp://h/",
        "h:80",
        "/?x=%",
        "/?x=%ff",
        "/?%00",
    ] {
        assert_eq!(read(get(target)).refusal(), 400, "{target}");
    }
}

#[test]
fn the_server_as_a_whole_has_options() {
    let request = read("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n").request();
    assert_eq!((request.method, &request.path[..]), (Method::Options, "*"));
    assert_eq!(read("POST * HTTP/1.1\r\nHost: h\r\n\r\n").refusal(), 400);
}

#[test]
fn a_query_is_decoded_as_forms_write_it() {
    let request = read(get("/poll?topic=a+b%2Bc&since=&x&topic=d&=e&&%C3%A9=1=2")).request();
    let query: Vec<_> = request.query.iter().collect();
    let expected =
        [("topic", "a b+c"), ("since", ""), ("x", ""), ("topic", "d"), ("", "e"), ("\u{e9}", "1=2")];
    assert_eq!(query, expected);
    assert_eq!(request.query.get("topic"), Some("a b+c"));
    assert_eq!(request.query.only("since").unwrap(), Some(""));
    assert_eq!(request.query.only("Topic").unwrap(), None);
    assert_eq!(request.query.only("topic").unwrap_err().status(), 400);

    let many = |n: usize| get(&format!("/?{}", vec!["a"; n].join("&")));
    assert_eq!(read(many(MAX_PARAMETERS)).request().query.iter().count(), MAX_PARAMETERS);
    assert_eq!(read(many(MAX_PARAMETERS + 1)).refusal(), 400);
}

#[test]
fn fields_are_found_in_any_case_and_trimmed() {
    let request = read(get_with(
        "ORIGIN: http://a\r\nif-none-match:\"x\" \r\nIf-None-Match: \t\"y\"\r\nlast-event-ID: 7\r\n\
         Content-Type:text/plain\r\nX-Origin: no",
    ))
    .request();
    assert_eq!(request.origin.as_deref(), Some("http://a"));
    assert_eq!(request.if_none_match.as_deref(), Some("\"x\", \"y\""));
    assert_eq!(request.last_event_id.as_deref(), Some("7"));
    assert_eq!(request.content_type.as_deref(), Some("text/plain"));
    for name in ["Origin", "Last-Event-ID", "Content-Type", "Host", "Content-Length"] {
        assert_eq!(read(get_with(&format!("{name}: 1\r\n{name}: 1"))).refusal(), 400, "{name}");
    }
    let latin_1 = b"GET / HTTP/1.1\r\nHost: h\r\nLast-Event-ID: \xe9\r\n\r\n";
    assert_eq!(read(latin_1).request().last_event_id.as_deref(), Some("\u{fffd}"));
}

#[test]
fn the_host_of_an_absolute_target_overrides_the_field() {
    // RFC 9112, section 3.2.2.
    assert_eq!(read(get("/")).request().host.as_deref(), Some("h"));
    assert_eq!(read(get("http://other:81/")).request().host.as_deref(), Some("other:81"));
    assert_eq!(read("GET / HTTP/1.0\r\n\r\n").request().host, None);
    assert_eq!(read("GET http://h/ HTTP/1.1\r\n\r\n").refusal(), 400, "it is required all the same");
}

#[test]
fn a_preflight_is_a_question_of_a_page() {
    let ask = |method: &str, lines: &str| {
        read(format!("{method} / HTTP/1.1\r\nHost: h\r\n{lines}\r\n\r\n")).request().preflight
    };
    let lines = "Origin: http://a\r\nAccess-Control-Request-Method: POST\r\n\
                 Access-Control-Request-Headers: content-type,x-y";
    let headers = Some("content-type,x-y".into());
    assert_eq!(ask("OPTIONS", lines), Some(Preflight { method: "POST".into(), headers }));
    assert_eq!(ask("GET", lines), None);
    assert_eq!(ask("OPTIONS", "Origin: http://a"), None);
    assert_eq!(ask("OPTIONS", "Access-Control-Request-Method: POST"), None);
}

#[test]
fn a_refusal_of_a_head_request_has_no_body() {
    let read = read_pieces(&[b"HEAD / HTTP/1.1\r\n\r\n"]);
    assert_eq!(read.refusal(), 400);
    assert!(read.refused.unwrap().1.is_head);
}

#[test]
fn nothing_is_read_behind_a_malformed_request() {
    let read = read([&get("/a"), "GET b HTTP/1.1\r\nHost: h\r\n\r\n", &get("/c")].concat());
    assert_eq!((read.requests.len(), read.refusal()), (1, 400));
}
