//! One echo round trip of 64 bytes through each model over loopback: the time of a single client with one
//! message in flight, most of which is the kernel's.

use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::time::Duration;

use criterion::{Criterion, Throughput};
use switchboard_benches::{READ_TIMEOUT, Server, connect, read, receive, serve_if_asked};
use switchboard_models::{MODELS, Mechanism, PlainApp};
use tungstenite::Message;

const PAYLOAD_BYTES: usize = 64;

fn main() {
    serve_if_asked();
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3))
        .configure_from_args();
    let mut group = criterion.benchmark_group("echo");
    group.throughput(Throughput::Elements(1));
    for model in MODELS {
        let speaks = |mechanism| model.serves.contains(&mechanism);
        if let Some(obstacle) = (model.obstacle)() {
            switchboard_console::log!("{} cannot be measured here: {obstacle}", model.name);
            continue;
        }
        let server = Server::start(model, PlainApp::Echo);
        let mut round_trip: RoundTrip = if speaks(Mechanism::Echo) {
            websocket(&server)
        } else if speaks(Mechanism::UdpEcho) {
            datagram(&server)
        } else if speaks(Mechanism::TcpEcho) {
            stream(&server)
        } else {
            server.stop();
            continue;
        };
        let mut sent = 0_u64;
        group.bench_function(model.name, |bencher| {
            bencher.iter(|| {
                // Every payload is another, or a late answer would pass for a quick one.
                sent += 1;
                let mut payload = [b'x'; PAYLOAD_BYTES];
                payload[..8].copy_from_slice(&sent.to_be_bytes());
                assert_eq!(round_trip(&payload), payload);
            });
        });
        drop(round_trip);
        server.stop();
    }
    group.finish();
    criterion.final_summary();
}

/// Sends a payload and returns what came back.
type RoundTrip = Box<dyn FnMut(&[u8]) -> Vec<u8>>;

fn websocket(server: &Server) -> RoundTrip {
    let mut socket = connect(server, "/echo");
    Box::new(move |payload| {
        socket.send(Message::binary(payload.to_vec())).expect("sent");
        read(&mut socket).into_data().into()
    })
}

fn datagram(server: &Server) -> RoundTrip {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    socket.connect(server.address()).expect("an address");
    socket.set_read_timeout(Some(READ_TIMEOUT)).expect("a socket");
    Box::new(move |payload| {
        let mut echo = vec![0; 2 * PAYLOAD_BYTES];
        socket.send(payload).expect("sent");
        let length = receive(&socket, &mut echo);
        echo.truncate(length);
        echo
    })
}

fn stream(server: &Server) -> RoundTrip {
    let mut socket = TcpStream::connect(server.address()).expect("the server accepts");
    socket.set_nodelay(true).expect("a socket of TCP");
    socket.set_read_timeout(Some(READ_TIMEOUT)).expect("a socket");
    Box::new(move |payload| {
        let mut echo = vec![0; payload.len()];
        socket.write_all(payload).expect("sent");
        socket.read_exact(&mut echo).expect("an echo");
        echo
    })
}
