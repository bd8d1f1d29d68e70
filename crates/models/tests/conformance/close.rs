//! The closing handshake (RFC 6455, sections 5.5.1 and 7).

use std::time::{Duration, Instant};

use tungstenite::Message;
use tungstenite::protocol::CloseFrame;
use tungstenite::protocol::frame::coding::CloseCode;

use crate::client::{Client, at_each_pace, eventually, tungstenite_client};
use crate::frames::{self, CLOSE, PING, close, frame};
use crate::server::Server;
use crate::{Case, case};

pub(crate) const CASES: &[Case] = &[
    case!(Http, a_close_is_answered_with_its_code_and_the_connection_ends),
    case!(Http, an_empty_close_is_answered_with_an_empty_one),
    case!(Http, a_code_that_may_not_be_sent_is_a_protocol_error),
    case!(Http, a_close_of_one_byte_is_a_protocol_error),
    case!(Http, a_reason_that_is_not_utf8_is_refused),
    case!(Http, nothing_is_answered_after_the_close),
    case!(Http, messages_before_the_close_come_back_first),
    case!(Http, after_the_close_the_server_takes_nothing_more),
    case!(Http, the_server_keeps_nothing_of_a_connection_that_was_closed)
        .together()
        .with(|settings| settings.app.workers = settings.app.workers.or(Some(16))),
    case!(Http, tungstenite_closes_cleanly),
    case!(Echo, a_close_ends_the_connection),
];

const VALID: [u16; 15] =
    [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4999];

const INVALID: [u16; 14] = [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 9999, 65_535];

fn a_close_is_answered_with_its_code_and_the_connection_ends(server: &mut Server) {
    let mut inputs = Vec::new();
    for code in VALID {
        inputs.push((format!("{code}"), (code, close(code, ""))));
        inputs.push((format!("{code} with a reason"), (code, close(code, "schöner Grund"))));
    }
    inputs.push(("the longest reason".into(), (1000, close(1000, [b'x'; 123]))));
    at_each_pace(&inputs, |pace, (code, bytes)| {
        let mut client = Client::open(server, "/echo");
        client.send_at(pace, bytes);
        // The server ends the TCP connection, not the client: this reads to the end.
        client.expect_close(*code);
    });
}

fn an_empty_close_is_answered_with_an_empty_one(server: &mut Server) {
    at_each_pace(&[("an empty close", frame(CLOSE, ""))], |pace, bytes| {
        let mut client = Client::open(server, "/echo");
        client.send_at(pace, bytes);
        assert_eq!(client.frame().payload, b"");
        client.expect_end();
    });
}

fn a_code_that_may_not_be_sent_is_a_protocol_error(server: &mut Server) {
    at_each_pace(&INVALID.map(|code| (code, close(code, "reason"))), |pace, bytes| {
        let mut client = Client::open(server, "/echo");
        client.send_at(pace, bytes);
        client.expect_close(1002);
    });
}

fn a_close_of_one_byte_is_a_protocol_error(server: &mut Server) {
    at_each_pace(&[("one byte", frame(CLOSE, [3]))], |pace, bytes| {
        let mut client = Client::open(server, "/echo");
        client.send_at(pace, bytes);
        client.expect_close(1002);
    });
}

fn a_reason_that_is_not_utf8_is_refused(server: &mut Server) {
    let reasons: [&[u8]; 5] =
        [b"\xff", b"why\xc0\xaf", b"\xed\xa0\x80", b"unfinished \xf0\x9f\xa6", b"\xf4\x90\x80\x80"];
    at_each_pace(&reasons.map(|reason| (format!("{reason:x?}"), close(1000, reason))), |pace, bytes| {
        let mut client = Client::open(server, "/echo");
        client.send_at(pace, bytes);
        client.expect_close(1007);
    });
}

fn nothing_is_answered_after_the_close(server: &mut Server) {
    let after = [frames::text("after"), frame(PING, "after"), close(1001, ""), frames::unmasked(1, b"x")];
    at_each_pace(&[("more after the close", [close(1000, ""), after.concat()].concat())], |pace, bytes| {
        let mut client = Client::open(server, "/echo");
        // The server may have ended the connection before the last of this is sent.
        let (first, rest) = bytes.split_at(8);
        client.send_at(pace, first);
        let _ = std::io::Write::write_all(&mut client.stream, rest);
        assert_eq!(crate::client::close_code(&client.frame()), Some(1000));
        // Bytes that came too late may be answered by a reset, but by nothing else.
        assert!(client.try_take(1).is_err_and(|error| error.kind() != std::io::ErrorKind::TimedOut));
    });
}

fn messages_before_the_close_come_back_first(server: &mut Server) {
    let large = frames::pattern(1 << 20);
    let before = [frames::text("one"), frames::text("two"), frame(frames::BINARY, &large)].concat();
    let mut client = Client::open(server, "/echo");
    client.send([before, close(1000, "")].concat());
    client.expect_text("one");
    client.expect_text("two");
    client.expect(frames::BINARY, &large);
    client.expect_close(1000);
}

fn after_the_close_the_server_takes_nothing_more(server: &mut Server) {
    for path in ["/echo", "/broadcast"] {
        let mut client = Client::open(server, path);
        client.send(close(1000, ""));
        client.expect_close(1000);
        // The end that was just read may be half of one: is there still somebody who would read this?
        client.send("more");
        let patience = Instant::now() + Duration::from_secs(1);
        while client.stream.take_error().unwrap().is_none() {
            assert!(Instant::now() < patience, "the server goes on reading after the close");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

fn the_server_keeps_nothing_of_a_connection_that_was_closed(server: &mut Server) {
    // One connection that stays: the server has one of what a connection needs.
    let mut stays = Client::open(server, "/echo");
    stays.echo("hello");
    // And more than will come, so that it has all that it needs by itself.
    drop((0..15).map(|_| Client::open(server, "/echo")).collect::<Vec<_>>());
    let before = server.belongings_at_rest();
    for path in ["/echo", "/broadcast"] {
        // The clients stay: it is the server that ends the connection.
        let mut clients: Vec<Client> = (0..10).map(|_| Client::open(server, path)).collect();
        for client in &mut clients {
            client.send(close(1000, ""));
            client.expect_close(1000);
        }
        eventually("descriptors, threads and processes are as before", || server.belongings() == before);
    }
}

fn tungstenite_closes_cleanly(server: &mut Server) {
    for code in [CloseCode::Normal, CloseCode::Away, CloseCode::Library(4000)] {
        let mut socket = tungstenite_client(server, "/echo");
        socket.close(Some(CloseFrame { code, reason: "done".into() })).unwrap();
        let Message::Close(Some(answer)) = socket.read().unwrap() else { panic!("not a close") };
        assert_eq!(answer.code, code);
        assert!(matches!(socket.read(), Err(tungstenite::Error::ConnectionClosed)));
    }
}

/// The plain form of this, for servers that leave it to a library.
fn a_close_ends_the_connection(server: &mut Server) {
    for code in [1000, 1001, 3000] {
        let mut client = Client::open(server, "/echo");
        client.echo("hello");
        client.send(close(code, "goodbye"));
        client.expect_close(code);
    }
}
