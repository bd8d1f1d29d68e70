//! What Engine.IO does not let pass. Where a session has to end, it ends by what was wrong, and not by the patience for a pong.

use crate::child::Settings;
use crate::client::{Client, Named, Pace, eventually, upgrade_request};
use crate::engine_client::{
    BAD_HANDSHAKE_METHOD, BAD_REQUEST, BARE, BLOBS, Engine, Polling, SESSION_UNKNOWN, SOCKETIO,
    TRANSPORT_UNKNOWN, UNSUPPORTED_VERSION, post, target,
};
use crate::frames::{BINARY, KEY, TEXT, close, fragment, frame, masked, text, unmasked};
use crate::http::{ask, get};
use crate::server::Server;
use crate::{Case, case};

pub(crate) const CASES: &[Case] = &[
    case!(SocketIo, a_request_that_makes_no_sense_to_engine_io_is_refused_in_its_words),
    case!(SocketIo, a_payload_too_long_is_refused_and_a_message_too_long_ends_the_session).with(small),
    case!(SocketIo, a_malformed_packet_ends_the_session_at_once),
    case!(SocketIo, what_is_not_text_where_text_must_be_ends_the_session),
    case!(SocketIo, of_two_gets_at_once_one_is_refused_and_the_session_ends),
    case!(SocketIo, a_post_during_a_post_ends_the_session),
    case!(SocketIo, frames_that_are_none_end_the_session),
];

const MAX_BYTES: usize = 1000;

fn small(settings: &mut Settings) {
    settings.app.engine.max_payload_bytes = MAX_BYTES;
}

fn a_request_that_makes_no_sense_to_engine_io_is_refused_in_its_words(server: &mut Server) {
    let mut session = Polling::open(server, BARE);
    let sid = session.sid.clone();
    let other = Polling::open(server, SOCKETIO).sid;
    let long = "A".repeat(4000);
    let method = |method: &str, target: &str| {
        format!("{method} {target} HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n4").into_bytes()
    };
    let mut requests = Vec::new();
    for unknown in ["x", "%c3%a9", "AAAAAAAAAAAAAAAAAAAA", &format!("{sid}A"), &sid[1..], &other, &long] {
        requests.push((SESSION_UNKNOWN, get(&target(BARE, "polling", unknown)).into()));
        requests.push((SESSION_UNKNOWN, post(&target(BARE, "polling", unknown), "4")));
        requests.push((SESSION_UNKNOWN, upgrade_request(&target(BARE, "websocket", unknown)).into()));
    }
    for transport in ["", "udp", "Polling", "webtransport", "__proto__"] {
        for sid in ["", &sid] {
            requests.push((TRANSPORT_UNKNOWN, get(&target(BARE, transport, sid)).into()));
            requests.push((TRANSPORT_UNKNOWN, post(&target(BARE, transport, sid), "4")));
            requests.push((TRANSPORT_UNKNOWN, upgrade_request(&target(BARE, transport, sid)).into()));
        }
    }
    requests.push((TRANSPORT_UNKNOWN, get("/socket.io/?EIO=4").into()));
    requests.push((TRANSPORT_UNKNOWN, get("/socket.io").into()));
    for eio in ["", "&EIO=", "&EIO=3", "&EIO=5", "&EIO=4x", "&EIO=04"] {
        requests.push((UNSUPPORTED_VERSION, get(&format!("{SOCKETIO}?transport=polling{eio}")).into()));
        requests.push((
            UNSUPPORTED_VERSION,
            upgrade_request(&format!("{SOCKETIO}?transport=websocket{eio}")).into(),
        ));
        requests.push((UNSUPPORTED_VERSION, get(&format!("{BARE}?transport=polling{eio}&sid={sid}")).into()));
    }
    for name in ["POST", "PUT", "DELETE", "PATCH", "BREW"] {
        requests.push((BAD_HANDSHAKE_METHOD, method(name, &target(BARE, "polling", ""))));
        requests.push((BAD_HANDSHAKE_METHOD, method(name, &target(BARE, "websocket", ""))));
        if name != "POST" {
            requests.push((BAD_REQUEST, method(name, &target(BARE, "polling", &sid))));
        }
    }
    // The transport that is named is not the one that is used.
    for sid in ["", &sid] {
        requests.push((BAD_REQUEST, get(&target(BARE, "websocket", sid)).into()));
        requests.push((BAD_REQUEST, upgrade_request(&target(BARE, "polling", sid)).into()));
    }
    for (code, request) in &requests {
        let _on_failure = Named(String::from_utf8_lossy(&request[..request.len().min(200)]).into_owned());
        ask(server, Pace::AllAtOnce, request).expect_refusal(*code);
    }
    // A refusal is no reason to end a connection, or the session that was named.
    let mut client = Client::connect(server);
    for (code, request) in requests.iter().filter(|(_, request)| request.starts_with(b"GET")) {
        client.send(request);
        client.response().expect_refusal(*code);
    }
    session.post("4still here").expect_ok();
    assert_eq!(session.next(), "4still here");
}

