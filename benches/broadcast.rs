//! One message of 64 bytes to 100 receivers through each model: the time until the last of them has it. The
//! receivers are read one after the other by one client, which is part of the time.

use std::net::UdpSocket;
use std::time::Duration;

use criterion::{Criterion, Throughput};
use switchboard_benches::{READ_TIMEOUT, Server, connect, read, receive, serve_if_asked};
use switchboard_models::{MODELS, Mechanism, PlainApp};
use tungstenite::Message;

const RECEIVERS: usize = 100;
const PAYLOAD_BYTES: usize = 64;

fn main() {
    serve_if_asked();
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(4))
        .sample_size(50)
        .configure_from_args();
    let mut group = criterion.benchmark_group("broadcast");
    group.throughput(Throughput::Elements(RECEIVERS as u64));
    for model in MODELS {
        let speaks = |mechanism| model.serves.contains(&mechanism);
        if !speaks(Mechanism::Broadcast) && !speaks(Mechanism::UdpBroadcast) {
            continue;
        }
        if let Some(obstacle) = (model.obstacle)() {
            switchboard_console::log!("{} cannot be measured here: {obstacle}", model.name);
            continue;
        }
        let server = Server::start(model, PlainApp::Broadcast);
        let mut publish = if speaks(Mechanism::Broadcast) { websockets(&server) } else { datagrams(&server) };
        let mut sent = 0_usize;
        group.bench_function(model.name, |bencher| {
            bencher.iter(|| {
                sent += 1;
                let mut payload = [b'x'; PAYLOAD_BYTES];
                payload[..8].copy_from_slice(&sent.to_be_bytes());
                // Everyone has a turn; a sender of datagrams that stays silent is soon no receiver.
                publish(sent % RECEIVERS, &payload);
            });
        });
        drop(publish);
        server.stop();
    }
    group.finish();
    criterion.final_summary();
}

/// Sends a payload from the receiver of that number and returns when all receivers have it.
type Publish = Box<dyn FnMut(usize, &[u8])>;

fn websockets(server: &Server) -> Publish {
    let mut sockets: Vec<_> = (0..RECEIVERS).map(|_| connect(server, "/broadcast")).collect();
    // An answer to the upgrade may come before the subscription is known everywhere; an own message that
    // came back shows that the sender's is.
    for (i, socket) in sockets.iter_mut().enumerate() {
        let hello = Message::binary(format!("hello {i}").into_bytes());
        socket.send(hello.clone()).expect("sent");
        while read(socket) != hello {}
    }
    // Greetings that are still under way end with this.
    let last = Message::binary(&b"all here"[..]);
    sockets[0].send(last.clone()).expect("sent");
    for socket in &mut sockets {
        while read(socket) != last {}
    }
    Box::new(move |sender, payload| {
        sockets[sender].send(Message::binary(payload.to_vec())).expect("sent");
        for socket in &mut sockets {
            assert_eq!(&read(socket).into_data()[..], payload);
        }
    })
}

fn datagrams(server: &Server) -> Publish {
    let sockets: Vec<_> = (0..RECEIVERS).map(|_| UdpSocket::bind("127.0.0.1:0").expect("a port")).collect();
    let mut buffer = [0; 2 * PAYLOAD_BYTES];
    for (i, socket) in sockets.iter().enumerate() {
        socket.connect(server.address()).expect("an address");
        socket.set_read_timeout(Some(READ_TIMEOUT)).expect("a socket");
        socket.send(b"hello").expect("sent");
        // The greeting comes back, and to everyone who greeted before.
        for earlier in &sockets[..=i] {
            let length = receive(earlier, &mut buffer);
            assert_eq!(&buffer[..length], b"hello");
        }
    }
    Box::new(move |sender, payload| {
        sockets[sender].send(payload).expect("sent");
        for socket in &sockets {
            let length = receive(socket, &mut buffer);
            assert_eq!(&buffer[..length], payload);
        }
    })
}
