//! What one says, all hear: exactly once, and each sender's messages in the order in which they were sent.

use std::collections::HashMap;
use std::io::Write;
use std::thread;

use tungstenite::Message;

use crate::client::{Client, PACES, tungstenite_client};
use crate::frames::{BINARY, CLOSE, CONTINUATION, TEXT, fragment, frame, pattern, prose, text};
use crate::server::Server;
use crate::{Case, case};

pub(crate) const CASES: &[Case] = &[
    case!(Broadcast, everyone_gets_a_message_once_its_sender_included),
    case!(Broadcast, several_senders_at_once_are_heard_each_in_its_order),
    case!(Broadcast, a_large_message_reaches_everyone),
    case!(Broadcast, a_message_in_fragments_is_sent_on_when_it_is_whole),
    case!(Broadcast, whoever_has_its_upgrade_gets_what_follows),
    case!(Broadcast, echo_and_broadcast_do_not_mix),
    case!(Broadcast, a_client_that_left_disturbs_nobody),
    case!(Broadcast, clients_that_come_and_go_disturb_nobody),
    case!(Broadcast, a_subscriber_is_a_websocket_like_any_other),
    case!(Broadcast, tungstenite_hears_and_is_heard),
];

/// A way to leave.
type Way = fn(Client);

fn subscribers(server: &Server, n: usize) -> Vec<Client> {
    (0..n).map(|_| Client::open(server, "/broadcast")).collect()
}

fn everyone_gets_a_message_once_its_sender_included(server: &mut Server) {
    let mut clients = subscribers(server, 8);
    for round in 0..40 {
        let (sender, pace) = (round % 8, PACES[round % 2]);
        let length = [0, 1, 125, 126, 3000][round % 5];
        clients[sender].send_at(pace, frame(TEXT, prose(length)));
        clients[sender].send_at(pace, frame(BINARY, pattern(length)));
        for client in &mut clients {
            client.expect(TEXT, prose(length));
            client.expect(BINARY, pattern(length));
        }
    }
    clients.into_iter().for_each(Client::leave);
    let tally = server.stop();
    assert_eq!((tally.connections, tally.messages, tally.dropped), (8, 80, 0));
}

fn several_senders_at_once_are_heard_each_in_its_order(server: &mut Server) {
    const SENDERS: usize = 4;
    const EACH: usize = 300;
    let mut clients = subscribers(server, SENDERS + 2);
    thread::scope(|scope| {
        for (sender, client) in clients.iter().take(SENDERS).enumerate() {
            let mut stream = client.stream.try_clone().unwrap();
            scope.spawn(move || {
                for i in 0..EACH {
                    stream.write_all(&text(&format!("{sender} {i}"))).unwrap();
                }
            });
        }
        for client in &mut clients {
            scope.spawn(|| {
                let mut next: HashMap<String, usize> = HashMap::new();
                for _ in 0..SENDERS * EACH {
                    let message = String::from_utf8(client.message().1).unwrap();
                    let (sender, i) = message.split_once(' ').unwrap();
                    let expected = next.entry(sender.to_owned()).or_default();
                    assert_eq!(i, expected.to_string(), "of sender {sender}");
                    *expected += 1;
                }
                assert_eq!(next.len(), SENDERS);
            });
        }
    });
    // Nothing came twice: what follows the messages is the answer to the close.
    clients.into_iter().for_each(Client::leave);
    assert_eq!(server.stop().messages, (SENDERS * EACH) as u64);
}

fn a_large_message_reaches_everyone(server: &mut Server) {
    let mut clients = subscribers(server, 5);
    for sender in 0..2 {
        clients[sender].send([frame(BINARY, pattern(1 << 20)), text("after it")].concat());
        // They read at the same time: what one has not read yet must not hold up the next.
        thread::scope(|scope| {
            for client in &mut clients {
                scope.spawn(|| {
                    client.expect(BINARY, pattern(1 << 20));
                    client.expect_text("after it");
                });
            }
        });
    }
    clients.into_iter().for_each(Client::leave);
}

fn a_message_in_fragments_is_sent_on_when_it_is_whole(server: &mut Server) {
    let mut clients = subscribers(server, 3);
    for pace in PACES {
        clients[0].send_at(pace, fragment(TEXT, "in "));
        clients[0].ping(b"between");
        // Another's message does not wait for it, nor does it end up inside.
        clients[1].send(text("whole"));
        clients.iter_mut().for_each(|client| client.expect_text("whole"));
        clients[0].send_at(pace, [fragment(CONTINUATION, "frag"), frame(CONTINUATION, "ments")].concat());
        clients.iter_mut().for_each(|client| client.expect_text("in fragments"));
    }
}

