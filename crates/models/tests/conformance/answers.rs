//! What every answer says, whatever it answers: how it may be kept, and that nobody shall guess what it is.

use crate::client::{Client, Named, Response, upgrade_request};
use crate::engine_client::{Polling, SOCKETIO, post as packets, target};
use crate::events::{EventStream, post};
use crate::http::get;
use crate::server::Server;
use crate::{Case, case};

pub(crate) const CASES: &[Case] = &[
    case!(Http, every_answer_says_how_it_may_be_kept_and_what_it_is),
    case!(LongPoll, a_held_answer_says_how_it_may_be_kept),
    case!(SocketIo, every_answer_of_engine_io_says_how_it_may_be_kept),
];

/// Expects this status, and what all answers say.
fn expect(client: &mut Client, status: u16, cache_control: &str) -> Response {
    let head = client.response();
    assert_eq!(head.status, status, "{head:?}");
    assert_eq!(head.header("Cache-Control"), Some(cache_control), "{head:?}");
    assert_eq!(head.header("X-Content-Type-Options"), Some("nosniff"), "{head:?}");
    head
}

fn every_answer_says_how_it_may_be_kept_and_what_it_is(server: &mut Server) {
    let options = |path: &str, lines: &str| {
        get(path).replace("GET", "OPTIONS").replace("Host:", &format!("{lines}Host:")).into_bytes()
    };
    let ask = |path: &str| get(path).into_bytes();
    let foreign = "Origin: http://elsewhere.test\r\n";
    let preflight = "Origin: http://switchboard.test\r\nAccess-Control-Request-Method: POST\r\n";
    let login = |path: &str, body: &str| {
        let head = format!("POST {path} HTTP/1.1\r\nHost: switchboard.test\r\n");
        format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
    };
    let requests = [
        (200, "no-cache", ask("/")),
        (200, "no-cache", ask("/chat")),
        (200, "no-cache", ask("/assets/style.css")),
        (200, "no-cache", ask("/socket.io/socket.io.min.js")),
        (200, "no-cache", ask("/about.json")),
        (200, "no-cache", ask("/poll?topic=t")),
        (400, "no-store", ask("/poll?topic=")),
        (426, "no-store", ask("/echo")),
        (426, "no-store", ask("/broadcast")),
        (404, "no-store", ask("/nothing")),
        (405, "no-store", ask("/publish")),
        (204, "no-store", options("/publish", "")),
        (204, "no-store", options("*", "")),
        (204, "no-store", options("/publish", preflight)),
        (403, "no-store", options("/publish", &preflight.replace("switchboard", "elsewhere"))),
        (202, "no-store", post("topic=t", "", b"x")),
        (400, "no-store", post("topic=", "", b"x")),
        (403, "no-store", post("topic=t", foreign, b"x")),
        (403, "no-store", post("topic=login:x", "", b"x")),
        (404, "no-store", ask("/login/codes/nothing")),
        (404, "no-store", ask("/login/codes/nothing/qr.svg")),
        (405, "no-store", ask("/login/codes")),
        (201, "no-store", login("/login/codes", "")),
        (400, "no-store", login("/login/codes/nothing", "")),
        (404, "no-store", login("/login/codes/nothing", "somebody")),
    ];
    let mut client = Client::connect(server);
    for (status, cache_control, request) in requests {
        // One connection at a time is all that some models have, and there what a page loads ends it.
        let _on_failure = Named(String::from_utf8_lossy(&request).into_owned());
        client.send(&request);
        if expect(&mut client, status, cache_control).says_close() {
            drop(client);
            client = Client::connect(server);
        }
    }
    client.send(get("/poll?topic=t").replace("Host:", "If-None-Match: *\r\nHost:"));
    expect(&mut client, 304, "no-cache");
    // What ends a connection says so as well.
    let with = |line: &str| get("/").replace("Host:", &format!("{line}\r\nHost:"));
    for (status, request) in [
        (400, "nonsense\r\n\r\n".to_owned()),
        (413, "POST /publish HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999\r\n\r\n".to_owned()),
        (431, format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(20_000))),
        (417, with("Expect: more")),
        (501, with("Transfer-Encoding: zip")),
    ] {
        drop(client);
        client = Client::connect(server);
        client.send(request);
        assert!(expect(&mut client, status, "no-store").says_close());
    }
}

fn a_held_answer_says_how_it_may_be_kept(server: &mut Server) {
    let mut client = Client::connect(server);
    client.send(get("/longpoll?topic=t&timeout=0.01"));
    // Nothing came: whoever asks again must not be given this.
    expect(&mut client, 204, "no-store");
    Client::connect(server).publish("t", "x");
    client.send(get("/longpoll?topic=t&since=0"));
    expect(&mut client, 200, "no-store");
    client.send(get("/longpoll?topic=t&since=0").replace("GET", "HEAD"));
    assert_eq!(client.response_head().header("Cache-Control"), Some("no-cache"));
    client.send(get("/events?topic=t").replace("GET", "HEAD"));
    let head = client.response_head();
    assert_eq!(head.header("X-Content-Type-Options"), Some("nosniff"));
    let mut stream = Client::connect(server);
    stream.send(get("/events?topic=t"));
    let head = stream.response_head();
    assert_eq!(head.header("X-Content-Type-Options"), Some("nosniff"));
    EventStream::after(stream, &head);
}

fn every_answer_of_engine_io_says_how_it_may_be_kept(server: &mut Server) {
    let mut session = Polling::open(server, SOCKETIO);
    session.post.send(packets(&session.target(), "40"));
    expect(&mut session.post, 200, "no-store");
    session.get.send(get(&session.target()));
    expect(&mut session.get, 200, "no-store");
    let mut client = Client::connect(server);
    for request in [
        get("/socket.io/"),
        get(&target(SOCKETIO, "polling", "nothing")),
        upgrade_request(&target(SOCKETIO, "websocket", "nothing")),
        get("/socket.io/").replace("GET", "PUT"),
    ] {
        client.send(request);
        expect(&mut client, 400, "no-store");
    }
}
