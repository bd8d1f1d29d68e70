//! Datagrams: returned to their sender, or to everyone heard from.

use std::io::ErrorKind;
use std::net::UdpSocket;
use std::time::Duration;

use switchboard_models::{PlainApp, Workers};

use crate::client::{PATIENCE, eventually};
use crate::frames::pattern;
use crate::server::Server;
use crate::{Case, case};

pub(crate) const CASES: &[Case] = &[
    case!(UdpEcho, a_datagram_comes_back_unchanged),
    case!(UdpEcho, everyone_gets_its_own_datagrams_back),
    case!(UdpEcho, a_datagram_over_the_limit_is_counted_and_not_returned)
        .with(|settings| settings.app.max_message_bytes = 1000),
    case!(UdpEcho, a_sender_that_is_gone_disturbs_nobody),
    case!(UdpEcho, datagrams_come_back_over_ipv6).unless(crate::lacks_ipv6),
    case!(UdpBroadcast, everyone_heard_from_gets_every_datagram_once)
        .with(|settings| settings.app.plain = PlainApp::Broadcast),
    case!(UdpBroadcast, an_empty_datagram_says_only_that_its_sender_is_there)
        .with(|settings| settings.app.plain = PlainApp::Broadcast),
    case!(UdpBroadcast, a_receiver_that_is_gone_disturbs_nobody)
        .with(|settings| settings.app.plain = PlainApp::Broadcast),
];

/// How long a datagram is waited for that may not come.
const BRIEFLY: Duration = Duration::from_millis(200);

/// The longest datagram that IPv4 has room for.
const LONGEST: usize = 65_507;

pub(crate) fn client(server: &Server) -> UdpSocket {
    let any = if server.address.is_ipv6() { "[::1]:0" } else { "127.0.0.1:0" };
    let socket = UdpSocket::bind(any).expect("port 0 is always free");
    socket.connect(server.address).expect("an address of this machine");
    socket.set_read_timeout(Some(PATIENCE)).expect("a socket option");
    socket
}

pub(crate) fn send(client: &UdpSocket, datagram: impl AsRef<[u8]>) {
    assert_eq!(client.send(datagram.as_ref()).expect("it is sent"), datagram.as_ref().len());
}

pub(crate) fn expect(client: &UdpSocket, datagram: impl AsRef<[u8]>) {
    let mut buffer = vec![0; 1 << 16];
    let received = loop {
        match client.recv(&mut buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            received => break received.expect("a datagram comes in time"),
        }
    };
    let (got, expected) = (&buffer[..received], datagram.as_ref());
    assert!(got == expected, "{} bytes came instead of {}", got.len(), expected.len());
}

/// Nothing has come that was not expected; to be asked when all that could have come would be there.
fn expect_nothing_more(client: &UdpSocket) {
    client.set_nonblocking(true).expect("a socket option");
    let more = client.recv(&mut [0; 100]);
    assert!(more.as_ref().is_err_and(|error| error.kind() == ErrorKind::WouldBlock), "{more:?}");
    client.set_nonblocking(false).expect("a socket option");
}

fn a_datagram_comes_back_unchanged(server: &mut Server) {
    let client = client(server);
    let lengths = [0, 1, 2, 512, 1472, 1473, 9000, 60_000, LONGEST, 0, 3];
    for length in lengths {
        send(&client, pattern(length));
        expect(&client, pattern(length));
    }
    // Several at once, each by itself and in order: on one machine nothing overtakes.
    (0..50).for_each(|i| send(&client, format!("datagram {i}")));
    (0..50).for_each(|i| expect(&client, format!("datagram {i}")));
    expect_nothing_more(&client);
    let tally = server.stop();
    let bytes = lengths.iter().sum::<usize>() + (0..50).map(|i| format!("datagram {i}").len()).sum::<usize>();
    assert_eq!((tally.messages, tally.bytes), (lengths.len() as u64 + 50, bytes as u64));
    assert_eq!((tally.dropped, tally.truncated), (0, 0));
}

