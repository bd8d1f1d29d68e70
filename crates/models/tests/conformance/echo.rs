//! Messages that come back (RFC 6455, sections 5.5 and 5.6).

use tungstenite::Message;

use crate::client::{Client, PACES, Pace, tungstenite_client};
use crate::frames::{self, BINARY, FINAL, PING, PONG, TEXT, frame, masked, pattern, prose};
use crate::server::Server;
use crate::{Case, case};

pub(crate) const CASES: &[Case] = &[
    case!(Echo, messages_of_every_length_come_back),
    case!(Echo, a_message_of_16_mib_comes_back),
    case!(Echo, messages_come_back_however_they_are_cut),
    case!(Echo, many_messages_in_one_write_come_back_in_order),
    case!(Echo, every_mask_is_taken_off),
    case!(Echo, a_ping_is_answered_with_its_payload),
    case!(Echo, a_pong_that_nobody_asked_for_is_ignored),
    case!(Echo, many_clients_are_served_at_once).together(),
    case!(Echo, tungstenite_gets_its_messages_back),
    case!(Http, a_server_on_ipv6_serves_as_well).unless(crate::lacks_ipv6),
];

/// Lengths at which the length in a frame's header takes another form, and beyond.
const LENGTHS: [usize; 9] = [0, 1, 2, 125, 126, 127, 65_535, 65_536, 1 << 20];

fn messages_of_every_length_come_back(server: &mut Server) {
    let mut client = Client::open(server, "/echo");
    for length in LENGTHS {
        client.send(frame(BINARY, pattern(length)));
        client.expect(BINARY, pattern(length));
        client.send(frame(TEXT, prose(length)));
        client.expect(TEXT, prose(length));
    }
}

fn a_message_of_16_mib_comes_back(server: &mut Server) {
    let mut client = Client::open(server, "/echo");
    let payload = pattern(16 << 20);
    client.send(frame(BINARY, &payload));
    client.expect(BINARY, &payload);
}

fn messages_come_back_however_they_are_cut(server: &mut Server) {
    let mut client = Client::open(server, "/echo");
    for length in [0, 1, 125, 126, 2000] {
        client.send_at(Pace::ByteByByte, frame(TEXT, prose(length)));
        client.expect(TEXT, prose(length));
    }
    // In pieces whose length has nothing to do with anything.
    let message = frame(BINARY, pattern(70_000));
    for piece in [7, 997, 4096, 65_536, 70_001] {
        message.chunks(piece).for_each(|piece| client.send(piece));
        client.expect(BINARY, pattern(70_000));
    }
    // Two messages, cut at every place.
    let messages = [frames::text("hello"), frame(BINARY, pattern(130))].concat();
    for cut in 1..messages.len() {
        client.send(&messages[..cut]);
        client.send(&messages[cut..]);
        client.expect_text("hello");
        client.expect(BINARY, pattern(130));
    }
}

fn many_messages_in_one_write_come_back_in_order(server: &mut Server) {
    let mut client = Client::open(server, "/echo");
    let payload = |i: usize| format!("message {i} {}", "x".repeat(i % 200));
    for _ in 0..10 {
        let all: Vec<u8> = (0..200).flat_map(|i| frames::text(&payload(i))).collect();
        client.send(all);
        (0..200).for_each(|i| client.expect_text(&payload(i)));
    }
}

fn every_mask_is_taken_off(server: &mut Server) {
    let mut client = Client::open(server, "/echo");
    let keys = [[0; 4], [0xff; 4], [0, 0, 0, 1], [1, 0, 0, 0], [0x12, 0x34, 0x56, 0x78]];
    for (key, length) in
        keys.iter().flat_map(|key| [1, 3, 4, 5, 8, 63, 64, 65, 1000].map(|length| (*key, length)))
    {
        for pace in PACES {
            client.send_at(pace, masked(FINAL | BINARY, key, &pattern(length)));
            client.expect(BINARY, pattern(length));
        }
    }
}

fn a_ping_is_answered_with_its_payload(server: &mut Server) {
    let mut client = Client::open(server, "/echo");
    for pace in PACES {
        for length in [0, 1, 4, 124, 125] {
            client.send_at(pace, frame(PING, pattern(length)));
            client.expect(PONG, pattern(length));
        }
    }
    // Pings and messages keep their order.
    client.send([frames::text("a"), frame(PING, "p"), frames::text("b"), frame(PING, "q")].concat());
    client.expect_text("a");
    client.expect(PONG, "p");
    client.expect_text("b");
    client.expect(PONG, "q");
}

fn a_pong_that_nobody_asked_for_is_ignored(server: &mut Server) {
    let mut client = Client::open(server, "/echo");
    for pace in PACES {
        for payload in ["", "nobody asked", &"x".repeat(125)] {
            client.send_at(pace, frame(PONG, payload));
            client.echo("still there");
        }
    }
}

fn many_clients_are_served_at_once(server: &mut Server) {
    let mut clients: Vec<Client> = (0..40).map(|_| Client::open(server, "/echo")).collect();
    for round in 0..5 {
        for (i, client) in clients.iter_mut().enumerate() {
            client.send(frames::text(&format!("client {i}, round {round}")));
        }
        // Answered to the one who asked, whichever is served first.
        for (i, client) in clients.iter_mut().enumerate().rev() {
            client.expect_text(&format!("client {i}, round {round}"));
        }
    }
}

fn tungstenite_gets_its_messages_back(server: &mut Server) {
    let mut socket = tungstenite_client(server, "/echo");
    for length in LENGTHS {
        for message in [Message::text(prose(length)), Message::binary(pattern(length))] {
            socket.send(message.clone()).unwrap();
            // Not assert_eq: nobody wants to read a mebibyte.
            assert!(socket.read().unwrap() == message, "{length} bytes");
        }
    }
    socket.send(Message::Ping("ping".into())).unwrap();
    assert_eq!(socket.read().unwrap(), Message::Pong("ping".into()));
    socket.close(None).unwrap();
    assert!(matches!(socket.read(), Ok(Message::Close(None))));
    assert!(matches!(socket.read(), Err(tungstenite::Error::ConnectionClosed)), "the end is a clean one");
}

fn a_server_on_ipv6_serves_as_well(server: &mut Server) {
    let listen = "[::1]:0".parse().expect("an address");
    let settings = crate::Settings { listen, ..crate::Settings::for_model(server.model) };
    let mut server = Server::start(server.model, &settings);
    assert!(server.address.is_ipv6());
    let mut client = Client::open(&server, "/echo");
    client.echo("hello");
    client.leave();
    assert_eq!(server.stop().messages, 1);
}
