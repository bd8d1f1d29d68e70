//! One request of HTTP (RFC 9110, RFC 9112): the page, and every way to be told that this is not it.

use switchboard_models::Mechanism;

use crate::client::{Client, Named, Pace, Response, at_each_pace};
use crate::server::Server;
use crate::{Case, case};

pub(crate) const CASES: &[Case] = &[
    case!(Http, the_page_says_what_is_here),
    case!(Http, the_page_is_found_by_every_form_of_its_name),
    case!(Http, a_page_loads_over_many_connections_or_one),
    case!(Http, head_gets_the_head_of_the_page_only),
    case!(Http, another_path_is_not_found),
    case!(Http, another_method_is_not_allowed),
    case!(Http, a_malformed_request_is_a_bad_request),
    case!(Http, http_1_1_needs_exactly_one_host),
    case!(Http, http_1_0_needs_no_host),
    case!(Http, a_head_of_16_kib_is_served_and_a_longer_one_refused),
    case!(Http, a_head_without_end_is_refused_while_it_is_being_sent),
    case!(Http, an_answer_arrives_though_its_client_goes_on_sending),
];

/// Longest head that is read.
const MAX_HEAD_BYTES: usize = 16 << 10;

pub(crate) fn ask(server: &Server, pace: Pace, request: impl AsRef<[u8]>) -> Response {
    let mut client = Client::connect(server);
    client.send_at(pace, request);
    let response = client.response();
    // Nothing comes behind it, whether the connection is kept or not.
    if !response.says_close() {
        client.half_close();
        client.expect_end();
    }
    response
}

pub(crate) fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: switchboard.test\r\n\r\n")
}

fn the_page_says_what_is_here(server: &mut Server) {
    at_each_pace(&[("the page", get("/"))], |pace, request| {
        let page = ask(server, pace, request);
        assert_eq!(page.status, 200);
        assert!(page.header("Content-Type").unwrap().starts_with("text/html"));
        for here in ["/echo", "/broadcast", "/chat", "/login"] {
            assert!(page.body.contains(here), "{here} is not in {}", page.body);
        }
    });
    at_each_pace(&[("the facts", get("/about.json"))], |pace, request| {
        let about: serde_json::Value = serde_json::from_str(&ask(server, pace, request).body).unwrap();
        assert_eq!(about["model"], server.model.name);
        assert_eq!(about["serves_together"], server.model.serves.contains(&Mechanism::Together));
    });
}

fn a_page_loads_over_many_connections_or_one(server: &mut Server) {
    let mut first = Client::connect(server);
    first.send_at(Pace::AllAtOnce, get("/chat"));
    assert_eq!(first.response().status, 200);
    // A browser goes on with this connection and opens others at the same time; it ends none of them before it has its answer.
    let files = ["/assets/style.css", "/assets/chat.js", "/socket.io/socket.io.min.js", "/about.json"];
    let clients = [first, Client::connect(server), Client::connect(server), Client::connect(server)];
    let mut asked = clients.into_iter().zip(files).map(|(mut client, path)| {
        client.send_at(Pace::AllAtOnce, get(path));
        client
    });
    let clients: [Client; 4] = std::array::from_fn(|_| asked.next().expect("a client for each file"));
    let answers = clients.map(|mut client| client.response());
    for (path, answer) in files.iter().zip(answers) {
        assert_eq!(
            (answer.status, answer.header("X-Content-Type-Options")),
            (200, Some("nosniff")),
            "{path}"
        );
        let Some(tag) = answer.header("ETag") else { continue };
        let again = get(path).replace("\r\n\r\n", &format!("\r\nIf-None-Match: {tag}\r\n\r\n"));
        at_each_pace(&[(path, again)], |pace, request| assert_eq!(ask(server, pace, request).status, 304));
    }
}