fn everyone_gets_its_own_datagrams_back(server: &mut Server) {
    let clients: Vec<UdpSocket> = (0..20).map(|_| client(server)).collect();
    for round in 0..5 {
        for (i, client) in clients.iter().enumerate() {
            send(client, format!("client {i}, round {round}"));
        }
        for (i, client) in clients.iter().enumerate() {
            expect(client, format!("client {i}, round {round}"));
        }
    }
    clients.iter().for_each(expect_nothing_more);
}

fn a_datagram_over_the_limit_is_counted_and_not_returned(server: &mut Server) {
    let client = client(server);
    for length in [1001, 2000, LONGEST] {
        send(&client, pattern(length));
        // What comes back is the next one, not a part of the long one.
        send(&client, pattern(1000));
        expect(&client, pattern(1000));
    }
    expect_nothing_more(&client);
    let tally = server.stop();
    assert_eq!((tally.messages, tally.bytes, tally.truncated), (3, 3000, 3));
}

fn a_sender_that_is_gone_disturbs_nobody(server: &mut Server) {
    let stays = client(server);
    for i in 0..20 {
        // The answer finds nobody, and the system tells the server so.
        send(&client(server), format!("going {i}"));
        send(&stays, format!("staying {i}"));
        expect(&stays, format!("staying {i}"));
    }
    assert_eq!(server.stop().messages, 40);
}

fn datagrams_come_back_over_ipv6(server: &mut Server) {
    let listen = "[::1]:0".parse().expect("an address");
    let settings = crate::Settings { listen, ..crate::Settings::for_model(server.model) };
    let mut server = Server::start(server.model, &settings);
    let client = client(&server);
    for length in [0, 1, 60_000] {
        send(&client, pattern(length));
        expect(&client, pattern(length));
    }
    assert_eq!(server.stop().messages, 3);
}

fn everyone_heard_from_gets_every_datagram_once(server: &mut Server) {
    let mut clients = Vec::new();
    for i in 0..6 {
        clients.push(client(server));
        // Who speaks for the first time is heard, and hears itself, at once.
        send(&clients[i], format!("client {i} is here"));
        clients.iter().for_each(|client| expect(client, format!("client {i} is here")));
    }
    for round in 0..10 {
        let datagram = pattern([1, 2, 1000, 60_000][round % 4]);
        send(&clients[round % 6], &datagram);
        clients.iter().for_each(|client| expect(client, &datagram));
    }
    clients.iter().for_each(expect_nothing_more);
    let tally = server.stop();
    assert_eq!((tally.messages, tally.dropped), (16, 0));
}

fn an_empty_datagram_says_only_that_its_sender_is_there(server: &mut Server) {
    let clients = [client(server), client(server), client(server)];
    clients.iter().for_each(|client| send(client, ""));
    // All are subscribed, and what they get first is not the empty datagrams. Of several sockets one may be read before another, whatever
    // was sent first.
    let mut sent = 0;
    eventually("all are subscribed", || {
        sent += 1;
        send(&clients[2], "hello");
        expect(&clients[2], "hello");
        clients[..2].iter().all(|client| {
            client.set_read_timeout(Some(BRIEFLY)).expect("a socket option");
            let mut buffer = [0; 10];
            let heard = client.recv(&mut buffer).map(|bytes| &buffer[..bytes] == b"hello");
            assert!(!matches!(heard, Ok(false)), "something else came than what was sent");
            heard.is_ok()
        })
    });
    assert!(sent == 1 || server.model.workers == Workers::OnePerCore, "{sent} were needed");
    let tally = server.stop();
    assert_eq!((tally.connections, tally.messages), (3, 3 + sent));
}

fn a_receiver_that_is_gone_disturbs_nobody(server: &mut Server) {
    let clients = [client(server), client(server)];
    for (i, sender) in clients.iter().enumerate() {
        send(sender, "hello");
        clients.iter().take(i + 1).for_each(|client| expect(client, "hello"));
    }
    let gone = client(server);
    send(&gone, "goodbye");
    clients.iter().for_each(|client| expect(client, "goodbye"));
    expect(&gone, "goodbye");
    drop(gone);
    for i in 0..20 {
        send(&clients[i % 2], format!("datagram {i}"));
        clients.iter().for_each(|client| expect(client, format!("datagram {i}")));
    }
}
