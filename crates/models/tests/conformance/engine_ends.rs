//! The ends of Engine.IO's sessions: no pong, the packet that closes, a connection that is gone, and the end of the server.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::child::Settings;
use crate::client::{Client, close_code, eventually};
use crate::engine_client::{BARE, Engine, Polling, SESSION_UNKNOWN, SOCKETIO, post, target};
use crate::engineio::probe;
use crate::http::get;
use crate::server::Server;
use crate::{Case, case};

pub(crate) const CASES: &[Case] = &[
    case!(SocketIo, a_session_that_answers_its_pings_goes_on).with(|settings| {
        settings.app.engine.ping_interval = INTERVAL;
        settings.app.engine.ping_timeout = Duration::from_secs(60);
    }),
    case!(SocketIo, a_session_that_answers_no_ping_is_closed).with(|settings| {
        settings.app.engine.ping_interval = INTERVAL;
        settings.app.engine.ping_timeout = 2 * INTERVAL;
    }),
    case!(SocketIo, the_packet_that_closes_does_so_at_once),
    case!(SocketIo, a_session_ends_with_the_connection_that_holds_it)
        .with(|settings| settings.app.engine.max_sessions = Some(2)),
    case!(SocketIo, sessions_do_not_hold_up_the_end_of_the_server).with(|settings| {
        settings.app.grace = Duration::from_secs(60);
        settings.app.handshake_timeout = Duration::from_secs(60);
    }),
    case!(SocketIo, sessions_that_say_nothing_hold_it_up_for_the_grace).with(short_grace),
];

const INTERVAL: Duration = Duration::from_millis(60);

const GRACE: Duration = Duration::from_millis(300);

/// Far more than the grace, and less than any timer of a session.
const SOON: Duration = Duration::from_secs(4);

fn short_grace(settings: &mut Settings) {
    settings.app.grace = GRACE;
}

fn a_session_that_answers_its_pings_goes_on(server: &mut Server) {
    let start = Instant::now();
    let mut sessions = Engine::both(server, BARE);
    for _ in 0..3 {
        for session in &mut sessions {
            session.expect(&["2"]);
            session.send(&["3"]);
        }
    }
    assert!(start.elapsed() >= 3 * INTERVAL, "pings come no sooner than was said");
    for session in &mut sessions {
        session.send(&["4hello"]);
        while session.next() != "4hello" {}
    }
}

fn a_session_that_answers_no_ping_is_closed(server: &mut Server) {
    let start = Instant::now();
    let mut websocket = Engine::websocket(server, BARE);
    let mut lazy = Polling::open(server, BARE);
    websocket.expect(&["2"]);
    websocket.expect_end(server);
    assert!(start.elapsed() >= 3 * INTERVAL, "it has its time");
    // A packet would be a sign of life. This is none, and is never right.
    eventually("the session has ended that does not poll", || {
        let request = String::from_utf8(post(&lazy.target(), "")).unwrap().replacen("POST", "PUT", 1);
        lazy.post.send(request);
        lazy.post.response().json()["code"] == SESSION_UNKNOWN
    });
    // On a machine that is so slow that the time is over before a GET comes that is told in other words.
    eventually("a GET was there in time", || {
        let mut session = Polling::open(server, BARE);
        let answers = [0, 1].map(|_| {
            session.hold();
            session.answer()
        });
        let was_in_time = answers.iter().all(|answer| answer.status == 200);
        for (answer, packet) in answers.iter().zip(["2", "1"]) {
            match answer.status {
                200 => assert_eq!(answer.packets(), [packet]),
                _ => answer.expect_refusal(SESSION_UNKNOWN),
            }
        }
        session.expect_unknown(server);
        was_in_time
    });
}