fn the_page_is_found_by_every_form_of_its_name(server: &mut Server) {
    let requests = [
        ("with a query", get("/?a=b")),
        ("absolute form", get("http://switchboard.test/")),
        ("absolute form without a path", get("http://switchboard.test")),
        ("an empty line before the request", format!("\r\n{}", get("/"))),
        ("names of headers in capitals", "GET / HTTP/1.1\r\nHOST: switchboard.test\r\n\r\n".to_owned()),
        ("no space before a value", "GET / HTTP/1.1\r\nHost:switchboard.test\r\n\r\n".to_owned()),
    ];
    at_each_pace(&requests, |pace, request| assert_eq!(ask(server, pace, request).status, 200));
}

fn head_gets_the_head_of_the_page_only(server: &mut Server) {
    let length = ask(server, Pace::AllAtOnce, get("/")).body.len().to_string();
    let requests = [("/", 200), ("/nothing", 404), ("/echo", 426)];
    at_each_pace(&requests.map(|(path, status)| (path, (path, status))), |pace, (path, status)| {
        let mut client = Client::connect(server);
        client.send_at(pace, get(path).replace("GET", "HEAD"));
        let head = client.response_head();
        assert_eq!(head.status, *status);
        if *path == "/" {
            assert_eq!(head.header("Content-Length"), Some(length.as_str()));
        }
        // What comes next is the next answer.
        client.send_at(pace, get(path));
        assert_eq!(client.response().status, *status);
        client.half_close();
        client.expect_end();
    });
}

fn another_path_is_not_found(server: &mut Server) {
    let paths = ["/nothing", "/echo/", "/echo/x", "/Echo", "//", "/broadcasts"];
    let requests = paths.map(|path| (path, get(path)));
    at_each_pace(&requests, |pace, request| assert_eq!(ask(server, pace, request).status, 404));
}

fn another_method_is_not_allowed(server: &mut Server) {
    let requests = ["POST", "PUT", "DELETE", "get", "BREW"].map(|method| {
        (method, format!("{method} / HTTP/1.1\r\nHost: switchboard.test\r\nContent-Length: 0\r\n\r\n"))
    });
    at_each_pace(&requests, |pace, request| {
        let response = ask(server, pace, request);
        assert_eq!(response.status, 405);
        let allowed = response.header("Allow").expect("405 says what is allowed (RFC 9110, 15.5.6)");
        assert!(allowed.contains("GET"), "{allowed}");
    });
}

