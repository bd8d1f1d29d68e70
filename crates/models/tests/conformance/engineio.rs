//! Engine.IO v4 (<https://socket.io/docs/v4/engine-io-protocol/>): its two transports, and the way from one to the other.
//!
//! What is asked on one connection and answered on another is so on purpose: these may belong to different processes.

use crate::client::{Client, Named, Pace, close_code, eventually};
use crate::engine_client::{
    BAD_REQUEST, BARE, BLOBS, Engine, Polling, SESSION_UNKNOWN, SOCKETIO, opening, post, target,
};
use crate::frames::{BINARY, frame, text};
use crate::http::get;
use crate::server::Server;
use crate::{Case, case};

pub(crate) const CASES: &[Case] = &[
    case!(SocketIo, a_handshake_says_what_the_session_is_granted),
    case!(SocketIo, the_bare_engine_returns_every_packet),
    case!(SocketIo, a_get_is_held_until_there_is_something_to_say),
    case!(SocketIo, a_session_may_come_by_another_connection_each_time),
    case!(SocketIo, a_session_moves_from_polling_to_a_websocket),
    case!(SocketIo, a_websocket_that_does_not_become_the_transport_changes_nothing),
];

fn a_handshake_says_what_the_session_is_granted(server: &mut Server) {
    let granted = |upgrades: &[&str], sid: &serde_json::Value| {
        serde_json::json!({
            "sid": sid, "upgrades": upgrades, "pingInterval": 25_000, "pingTimeout": 20_000, "maxPayload": 1_000_000,
        })
    };
    let mut sids = Vec::new();
    for endpoint in [BARE, SOCKETIO, "/engine.io", "/socket.io"] {
        let mut client = Client::connect(server);
        client.send(get(&target(endpoint, "polling", "")));
        let packets = client.response().packets();
        let [packet] = &packets[..] else { panic!("{packets:?}") };
        let polling = opening(packet);
        assert_eq!(polling, granted(&["websocket"], &polling["sid"]));
        // The same connection is good for a WebSocket.
        let mut client = client.upgrade(&target(endpoint, "websocket", ""));
        let websocket = opening(&String::from_utf8(client.message().1).unwrap());
        assert_eq!(websocket, granted(&[], &websocket["sid"]));
        client.leave();
        sids.extend([polling, websocket].map(|opening| opening["sid"].as_str().unwrap().to_owned()));
    }
    // No id is like another, and none of them needs escapes in a query.
    let is_plain = |sid: &String| {
        !sid.is_empty() && sid.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    assert!(sids.iter().all(is_plain), "{sids:?}");
    sids.sort();
    sids.dedup();
    assert_eq!(sids.len(), 8);
}

fn the_bare_engine_returns_every_packet(server: &mut Server) {
    let long = format!("4{}", "långt ".repeat(10_000));
    let blobs = BLOBS.map(|(_, base64)| base64);
    for mut engine in Engine::both(server, BARE) {
        let packets =
            ["4", "4hello", "4{\"a\":[1]}", "4\u{1d11e}\n\0", blobs[0], "44", blobs[1], blobs[2], &long];
        engine.send(&packets);
        engine.expect(&packets);
        for packet in packets {
            engine.send(&[packet]);
            engine.expect(&[packet]);
        }
        // These mean nothing to a server, and are no harm.
        engine.send(&["3", "6", "0", "5", "4and on"]);
        engine.expect(&["4and on"]);
        if let Engine::Polling(polling) = &mut engine {
            let request = post(&polling.target(), "4bit by bit\u{1e}4süß");
            polling.post.send_at(Pace::ByteByByte, request);
            polling.post.response().expect_ok();
            polling.get.send_at(Pace::ByteByByte, get(&polling.target()));
            assert_eq!(polling.get.response().packets(), ["4bit by bit", "4süß"]);
        }
    }
}

fn a_get_is_held_until_there_is_something_to_say(server: &mut Server) {
    let mut sessions: Vec<Polling> = (0..4).map(|_| Polling::open(server, BARE)).collect();
    for round in 0..5 {
        sessions.iter_mut().for_each(Polling::hold);
        for (i, session) in sessions.iter_mut().enumerate().rev() {
            session.post(format!("4{round} for {i}")).expect_ok();
            assert_eq!(session.answer().packets(), [format!("4{round} for {i}")]);
        }
    }
    // What comes while no GET is there waits, in order.
    let session = &mut sessions[0];
    for i in 0..20 {
        session.post(format!("4{i}\u{1e}bAAE=")).expect_ok();
    }
    for i in 0..20 {
        assert_eq!([session.next(), session.next()], [format!("4{i}"), "bAAE=".to_owned()]);
    }
    // One connection that is kept is enough for everything.
    let mut client = Client::connect(server);
    client.send(get(&target(BARE, "polling", "")));
    let opening = opening(&client.response().packets()[0]);
    let target = target(BARE, "polling", opening["sid"].as_str().unwrap());
    for i in 0..10 {
        client.send(post(&target, format!("4{i}")));
        client.response().expect_ok();
        client.send(get(&target));
        assert_eq!(client.response().packets(), [format!("4{i}")]);
    }
    // The next request need not wait for the answer to the one before.
    client
        .send([post(&target, "4a"), get(&target).into(), post(&target, "4b"), get(&target).into()].concat());
    for packet in ["4a", "4b"] {
        client.response().expect_ok();
        assert_eq!(client.response().packets(), [packet]);
    }
}

fn a_session_may_come_by_another_connection_each_time(server: &mut Server) {
    let session = Polling::open(server, BARE);
    let mut connections = Vec::new();
    for i in 0..12 {
        let mut poster = Client::connect(server);
        poster.send(post(&session.target(), format!("4{i}")));
        poster.response().expect_ok();
        let mut getter = Client::connect(server);
        getter.send(get(&session.target()));
        assert_eq!(getter.response().packets(), [format!("4{i}")]);
        // Half of them stay, and half of them go.
        if i % 2 == 0 {
            connections.extend([poster, getter]);
        }
    }
    drop(connections);
    let mut client = Client::connect(server);
    client.send([post(&session.target(), "4still here"), get(&session.target()).into()].concat());
    client.response().expect_ok();
    assert_eq!(client.response().packets(), ["4still here"]);
}

/// Begins to make a WebSocket a session's transport.
pub(crate) fn probe(server: &Server, session: &Polling) -> Client {
    let mut websocket = Client::open(server, &session.websocket_target());
    websocket.send(text("2probe"));
    websocket.expect_text("3probe");
    websocket
}

/// The same for a session that had another one. Until the server has heard that that is gone it lets no other in.
fn probe_again(server: &Server, session: &Polling) -> Client {
    let mut probing = None;
    eventually("another WebSocket is let in", || {
        let mut websocket = Client::open(server, &session.websocket_target());
        websocket.send(text("2probe"));
        let frame = websocket.frame();
        if frame.payload == b"3probe" {
            probing = Some(websocket);
        } else {
            assert_eq!(close_code(&frame), None);
        }
        probing.is_some()
    });
    probing.expect("it is there by now")
}

fn a_session_moves_from_polling_to_a_websocket(server: &mut Server) {
    for is_posting in [false, true] {
        let mut session = Polling::open(server, BARE);
        session.hold();
        let mut websocket = probe(server, &session);
        // The GET comes back, and while it is not there what is sent waits.
        assert_eq!(session.answer().packets(), ["6"]);
        if is_posting {
            session.post("4posted\u{1e}bAP/+Hg==").expect_ok();
        }
        websocket.send([text("5"), text("4sent")].concat());
        if is_posting {
            websocket.expect_text("4posted");
            websocket.expect(BINARY, BLOBS[0].0);
        }
        websocket.expect_text("4sent");
        // It polls no more, and has one WebSocket.
        session.post("4late").expect_refusal(BAD_REQUEST);
        session.hold();
        session.answer().expect_refusal(BAD_REQUEST);
        Client::open(server, &session.websocket_target()).expect_close(None);
        drop(session.get);
        websocket.send(text("4still there"));
        websocket.expect_text("4still there");
        // What is no frame ends the session with its connection.
        websocket.send([0xff; 14]);
        websocket.expect_close(1002);
        let mut client = Client::connect(server);
        client.send(get(&target(BARE, "polling", &session.sid)));
        client.response().expect_refusal(SESSION_UNKNOWN);
    }
}

fn a_websocket_that_does_not_become_the_transport_changes_nothing(server: &mut Server) {
    let mut session = Polling::open(server, BARE);
    let go_on = |session: &mut Polling, text: &str| {
        session.post(format!("4{text}")).expect_ok();
        // One that was held for the probe may come back first.
        while session.next() != format!("4{text}") {}
    };
    for (name, bytes) in [("a message", text("4hello")), ("bytes", frame(BINARY, "2probe"))] {
        let _on_failure = Named(name.to_owned());
        let mut websocket = Client::open(server, &session.websocket_target());
        websocket.send(bytes);
        websocket.expect_close(None);
        go_on(&mut session, name);
    }
    // One that is going to be, but for what comes then: nonsense, no frames, a goodbye, nothing at all.
    let mut websocket = probe_again(server, &session);
    websocket.send(text("4too soon"));
    websocket.expect_close(None);
    go_on(&mut session, "after a packet too soon");
    let mut websocket = probe_again(server, &session);
    websocket.send(b"\xc1\x80abcd");
    websocket.expect_close(1002);
    go_on(&mut session, "after no frame");
    probe_again(server, &session).leave();
    go_on(&mut session, "after a goodbye");
    drop(probe_again(server, &session));
    go_on(&mut session, "after the end of the connection");
    let mut websocket = probe_again(server, &session);
    websocket.send([text("5"), text("4at last")].concat());
    websocket.expect_text("4at last");
}
