//! Engine.IO and Socket.IO without any socket and without framing: what a server does between a message and its reply.
//!
//! An echo is an event that comes back to its sender, as text and with an attachment, over a WebSocket and by polling (a POST and the GET that
//! waits for what it leads to). A delivery is one event to each of a thousand receivers.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};
use switchboard_proto::engine::{Effect, Endpoint, EngineSettings, Engines, Query, Reply, Request};
use switchboard_proto::{Kind, Port};
use tungstenite::Bytes;

const RECEIVERS: u64 = 1000;

/// Twenty bytes of argument, as the load generator's smallest message.
const TEXT: &[u8] = br#"42["message","12345678901234567890"]"#;
const BINARY: &[u8] = br#"451-["message",{"_placeholder":true,"num":0}]"#;
const TO_ALL: &[u8] = br#"42["to-all","12345678901234567890"]"#;

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_millis(1500))
        .configure_from_args();
    echo(&mut criterion);
    deliver(&mut criterion);
    criterion.final_summary();
}

fn echo(criterion: &mut Criterion) {
    let now = Instant::now();
    let mut group = criterion.benchmark_group("socket.io echo");
    group.throughput(Throughput::Elements(1));

    let mut engines = Engines::new(&EngineSettings::default());
    let port = connect(&mut engines, 1, now);
    let text = Bytes::from_static(TEXT);
    group.bench_function("websocket, text", |bencher| {
        bencher.iter(|| {
            say(&mut engines, port, Kind::Text, &text, now);
            assert_eq!(replies(&mut engines), 1);
        });
    });
    let (binary, attachment) = (Bytes::from_static(BINARY), Bytes::from_static(&[7; 20]));
    group.bench_function("websocket, attachment", |bencher| {
        bencher.iter(|| {
            say(&mut engines, port, Kind::Text, &binary, now);
            say(&mut engines, port, Kind::Binary, &attachment, now);
            assert_eq!(replies(&mut engines), 2);
        });
    });

    let session = poll_session(&mut engines, now);
    let (get, post) = (Port(2), Port(3));
    group.bench_function("polling, text", |bencher| {
        bencher.iter(|| {
            engines.handle(get, Request::Get(session.clone()), now);
            let request = Request::Post { query: session.clone(), content_type: None, body: text.clone() };
            engines.handle(post, request, now);
            assert_eq!(replies(&mut engines), 2);
        });
    });
    group.finish();
}

fn deliver(criterion: &mut Criterion) {
    let now = Instant::now();
    let mut engines = Engines::new(&EngineSettings::default());
    let ports: Vec<_> = (1..=RECEIVERS).map(|port| connect(&mut engines, port, now)).collect();
    let event = Bytes::from_static(TO_ALL);
    let mut group = criterion.benchmark_group("socket.io delivery");
    group.throughput(Throughput::Elements(RECEIVERS));
    group.bench_function("websocket, text", |bencher| {
        bencher.iter(|| {
            say(&mut engines, ports[0], Kind::Text, &event, now);
            assert_eq!(replies(&mut engines), RECEIVERS);
        });
    });
    group.finish();
}

/// A Socket.IO client on a WebSocket.
fn connect(engines: &mut Engines, port: u64, now: Instant) -> Port {
    let port = Port(port);
    engines.handle(port, Request::Upgrade(query("websocket", None)), now);
    say(engines, port, Kind::Text, &Bytes::from_static(b"40"), now);
    replies(engines);
    port
}

/// A Socket.IO client that polls.
fn poll_session(engines: &mut Engines, now: Instant) -> Query {
    engines.handle(Port(2), Request::Get(query("polling", None)), now);
    let Some(Effect::Reply(_, Reply::Answer { body, .. })) = engines.poll_effect() else {
        panic!("a handshake is answered");
    };
    let body = String::from_utf8_lossy(&body);
    let sid = body.split('"').nth(3).expect("an id").to_owned();
    let session = query("polling", Some(sid));
    let request =
        Request::Post { query: session.clone(), content_type: None, body: Bytes::from_static(b"40") };
    engines.handle(Port(3), request, now);
    engines.handle(Port(2), Request::Get(session.clone()), now);
    replies(engines);
    session
}

fn query(transport: &str, sid: Option<String>) -> Query {
    Query {
        endpoint: Endpoint::SocketIo,
        sid,
        transport: transport.to_owned(),
        eio: "4".to_owned(),
        from: None,
    }
}

fn say(engines: &mut Engines, port: Port, kind: Kind, data: &Bytes, now: Instant) {
    engines.handle(port, Request::Message { kind, data: data.clone() }, now);
}

/// Takes all effects and counts them.
fn replies(engines: &mut Engines) -> u64 {
    let mut count = 0;
    while let Some(effect) = engines.poll_effect() {
        black_box(effect);
        count += 1;
    }
    count
}
