//! Plain TCP: every byte comes back, whatever it is.

use std::io::Write;
use std::thread;

use switchboard_models::PlainApp;

use crate::backpressure::write_until_held;
use crate::client::{Client, PACES};
use crate::frames::pattern;
use crate::server::Server;
use crate::{Case, case};

pub(crate) const CASES: &[Case] = &[
    case!(TcpEcho, every_byte_comes_back),
    case!(TcpEcho, many_connections_get_their_own_bytes_back),
    case!(TcpEcho, a_connection_that_does_not_read_is_held_and_gets_everything_later),
    case!(TcpEcho, a_connection_that_vanishes_disturbs_nobody),
    case!(TcpEcho, at_the_descriptor_limit_newcomers_wait_until_others_leave)
        .with(|settings| settings.descriptors = Some(64)),
    case!(TcpBroadcast, every_byte_comes_to_everyone)
        .with(|settings| settings.app.plain = PlainApp::Broadcast),
];

fn expect(client: &mut Client, bytes: &[u8]) {
    assert!(client.take(bytes.len()) == bytes, "{} bytes came back as other ones", bytes.len());
}

fn every_byte_comes_back(server: &mut Server) {
    let mut client = Client::connect(server);
    for pace in PACES {
        for length in [1, 64, 4096] {
            client.send_at(pace, pattern(length));
            expect(&mut client, &pattern(length));
        }
    }
    let mut writer = client.stream.try_clone().unwrap();
    thread::scope(|scope| {
        scope.spawn(move || writer.write_all(&pattern(8 << 20)).unwrap());
        expect(&mut client, &pattern(8 << 20));
    });
    client.half_close();
    client.expect_end();
    assert_eq!(server.stop().connections, 1);
}

fn at_the_descriptor_limit_newcomers_wait_until_others_leave(server: &mut Server) {
    let mut clients: Vec<Client> = (0..90).map(|_| Client::connect(server)).collect();
    clients.iter_mut().for_each(|client| client.send("hello"));
    clients[..40].iter_mut().for_each(|client| expect(client, b"hello"));
    clients.drain(..40);
    clients.iter_mut().for_each(|client| expect(client, b"hello"));
}

fn every_byte_comes_to_everyone(server: &mut Server) {
    let mut clients: Vec<Client> = (0..50).map(|_| Client::connect(server)).collect();
    for round in 0..5 {
        let text = format!("round {round}, to everyone");
        clients[round * 7].send(&text);
        clients.iter_mut().for_each(|client| expect(client, text.as_bytes()));
    }
    // More than the buffers of one that does not read: the others are not held up.
    let silent = clients.pop().unwrap();
    let (publisher, others) = clients.split_first_mut().unwrap();
    for _ in 0..64 {
        publisher.send(pattern(64 << 10));
        others.iter_mut().for_each(|client| expect(client, &pattern(64 << 10)));
        publisher.take(64 << 10);
    }
    drop(silent);
    publisher.send("still there");
    others.iter_mut().for_each(|client| expect(client, b"still there"));
}

fn many_connections_get_their_own_bytes_back(server: &mut Server) {
    let mut clients: Vec<Client> = (0..50).map(|_| Client::connect(server)).collect();
    for round in 0..5 {
        for (i, client) in clients.iter_mut().enumerate() {
            client.send(format!("client {i}, round {round}"));
        }
        for (i, client) in clients.iter_mut().enumerate() {
            expect(client, format!("client {i}, round {round}").as_bytes());
        }
    }
}

fn a_connection_that_does_not_read_is_held_and_gets_everything_later(server: &mut Server) {
    let mut other = Client::connect(server);
    let mut client = Client::connect_narrow(server);
    let (begun, left) = write_until_held(&mut client, |i| pattern(20_000 + i % 1000));
    other.send("nobody else is held");
    expect(&mut other, b"nobody else is held");
    let mut rest = client.stream.try_clone().unwrap();
    thread::scope(|scope| {
        scope.spawn(move || rest.write_all(&left).unwrap());
        (0..begun).for_each(|i| expect(&mut client, &pattern(20_000 + i % 1000)));
    });
}

fn a_connection_that_vanishes_disturbs_nobody(server: &mut Server) {
    let mut stays = Client::connect(server);
    for i in 0..20 {
        let mut client = Client::connect(server);
        client.send(pattern(1000));
        if i % 2 == 0 {
            client.reset()
        } else {
            drop(client)
        }
        stays.send("still there");
        expect(&mut stays, b"still there");
    }
}
