//! The opening handshake (RFC 6455, section 4.2).

use switchboard_models::{Mechanism, Workers};

use crate::client::{ACCEPT, Client, KEY, Pace, at_each_pace, tungstenite_client, upgrade_request};
use crate::frames::{self, FINAL, TEXT};
use crate::http::ask;
use crate::server::Server;
use crate::{Case, case};

pub(crate) const CASES: &[Case] = &[
    case!(Http, the_answer_to_the_key_is_the_rfcs),
    case!(Http, an_upgrade_may_be_worded_in_other_ways),
    case!(Echo, extensions_are_not_agreed_to),
    case!(Http, of_the_subprotocols_that_are_offered_the_first_is_agreed_to),
    case!(Http, both_paths_can_be_upgraded_and_have_queries),
    case!(Http, frames_may_follow_the_head_at_once),
    case!(Http, without_an_upgrade_there_is_no_websocket),
    case!(Http, another_version_is_told_which_one_is_spoken),
    case!(Http, a_key_must_be_there_once_and_be_16_bytes),
    case!(Http, tungstenite_is_told_why_there_is_no_websocket),
];

fn the_answer_to_the_key_is_the_rfcs(server: &mut Server) {
    let keys = [
        ("the RFC's example", (KEY, ACCEPT)),
        ("another known pair", ("x3JJHMbDL1EzLkh9GBhXDw==", "HSmrc0sMlYUkAGmm5OPpG2HaGWk=")),
        // Section 4.1 has it: its last character holds four bits that no byte needs.
        ("one with bits left over", ("AQIDBAUGBwgJCgsMDQ4PEC==", "OfS0wDaT5NoxF2gqm7Zj2YtetzM=")),
    ];
    at_each_pace(&keys, |pace, (key, accept)| {
        let mut client = Client::connect(server);
        client.send_at(pace, upgrade_request("/echo").replace(KEY, key));
        let response = client.response();
        assert_eq!(response.status, 101);
        assert_eq!(response.header("Sec-WebSocket-Accept"), Some(*accept));
        assert!(response.header("Upgrade").unwrap().eq_ignore_ascii_case("websocket"));
        assert!(response.header("Connection").unwrap().eq_ignore_ascii_case("upgrade"));
        assert_eq!(response.header("Content-Length"), None);
        client.echo("hello");
    });
}

fn an_upgrade_may_be_worded_in_other_ways(server: &mut Server) {
    let request = upgrade_request("/echo");
    let requests = [
        (
            "names in lower case",
            request.replace("Upgrade: w", "upgrade: w").replace("Sec-WebSocket-K", "sec-websocket-k"),
        ),
        ("a value in capitals", request.replace("websocket\r\n", "WebSocket\r\n")),
        ("keep-alive beside it", request.replace("Connection: Upgrade", "Connection: keep-alive, upgrade")),
        ("many headers", request.replace("Host:", "User-Agent: a\r\nAccept: b\r\nCookie: c=d\r\nHost:")),
    ];
    at_each_pace(&requests, |pace, request| {
        let mut client = Client::connect(server);
        client.send_at(pace, request);
        assert_eq!(client.response().status, 101);
        client.echo("hello");
    });
}

fn extensions_are_not_agreed_to(server: &mut Server) {
    let wishes = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\nHost:";
    let mut client = Client::connect(server);
    client.send(upgrade_request("/echo").replace("Host:", wishes));
    let response = client.response();
    assert_eq!(response.status, 101);
    assert_eq!(response.header("Sec-WebSocket-Extensions"), None);
    assert_eq!(response.header("Sec-WebSocket-Protocol"), None);
    client.echo("hello");
}

fn of_the_subprotocols_that_are_offered_the_first_is_agreed_to(server: &mut Server) {
    let offer = |path: &str, lines: &str| {
        upgrade_request(path)
            .replace("Host:", &format!("{}Host:", lines.replace('|', "Sec-WebSocket-Protocol:")))
    };
    let mut paths = vec!["/echo"];
    if server.model.serves.contains(&Mechanism::Broadcast) {
        paths.push("/broadcast");
    }
    if server.model.serves.contains(&Mechanism::SocketIo) {
        paths.push("/socket.io/?EIO=4&transport=websocket");
    }
    // A browser, and npm's `ws`, give up a WebSocket to which they have offered some and that agrees to none.
    for path in paths {
        for (lines, first) in [
            ("| chat, superchat\r\n", "chat"),
            ("|superchat\r\n| chat\r\n", "superchat"),
            ("| \tv1.json.example ,x\r\n", "v1.json.example"),
        ] {
            let mut client = Client::connect(server);
            client.send(offer(path, lines));
            let response = client.response();
            assert_eq!((response.status, response.header("Sec-WebSocket-Protocol")), (101, Some(first)));
        }
    }
    for lines in ["|\r\n", "| a,,b\r\n", "| a, a\r\n", "| a b\r\n", "| a,\r\n", "| \"a\"\r\n", "| é\r\n"] {
        let mut client = Client::connect(server);
        client.send(offer("/echo", lines));
        assert_eq!(client.response().status, 400, "{lines:?}");
    }
}