fn a_malformed_request_is_a_bad_request(server: &mut Server) {
    let with = |line: &[u8]| [b"GET / HTTP/1.1\r\nHost: switchboard.test\r\n", line, b"\r\n\r\n"].concat();
    let requests = [
        ("a word", b"hello\r\n\r\n".to_vec()),
        ("a TLS greeting", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".to_vec()),
        ("zeros", vec![0; 64]),
        ("a WebSocket frame without a head", b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58".to_vec()),
        ("no version", b"GET /\r\n\r\n".to_vec()),
        ("no path", b"GET HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()),
        ("a word too many", b"GET / HTTP/1.1 now\r\nHost: a\r\n\r\n".to_vec()),
        ("not HTTP", b"GET / HTPT/1.1\r\nHost: a\r\n\r\n".to_vec()),
        ("a control character in the path", b"GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()),
        ("a path that is none", b"GET echo HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()),
        ("a header without a colon", with(b"Nonsense")),
        ("a header without a name", with(b": nonsense")),
        ("a space in a header's name", with(b"Non sense: a")),
        ("a space before the colon", with(b"Nonsense : a")),
        ("a folded header", with(b"Sense: a\r\n b")),
        ("a zero in a value", with(b"Sense: a\0b")),
        ("a bare carriage return", with(b"Sense: a\rHost: b")),
        ("a length that is no number", with(b"Content-Length: five")),
        ("two lengths", with(b"Content-Length: 5\r\nContent-Length: 6")),
        ("a length and chunks", with(b"Content-Length: 5\r\nTransfer-Encoding: chunked")),
    ];
    at_each_pace(&requests, |pace, request| {
        let response = ask(server, pace, request);
        assert_eq!((response.status, response.says_close()), (400, true));
    });
}

fn http_1_1_needs_exactly_one_host(server: &mut Server) {
    let head = |hosts: &str| format!("GET / HTTP/1.1\r\n{hosts}\r\n");
    let requests = [
        ("none", (400, head(""))),
        ("two", (400, head("Host: a\r\nHost: b\r\n"))),
        ("the same one twice", (400, head("Host: a\r\nHost: a\r\n"))),
        ("one that is no host", (400, head("Host: a b\r\n"))),
        ("one with a port", (200, head("Host: a:80\r\n"))),
        ("an IPv6 address", (200, head("Host: [::1]:80\r\n"))),
        ("an empty one", (200, head("Host:\r\n"))),
    ];
    at_each_pace(&requests, |pace, (status, request)| {
        assert_eq!(ask(server, pace, request).status, *status);
    });
}

fn http_1_0_needs_no_host(server: &mut Server) {
    let requests = [
        ("the page", (200, "GET / HTTP/1.0\r\n\r\n")),
        ("with a host", (200, "GET / HTTP/1.0\r\nHost: a\r\n\r\n")),
        ("another path", (404, "GET /nothing HTTP/1.0\r\n\r\n")),
    ];
    at_each_pace(&requests, |pace, (status, request)| {
        assert_eq!(ask(server, pace, request).status, *status);
    });
}

/// A request for the page that is so long to the byte, in one header line or in many.
fn long_request(bytes: usize, line_bytes: usize) -> String {
    let mut request = "GET / HTTP/1.1\r\nHost: switchboard.test\r\n".to_owned();
    while request.len() + 2 < bytes {
        let left = bytes - 2 - request.len();
        // What would be left over must be enough for one more line.
        let line = if left <= line_bytes + 8 { left } else { line_bytes };
        request += &format!("Fill: {}\r\n", "x".repeat(line - 8));
    }
    request += "\r\n";
    assert_eq!(request.len(), bytes);
    request
}

fn a_head_of_16_kib_is_served_and_a_longer_one_refused(server: &mut Server) {
    let mut requests = Vec::new();
    for (name, line_bytes) in [("one line", MAX_HEAD_BYTES), ("many lines", 300)] {
        requests.push((name, (200, long_request(MAX_HEAD_BYTES, line_bytes))));
        requests.push((name, (431, long_request(MAX_HEAD_BYTES + 1, line_bytes))));
    }
    at_each_pace(&requests, |pace, (status, request)| {
        assert_eq!(ask(server, pace, request).status, *status);
    });
}

fn a_head_without_end_is_refused_while_it_is_being_sent(server: &mut Server) {
    // None of these is ever finished.
    let more = "x".repeat(MAX_HEAD_BYTES + 1);
    let requests = [
        ("a path", format!("GET /{more}")),
        ("a value", format!("GET / HTTP/1.1\r\nHost: {more}")),
        ("a name", format!("GET / HTTP/1.1\r\n{more}")),
        ("lines", format!("GET / HTTP/1.1\r\nHost: a\r\n{}", "Line: x\r\n".repeat(60) + "A: " + &more)),
    ];
    at_each_pace(&requests, |pace, request| {
        let response = ask(server, pace, request);
        assert_eq!((response.status, response.says_close()), (431, true));
    });
}

fn an_answer_arrives_though_its_client_goes_on_sending(server: &mut Server) {
    let requests =
        [("the page", (200, get("/"))), ("another path", (404, get("/x"))), ("no", (400, "\0".into()))];
    for (name, (status, mut request)) in requests {
        let _on_failure = Named(name.to_owned());
        // More than any socket buffer holds, and as a request without end: the server must take it in, or a reset overtakes the
        // answers.
        request += &"x".repeat(6 << 20);
        let mut client = Client::connect(server);
        client.send(request);
        let response = client.response();
        assert_eq!(response.status, status);
        if !response.says_close() {
            assert_eq!(client.response().status, 431);
        }
    }
}