fn whoever_has_its_upgrade_gets_what_follows(server: &mut Server) {
    let mut clients = subscribers(server, 1);
    for i in 0..20 {
        clients.push(Client::open(server, "/broadcast"));
        let message = format!("to {}", clients.len());
        clients[i / 2].send(text(&message));
        // And nothing of what came before it.
        clients.iter_mut().for_each(|client| client.expect_text(&message));
    }
}

fn echo_and_broadcast_do_not_mix(server: &mut Server) {
    let mut echo = Client::open(server, "/echo");
    let mut clients = subscribers(server, 2);
    for _ in 0..5 {
        clients[0].send(text("to all"));
        clients.iter_mut().for_each(|client| client.expect_text("to all"));
        echo.echo("to me");
    }
    clients.into_iter().for_each(Client::leave);
    echo.leave();
}

fn a_client_that_left_disturbs_nobody(server: &mut Server) {
    let mut clients = subscribers(server, 2);
    let ways: [(&str, Way); 5] = [
        ("by a close", Client::leave),
        ("by ending the connection", drop),
        ("by a reset", Client::reset),
        ("by a violation", |mut client| {
            client.send(crate::frames::unmasked(TEXT, b""));
            client.expect_close(1002);
        }),
        ("in the middle of a message", |mut client| {
            client.send(&frame(BINARY, pattern(1000))[..500]);
            client.reset();
        }),
    ];
    for (name, way) in ways {
        let _on_failure = crate::client::Named(name.to_owned());
        let mut leaving = subscribers(server, 3);
        clients[0].send(text("before"));
        leaving.iter_mut().chain(&mut clients).for_each(|client| client.expect_text("before"));
        while let Some(client) = leaving.pop() {
            way(client);
            // Whether the server knows already or not.
            clients[1].send(text("after"));
            leaving.iter_mut().chain(&mut clients).for_each(|client| client.expect_text("after"));
        }
    }
    clients.into_iter().for_each(Client::leave);
}

fn clients_that_come_and_go_disturb_nobody(server: &mut Server) {
    const GUESTS: usize = 40;
    let mut clients = subscribers(server, 2);
    let server = &*server;
    thread::scope(|scope| {
        let coming_and_going = scope.spawn(|| {
            for i in 0..GUESTS {
                let mut guest = Client::open(server, "/broadcast");
                guest.send(text("a guest"));
                // Every other one says goodbye; the rest go, and nobody knows what was heard of them.
                if i % 2 == 0 {
                    guest.send(crate::frames::close(1000, ""));
                    while guest.frame().opcode != CLOSE {}
                    guest.expect_end();
                }
            }
        });
        let mut guests = [0; 2];
        let mut rounds = 0;
        while !coming_and_going.is_finished() || rounds < 20 {
            let message = format!("round {rounds}");
            clients[rounds % 2].send(text(&message));
            for (client, guests) in clients.iter_mut().zip(&mut guests) {
                loop {
                    let (_, got) = client.message();
                    if got != b"a guest" {
                        assert_eq!(String::from_utf8_lossy(&got), message);
                        break;
                    }
                    *guests += 1;
                }
            }
            rounds += 1;
        }
        // Whoever said goodbye was heard; for that the server has to be done with it.
        for (client, mut guests) in clients.iter_mut().zip(guests) {
            while guests < GUESTS / 2 {
                client.expect_text("a guest");
                guests += 1;
            }
            assert!(guests <= GUESTS, "some came twice");
        }
    });
}

fn a_subscriber_is_a_websocket_like_any_other(server: &mut Server) {
    let mut other = Client::open(server, "/broadcast");
    let mut client = Client::open(server, "/broadcast");
    client.ping(b"ping");
    client.send(frame(crate::frames::PONG, "nobody asked"));
    client.send([text("a"), frame(crate::frames::PING, "p")].concat());
    // Its own message comes by way of everyone's, so the pong may overtake it.
    let mut got = [client.message(), client.message()];
    got.sort();
    assert_eq!(got, [(TEXT, b"a".to_vec()), (crate::frames::PONG, b"p".to_vec())]);
    client.send(frame(TEXT, b"\xff"));
    client.expect_close(1007);
    // Control frames and what is not a message are for nobody else.
    other.expect_text("a");
    other.leave();
}

fn tungstenite_hears_and_is_heard(server: &mut Server) {
    let mut one = tungstenite_client(server, "/broadcast");
    let mut by_hand = Client::open(server, "/broadcast");
    let mut other = tungstenite_client(server, "/broadcast");
    for i in 0..50 {
        let message = Message::text(format!("{i} {}", prose(i * 40)));
        one.send(message.clone()).unwrap();
        assert_eq!(other.read().unwrap(), message);
        assert_eq!(one.read().unwrap(), message);
        by_hand.expect(TEXT, message.into_data());
    }
    by_hand.send(frame(BINARY, pattern(70_000)));
    for socket in [&mut one, &mut other] {
        assert!(socket.read().unwrap() == Message::binary(pattern(70_000)));
    }
}