fn both_paths_can_be_upgraded_and_have_queries(server: &mut Server) {
    for path in ["/echo", "/echo?a=b", "/broadcast", "/broadcast?", "http://switchboard.test/echo"] {
        let mut client = Client::open(server, path);
        client.send(frames::text(path));
        // Of several workers one may pass on late what was published before this client came.
        while client.message() != (TEXT, path.as_bytes().to_vec()) {
            assert_eq!(server.model.workers, Workers::OnePerCore, "something else came than {path}");
        }
        client.leave();
    }
}

fn frames_may_follow_the_head_at_once(server: &mut Server) {
    let with = |frames: &[u8]| [upgrade_request("/echo").as_bytes(), frames].concat();
    let messages = [frames::text("one"), frames::text("two"), frames::close(1000, "")].concat();
    at_each_pace(&[("messages behind the head", with(&messages))], |pace, bytes| {
        let mut client = Client::connect(server);
        client.send_at(pace, bytes);
        assert_eq!(client.response().status, 101);
        client.expect_text("one");
        client.expect_text("two");
        client.expect_close(1000);
    });
    // The head and the first half of a frame come together.
    let long = frames::prose(300);
    let message = frames::masked(FINAL | TEXT, frames::KEY, long.as_bytes());
    for cut in [1, 3, 5, 8, 100] {
        let mut client = Client::connect(server);
        client.send(with(&message[..cut]));
        assert_eq!(client.response().status, 101);
        client.send(&message[cut..]);
        client.expect_text(&long);
    }
}

fn without_an_upgrade_there_is_no_websocket(server: &mut Server) {
    let request = upgrade_request("/echo");
    let requests = [
        ("a plain request", "GET /echo HTTP/1.1\r\nHost: a\r\n\r\n".to_owned()),
        ("a plain request for the other", "GET /broadcast HTTP/1.1\r\nHost: a\r\n\r\n".to_owned()),
        ("another upgrade", request.replace("websocket\r\n", "h2c\r\n")),
        ("no word of it in Connection", request.replace("Connection: Upgrade", "Connection: keep-alive")),
        ("HTTP/1.0, in which there are none", request.replace("HTTP/1.1", "HTTP/1.0")),
    ];
    at_each_pace(&requests, |pace, request| {
        let response = ask(server, pace, request);
        assert_eq!(response.status, 426);
        let upgrade = response.header("Upgrade").expect("426 says to what (RFC 9110, 15.5.22)");
        assert!(upgrade.eq_ignore_ascii_case("websocket"));
    });
}

fn another_version_is_told_which_one_is_spoken(server: &mut Server) {
    let version = |line: &str| upgrade_request("/echo").replace("Sec-WebSocket-Version: 13\r\n", line);
    let requests = [
        ("none", version("")),
        ("an old one", version("Sec-WebSocket-Version: 8\r\n")),
        ("a later one", version("Sec-WebSocket-Version: 14\r\n")),
        ("several", version("Sec-WebSocket-Version: 8, 7\r\n")),
        ("an empty one", version("Sec-WebSocket-Version:\r\n")),
        ("not a number", version("Sec-WebSocket-Version: thirteen\r\n")),
    ];
    at_each_pace(&requests, |pace, request| {
        let response = ask(server, pace, request);
        assert_eq!(response.status, 426);
        assert_eq!(response.header("Sec-WebSocket-Version"), Some("13"));
    });
}

fn a_key_must_be_there_once_and_be_16_bytes(server: &mut Server) {
    let line = format!("Sec-WebSocket-Key: {KEY}\r\n");
    let key = |lines: &str| upgrade_request("/echo").replace(&line, lines);
    let requests = [
        ("none", key("")),
        ("an empty one", key("Sec-WebSocket-Key:\r\n")),
        ("two", key(&line.repeat(2))),
        ("15 bytes", key("Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAA\r\n")),
        ("17 bytes", key("Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAAA=\r\n")),
        ("not base64", key("Sec-WebSocket-Key: ????????????????????????\r\n")),
        ("without its padding", key("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ\r\n")),
    ];
    at_each_pace(&requests, |pace, request| assert_eq!(ask(server, pace, request).status, 400));
}

fn tungstenite_is_told_why_there_is_no_websocket(server: &mut Server) {
    let stream = Client::connect(server).stream;
    let refused = tungstenite::client(format!("ws://{}/nothing", server.address), stream);
    let Err(tungstenite::HandshakeError::Failure(tungstenite::Error::Http(response))) = refused else {
        panic!("tungstenite took the answer for something else");
    };
    assert_eq!(response.status(), 404);
    // And the server is still there for the next one.
    drop(tungstenite_client(server, "/echo"));
    assert_eq!(ask(server, Pace::AllAtOnce, "GET / HTTP/1.1\r\nHost: a\r\n\r\n").status, 200);
}