fn a_payload_too_long_is_refused_and_a_message_too_long_ends_the_session(server: &mut Server) {
    let long = format!("4{}", "x".repeat(MAX_BYTES - 1));
    for mut engine in Engine::both(server, BARE) {
        // What may be as long as that comes as long as that.
        engine.send(&[&long]);
        engine.expect(&[&long]);
        match &mut engine {
            Engine::Polling(session) => {
                let mut client = Client::connect(server);
                client.send(post(&session.target(), format!("{long}x")));
                assert_eq!(client.response().status, 413);
                // One that does not say how long it is, and one that only says so.
                let mut client = Client::connect(server);
                let head = String::from_utf8(post(&session.target(), "")).unwrap();
                client.send(head.replace("Content-Length: 0", "Content-Length: 100000000000"));
                assert_eq!(client.response().status, 413);
                session.post("4still here").expect_ok();
                assert_eq!(session.next(), "4still here");
                let mut client = Client::connect(server);
                let chunked = "Expect: 100-continue\r\nTransfer-Encoding: chunked";
                client.send(head.replace("Content-Length: 0", chunked));
                assert_eq!(client.response_head().status, 100);
                client.send(format!("3e8\r\n{long}\r\n"));
                client.send("1\r\nx\r\n0\r\n\r\n");
                assert_eq!(client.response().status, 413);
                session.post("4and here").expect_ok();
                assert_eq!(session.next(), "4and here");
            }
            Engine::WebSocket(client) => {
                client.send(text(&format!("{long}x")));
                client.expect_close(1009);
            }
        }
    }
    let Engine::WebSocket(mut client) = Engine::websocket(server, SOCKETIO) else { unreachable!() };
    client.send([fragment(TEXT, &long), fragment(0, "x")].concat());
    client.expect_close(1009);
}

fn a_malformed_packet_ends_the_session_at_once(server: &mut Server) {
    for packets in [
        &["x"][..],
        &["2"],
        &["2probe"],
        &["7"],
        &["bA"],
        &["b!"],
        &["bA=P/+Hg"],
        &[" 4"],
        &["é"],
        &["4a", "x"],
    ] {
        for (mut engine, name) in Engine::both(server, BARE).into_iter().zip(["polling", "a websocket"]) {
            let _on_failure = Named(format!("{packets:?} by {name}"));
            if let Engine::WebSocket(client) = &mut engine {
                packets[..packets.len() - 1].iter().for_each(|packet| client.echo(packet));
                client.send(text(packets[packets.len() - 1]));
                engine.expect_end(server);
            } else {
                engine.send_the_last(server, packets);
            }
        }
    }
    // Payloads with nothing where a packet should be, and a packet of nothing.
    for payload in ["", "\u{1e}", "4a\u{1e}", "\u{1e}4a", "4a\u{1e}\u{1e}4b"] {
        let _on_failure = Named(format!("{payload:?}"));
        let mut session = Polling::open(server, BARE);
        session.hold();
        session.post(payload).expect_refusal(BAD_REQUEST);
        session.expect_unknown(server);
        // Whether the GET had come before or not, it does not stay; and may have what was right of it.
        let last = session.answer();
        if last.status == 200 {
            assert_eq!(last.packets().last().unwrap(), "1");
        } else {
            last.expect_refusal(SESSION_UNKNOWN);
        }
    }
    let mut websocket = Engine::websocket(server, BARE);
    websocket.send_the_last(server, &[""]);
}