fn the_packet_that_closes_does_so_at_once(server: &mut Server) {
    for endpoint in [BARE, SOCKETIO] {
        let mut polling = Polling::open(server, endpoint);
        polling.post("1").expect_ok();
        polling.expect_unknown(server);
        let mut websocket = Engine::websocket(server, endpoint);
        websocket.send(&["1"]);
        websocket.expect_end(server);
    }
    let mut behind = Polling::open(server, BARE);
    behind.post("4before\u{1e}1\u{1e}4behind").expect_ok();
    behind.expect_unknown(server);
    // A GET that waits is answered; one that came too late, by another process, finds nothing.
    let mut has_waited = false;
    eventually("a GET was there in time", || {
        let mut session = Polling::open(server, BARE);
        session.hold();
        session.post("1").expect_ok();
        let last = session.answer();
        has_waited = last.status == 200;
        if has_waited {
            assert_eq!(last.packets(), ["6"]);
        } else {
            last.expect_refusal(SESSION_UNKNOWN);
        }
        session.expect_unknown(server);
        has_waited
    });
}

fn a_session_ends_with_the_connection_that_holds_it(server: &mut Server) {
    for leave in [drop::<Client> as fn(Client), Client::reset] {
        let mut polling = Polling::open(server, BARE);
        let Engine::WebSocket(websocket) = Engine::websocket(server, BARE) else { unreachable!() };
        polling.hold();
        // There is no place for a third one.
        let mut client = Client::connect(server);
        client.send(get(&target(BARE, "polling", "")));
        let by_websocket = Client::try_open(server, &target(SOCKETIO, "websocket", ""));
        for refusal in [client.response(), by_websocket.err().expect("a refusal")] {
            assert_eq!((refusal.status, &refusal.json()["code"]), (503, &4.into()));
            assert!(refusal.body.contains("--max-sessions"), "{refusal:?}");
        }
        leave(polling.get);
        eventually("the session is gone whose GET is", || {
            polling.post.send(post(&target(BARE, "polling", &polling.sid), "6"));
            let response = polling.post.response();
            response.status == 400 && response.json()["code"] == SESSION_UNKNOWN
        });
        leave(websocket);
        // Both places are free: else the next round has none.
        eventually("the place of the WebSocket is free", || {
            let opened = [0, 1].map(|_| Client::try_open(server, &target(BARE, "websocket", "")));
            let is_free = opened.iter().all(Result::is_ok);
            opened.into_iter().flatten().for_each(|mut client| {
                client.message();
                client.leave();
            });
            is_free
        });
    }
}

fn sessions_do_not_hold_up_the_end_of_the_server(server: &mut Server) {
    let mut held = [BARE, SOCKETIO].map(|endpoint| Polling::open(server, endpoint));
    let mut idle = Polling::open(server, BARE);
    let mut probing = Polling::open(server, BARE);
    let probe = probe(server, &probing);
    let mut websockets: Vec<Client> = vec![probe];
    for endpoint in [BARE, SOCKETIO] {
        if let Engine::WebSocket(client) = Engine::websocket(server, endpoint) {
            websockets.push(client);
        }
    }
    held.iter_mut().for_each(Polling::hold);
    idle.post("4never fetched").expect_ok();
    server.signal(Signal::SIGTERM);
    for mut session in held {
        // Of a question that came in the same moment the server may know nothing.
        let rest = String::from_utf8(session.get.whatever_is_left()).unwrap();
        let is_closed = rest.starts_with("HTTP/1.1 200 ") && rest.ends_with("\r\n\r\n1");
        assert!(rest.is_empty() || is_closed, "{rest}");
    }
    for client in &mut websockets {
        assert_eq!(close_code(&client.frame()), Some(1001));
        client.goodbye(1001);
    }
    for client in [&mut idle.get, &mut idle.post, &mut probing.get] {
        client.expect_end();
    }
    assert_eq!(server.finish().dropped, 0);
}

fn sessions_that_say_nothing_hold_it_up_for_the_grace(server: &mut Server) {
    let mut polling = Polling::open(server, SOCKETIO);
    polling.hold();
    let websockets = [BARE, SOCKETIO].map(|endpoint| Engine::websocket(server, endpoint));
    let begun = Instant::now();
    server.signal(Signal::SIGTERM);
    server.finish();
    assert!(begun.elapsed() < SOON, "it took {:?}, with a grace of {GRACE:?}", begun.elapsed());
    drop(websockets);
}
