//! Clients that say nothing: in the middle of a head (408), and on a WebSocket (heartbeat).

use std::io::Write;
use std::time::{Duration, Instant};

use crate::client::{Client, close_code, upgrade_request};
use crate::frames::{CLOSE, PING, PONG, TEXT, frame, header_16, text};
use crate::server::Server;
use crate::{Case, case};

pub(crate) const CASES: &[Case] = &[
    case!(Http, a_head_that_is_not_finished_in_time_gets_408)
        .with(|settings| settings.app.handshake_timeout = SHORT),
    case!(Http, a_head_that_trickles_in_gains_no_time)
        .with(|settings| settings.app.handshake_timeout = SHORT),
    case!(Http, a_finished_head_has_no_timeout)
        .together()
        .with(|settings| settings.app.handshake_timeout = SHORT),
    case!(Heartbeat, a_silent_client_is_pinged_and_then_closed)
        .with(|settings| settings.app.heartbeat = Some(SHORT)),
    case!(Heartbeat, a_client_that_answers_pings_stays)
        .together()
        .with(|settings| settings.app.heartbeat = Some(LONG)),
    case!(Heartbeat, any_sign_of_life_is_an_answer).with(|settings| settings.app.heartbeat = Some(LONG)),
    case!(Heartbeat, a_client_that_talks_is_not_pinged).with(|settings| settings.app.heartbeat = Some(LONG)),
];

/// A time that is to run out.
const SHORT: Duration = Duration::from_millis(300);

/// A time that a client must be able to beat, on a busy machine too.
const LONG: Duration = Duration::from_secs(1);

fn a_head_that_is_not_finished_in_time_gets_408(server: &mut Server) {
    let whole = upgrade_request("/echo");
    let starts = ["", "G", "GET /echo HTTP/1.1\r\n", &whole[..whole.len() - 1]];
    let mut clients = starts.map(|start| {
        let mut client = Client::connect(server);
        client.send(start);
        client
    });
    for client in &mut clients {
        assert_eq!(client.response().status, 408);
    }
}

fn a_head_that_trickles_in_gains_no_time(server: &mut Server) {
    let mut client = Client::connect(server);
    client.send("GET / HTTP/1.1\r\nHost: a\r\nTrickle: ");
    client.stream.set_nonblocking(true).unwrap();
    let start = Instant::now();
    // A byte now and then, until there is an answer.
    while client.stream.peek(&mut [0]).is_err() {
        let _ = client.stream.write(b"x");
        std::thread::sleep(SHORT / 20);
        assert!(start.elapsed() < crate::client::PATIENCE, "it gains time with every byte");
    }
    client.stream.set_nonblocking(false).unwrap();
    assert_eq!(client.response().status, 408);
}

fn a_finished_head_has_no_timeout(server: &mut Server) {
    let mut websockets = ["/echo", "/broadcast"].map(|path| Client::open(server, path));
    // Whose time runs out after theirs would have.
    let mut other = Client::connect(server);
    assert_eq!(other.response().status, 408);
    websockets.iter_mut().for_each(|client| client.echo("still there"));
}

fn a_silent_client_is_pinged_and_then_closed(server: &mut Server) {
    let begun = [b"".to_vec(), frame(TEXT, "hello")[..3].to_vec(), header_16(TEXT, 1000)];
    for path in ["/echo", "/broadcast"] {
        // Silent from the beginning, or in the middle of a frame.
        let mut clients = begun.clone().map(|start| {
            let mut client = Client::open(server, path);
            client.send(start);
            client
        });
        for client in &mut clients {
            assert_eq!(client.frame().opcode, PING);
            let close = client.frame();
            assert!(close_code(&close).is_some_and(|code| code != 1000), "{close:?}");
            client.expect_end();
        }
    }
}

fn a_client_that_answers_pings_stays(server: &mut Server) {
    let mut clients = ["/echo", "/broadcast"].map(|path| Client::open(server, path));
    for _ in 0..3 {
        for client in &mut clients {
            let ping = client.frame();
            assert_eq!(ping.opcode, PING);
            client.send(frame(PONG, ping.payload));
        }
    }
    clients.iter_mut().for_each(|client| client.echo("still there"));
}

fn any_sign_of_life_is_an_answer(server: &mut Server) {
    let mut client = Client::open(server, "/echo");
    let signs = [text("instead of a pong"), frame(PING, "a ping"), frame(PONG, "another pong")];
    for sign in signs {
        assert_eq!(client.frame().opcode, PING);
        client.send(&sign);
        if sign[0] & 0x0f != PONG {
            client.frame();
        }
    }
    // Not closed in spite of the wrong answers, but pinged again.
    assert_eq!(client.frame().opcode, PING);
}

fn a_client_that_talks_is_not_pinged(server: &mut Server) {
    let mut client = Client::open(server, "/echo");
    let start = Instant::now();
    let mut last = start;
    while start.elapsed() < LONG * 2 {
        client.send(text("talk"));
        // On a very busy machine this client may have been silent for long without wanting to.
        let was_silent = last.elapsed() > LONG / 2;
        last = Instant::now();
        let mut got = client.frame();
        if was_silent && got.opcode == PING {
            got = client.frame();
        }
        assert_ne!(got.opcode, CLOSE);
        assert_eq!(String::from_utf8_lossy(&got.payload), "talk", "pinged though it talks");
        std::thread::sleep(LONG / 20);
    }
}