fn what_is_not_text_where_text_must_be_ends_the_session(server: &mut Server) {
    let octets = |request: Vec<u8>, media_type: &str| {
        let request = String::from_utf8(request).unwrap();
        request.replace("text/plain;charset=UTF-8", media_type).into_bytes()
    };
    for endpoint in [BARE, SOCKETIO] {
        let session = || Polling::open(server, endpoint);
        let (a, b, c) = (session(), session(), session());
        let requests = [
            post(&a.target(), b"4\xff\xfe"),
            octets(post(&b.target(), "4hello"), "application/octet-stream"),
            octets(post(&c.target(), "4hello"), "Application/Octet-Stream; a=b"),
        ];
        for (mut session, request) in [a, b, c].into_iter().zip(requests) {
            session.post.send(request);
            session.post.response().expect_refusal(BAD_REQUEST);
            session.expect_unknown(server);
        }
        let Engine::WebSocket(mut client) = Engine::websocket(server, endpoint) else { unreachable!() };
        client.send(frame(TEXT, b"4\xff"));
        client.expect_close(1007);
    }
    // Bytes that belong to nothing, before there is a socket and after.
    for mut engine in Engine::both(server, SOCKETIO) {
        engine.send_the_last(server, &[BLOBS[0].1]);
    }
    for engine in Engine::both(server, SOCKETIO) {
        engine.connected().send_the_last(server, &[BLOBS[0].1]);
    }
}

fn of_two_gets_at_once_one_is_refused_and_the_session_ends(server: &mut Server) {
    let mut session = Polling::open(server, BARE);
    session.hold();
    let mut second = Client::connect(server);
    second.send(get(&session.target()));
    // Which of them is the second is for their processes to decide.
    let mut answers = [session.answer(), second.response()];
    answers.sort_by_key(|answer| answer.status);
    assert_eq!(answers[0].packets(), ["1"]);
    answers[1].expect_refusal(BAD_REQUEST);
    session.expect_unknown(server);
}

fn a_post_during_a_post_ends_the_session(server: &mut Server) {
    let head = |session: &Polling| {
        let head = String::from_utf8(post(&session.target(), "4hello")).unwrap();
        head.strip_suffix("4hello").unwrap().replace("Content-Type", "Expect: 100-continue\r\nContent-Type")
    };
    for is_whole in [true, false] {
        let mut session = Polling::open(server, BARE);
        let mut first = Client::connect(server);
        first.send(head(&session));
        // It is awaited: then it is known as well.
        assert_eq!(first.response_head().status, 100);
        session.post.send(if is_whole { post(&session.target(), "4hello") } else { head(&session).into() });
        let mut answer = session.post.response_head();
        if answer.status == 100 {
            answer = session.post.response_head();
        }
        assert_eq!(answer.status, 400);
        session.post = Client::connect(server);
        session.expect_unknown(server);
        first.send("4hello");
        first.response().expect_refusal(SESSION_UNKNOWN);
    }
    // One that is never finished is no harm once its connection is gone.
    let mut session = Polling::open(server, BARE);
    let mut first = Client::connect(server);
    first.send(head(&session));
    assert_eq!(first.response_head().status, 100);
    drop(first);
    eventually("the session has ended with its POST", || {
        let mut client = Client::connect(server);
        client.send(get(&session.target()));
        let response = client.response();
        response.status == 400
    });
    session.expect_unknown(server);
}

fn frames_that_are_none_end_the_session(server: &mut Server) {
    let frames = [
        ("a reserved bit", masked(0xc1, KEY, b"4a")),
        ("a reserved opcode", frame(3, "4a")),
        ("no mask", unmasked(TEXT, b"4a")),
        ("a fragment of nothing", frame(0, "4a")),
        ("a message in a message", [fragment(TEXT, "4a"), frame(BINARY, "a")].concat()),
        ("a code that must not be", close(1005, "")),
    ];
    for (name, bytes) in frames {
        let _on_failure = Named(name.to_owned());
        // Of one that began by polling it can be asked whether it is still there.
        let mut session = Polling::open(server, SOCKETIO);
        session.post("40").expect_ok();
        let mut websocket = Client::open(server, &session.websocket_target());
        websocket.send([text("2probe"), text("5")].concat());
        websocket.expect_text("3probe");
        assert!(websocket.message().1.starts_with(b"40{"));
        websocket.expect_text(r#"42["auth",{}]"#);
        websocket.send(bytes);
        websocket.expect_close(1002);
        session.expect_unknown(server);
    }
}
