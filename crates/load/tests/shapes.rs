//! Loads of other shapes: connections that are silent, that come and go, that do not read.

#[expect(dead_code, reason = "the other tests need more of them")]
mod servers;

use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use servers::{Answer, echo_server, expect_under_way, socketio_server, stalling_server, web_server};
use switchboard_load::trend::trend;
use switchboard_load::{LoadPlan, LoadReport, run};
use tungstenite::protocol::Role;
use tungstenite::{Message, WebSocket};

fn plan(address: SocketAddr, path: &str) -> LoadPlan {
    LoadPlan {
        url: format!("ws://{address}{path}"),
        connections: 8,
        duration: Duration::from_millis(300),
        warmup: Duration::ZERO,
        patience: Duration::from_secs(2),
        ..LoadPlan::default()
    }
}

fn echo() -> SocketAddr {
    echo_server(|_, message| vec![Answer::Send(message)])
}

fn damage(report: &LoadReport) -> u64 {
    report.lost + report.duplicated + report.reordered + report.corrupted
}

#[test]
fn only_those_that_are_to_talk_do_and_all_are_open() {
    // How many connections have sent anything.
    let talkers = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&talkers);
    let address = echo_server(move |number, message| {
        seen.fetch_add(u64::from(number == 0), Ordering::SeqCst);
        vec![Answer::Send(message)]
    });
    let report = run(&LoadPlan { active: Some(3), ..plan(address, "/echo") }).unwrap();
    assert_eq!(
        (report.connections_open, report.active, talkers.load(Ordering::SeqCst)),
        (8, 3, 3),
        "{report}"
    );
    assert!(report.messages > 0 && damage(&report) == 0 && report.exit_status() == 0, "{report}");
    expect_under_way(&report, 3, report.latency_ns.unwrap(), report.messages);

    let open_loop = LoadPlan { active: Some(2), rate_per_s: Some(2000.0), ..plan(address, "/echo") };
    let report = run(&open_loop).unwrap();
    assert_eq!(talkers.load(Ordering::SeqCst), 3 + 2);
    assert!(report.messages > 0 && damage(&report) == 0, "{report}");
}

#[test]
fn a_rate_is_offered_by_those_that_talk_whichever_loop_they_are_in() {
    // Five of a hundred: all of them are every second loop's.
    let two_loops = LoadPlan {
        connections: 100,
        active: Some(5),
        threads: 2,
        rate_per_s: Some(2000.0),
        ..plan(echo(), "/echo")
    };
    let report = run(&two_loops).unwrap();
    assert_eq!((report.due, damage(&report)), (Some(600), 0), "{report}");
    assert!(report.sent.unwrap() > 300, "{report}");
}

#[test]
fn a_connection_that_is_never_answered_makes_room_for_the_next() {
    let address = echo_server(|_, _| Vec::new());
    let deaf = LoadPlan {
        churn: true,
        connections: 2,
        patience: Duration::from_millis(50),
        ..plan(address, "/echo")
    };
    let report = run(&deaf).unwrap();
    let unanswered: u64 =
        report.errors.iter().filter(|(kind, _)| kind.contains("no answer")).map(|(_, count)| count).sum();
    assert!(unanswered >= 2, "{report}");
}

#[test]
fn nobody_needs_to_talk() {
    let silent =
        LoadPlan { active: Some(0), warmup_limit: Some(Duration::from_secs(1)), ..plan(echo(), "/echo") };
    let report = run(&silent).unwrap();
    assert_eq!((report.connections_open, report.messages, report.exit_status()), (8, 0, 0), "{report}");
    assert!(report.window_ns >= 300_000_000 && !report.ended_early, "{report}");
}

#[test]
fn connections_come_and_go_and_each_carries_one_message() {
    let connections = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&connections);
    let address = echo_server(move |number, message| {
        assert_eq!(number, 0, "one message on each");
        seen.fetch_add(1, Ordering::SeqCst);
        vec![Answer::Send(message)]
    });
    let report = run(&LoadPlan { churn: true, ..plan(address, "/echo") }).unwrap();
    let served = connections.load(Ordering::SeqCst);
    assert!(report.messages > 8 && served >= report.messages, "{served} served; {report}");
    assert_eq!((report.connections_open, damage(&report), report.exit_status()), (8, 0, 0), "{report}");
    assert!(report.errors.is_empty(), "{report}");
    // Its latency counts from connect(2).
    let [all, connect, upgrade] =
        [report.latency_ns, report.connect_ns, report.upgrade_ns].map(|times| times.unwrap().p50);
    assert!(all >= connect && all >= upgrade, "{report}");
}

#[test]
fn a_server_that_refuses_those_that_come_and_go_does_not_end_the_load() {
    let address = web_server("HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\n\r\n");
    let report = run(&LoadPlan { churn: true, connections: 2, ..plan(address, "/echo") }).unwrap();
    assert_eq!((report.connections_open, report.messages), (0, 0), "{report}");
    assert!(report.refused.values().sum::<u64>() > 2, "{report}");
}

#[test]
fn what_a_waiting_client_would_not_have_seen_is_told_apart() {
    // A stop of 200 ms in 600 ms, on one connection that is offered 1,000 messages a second.
    let open_loop = LoadPlan {
        connections: 1,
        duration: Duration::from_millis(600),
        rate_per_s: Some(1000.0),
        patience: Duration::from_secs(5),
        ..plan(stalling_server(100, Duration::from_millis(200)), "/echo")
    };
    let report = run(&open_loop).unwrap();
    let (corrected, uncorrected) = (report.latency_ns.unwrap(), report.uncorrected_latency_ns.unwrap());
    // A third of all messages was due while the server stood still. Who waits for the answer has one of them under way.
    assert!(corrected.p90 >= 50_000_000, "{report}");
    assert!(uncorrected.p99 < corrected.p90 && uncorrected.max >= 150_000_000, "{report}");
    assert!(report.uncorrected_histogram.is_some(), "{report}");
}

/// A receiver twice: to end the connection, and to write to it.
type Receiver = (TcpStream, WebSocket<TcpStream>);

/// An echo server whose answer to a close is in one segment with the end of the connection.
fn abrupt_echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            stream.set_nodelay(true).unwrap();
            let held = stream.try_clone().unwrap();
            thread::spawn(move || {
                let Ok(mut socket) = tungstenite::accept(stream) else { return };
                let Ok(message) = socket.read() else { return };
                if socket.send(message).is_ok() {
                    // What is written from now on leaves with the end.
                    socket2::SockRef::from(&held).set_tcp_cork(true).unwrap();
                    while socket.read().is_ok() {}
                }
            });
        }
    });
    address
}

#[test]
fn the_end_of_a_connection_may_come_with_the_last_bytes() {
    let report = run(&LoadPlan { churn: true, ..plan(abrupt_echo(), "/echo") }).unwrap();
    assert!(report.messages > 16 && damage(&report) == 0 && report.errors.is_empty(), "{report}");
}

#[test]
fn socket_io_is_spoken_after_both_handshakes() {
    let address = socketio_server(r#"40{"sid":"2"}"#);
    let report = run(&LoadPlan { depth: 3, ..plan(address, "/socket.io/") }).unwrap();
    assert!(report.messages > 0 && damage(&report) == 0 && report.errors.is_empty(), "{report}");
    assert_eq!(report.connections_open, 8);
    let report = run(&LoadPlan { churn: true, ..plan(address, "/socket.io/") }).unwrap();
    assert!(report.messages > 16 && damage(&report) == 0 && report.errors.is_empty(), "{report}");

    let refusing = socketio_server(r#"44{"message":"not authorized"}"#);
    let report = run(&plan(refusing, "/socket.io/")).unwrap();
    assert_eq!((report.connections_open, report.exit_status()), (0, 1), "{report}");
    let said = r#"101 Switching Protocols, then 44{"message":"not authorized"}"#;
    assert_eq!(report.refused.get(said), Some(&8), "{report}");
    let other = run(&plan(echo(), "/socket.io/")).unwrap();
    assert_eq!((other.connections_open, other.exit_status()), (0, 1), "{other}");
}

/// A broadcast server that closes who cannot keep up.
fn strict_broadcast_server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let receivers: Arc<Mutex<Vec<Receiver>>> = Arc::default();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            stream.set_nodelay(true).unwrap();
            let receivers = Arc::clone(&receivers);
            thread::spawn(move || {
                let (writing, ending) = (stream.try_clone().unwrap(), stream.try_clone().unwrap());
                let Ok(mut socket) = tungstenite::accept(stream) else { return };
                writing.set_write_timeout(Some(Duration::from_millis(5))).unwrap();
                receivers
                    .lock()
                    .unwrap()
                    .push((ending, WebSocket::from_raw_socket(writing, Role::Server, None)));
                while let Ok(message) = socket.read() {
                    if !message.is_binary() {
                        continue;
                    }
                    receivers.lock().unwrap().retain_mut(|(ending, receiver)| {
                        let kept = receiver.send(Message::binary(message.clone().into_data())).is_ok();
                        if !kept {
                            let _ = ending.shutdown(Shutdown::Both);
                        }
                        kept
                    });
                }
            });
        }
    });
    address
}

#[test]
fn who_does_not_read_is_not_waited_for_and_its_end_is_no_error() {
    let slow = LoadPlan {
        slow: 2,
        payload_bytes: 64 << 10,
        duration: Duration::from_secs(1),
        ..plan(strict_broadcast_server(), "/broadcast")
    };
    let report = run(&slow).unwrap();
    assert_eq!((report.connections_open, report.slow, report.slow_closed), (8, 2, 2), "{report}");
    assert!(report.messages > 0 && damage(&report) == 0 && report.errors.is_empty(), "{report}");
    // Six of eight hear each message.
    let published = report.published.unwrap();
    assert!(report.messages.abs_diff(6 * published) <= 12, "{report}");
    let (first, last) = (report.first_receiver_ns.unwrap(), report.last_receiver_ns.unwrap());
    assert!(first.p50 <= last.p50, "{report}");
    let fairness = report.fairness.unwrap();
    assert!((1.0 / 6.0..=1.0).contains(&fairness), "{fairness}");
}

#[test]
fn a_server_that_grows_slower_shows_a_trend_in_the_slices_of_the_window() {
    let begun = Instant::now();
    // The longer it has lived, the longer it takes for a message, whatever else this machine does.
    let address = echo_server(move |_, message| {
        thread::sleep(begun.elapsed() / 200);
        vec![Answer::Send(message)]
    });
    let report = run(&LoadPlan { duration: Duration::from_secs(1), ..plan(address, "/echo") }).unwrap();
    let trend = trend(&report.slices).unwrap();
    assert!(trend.is_trend() && trend.change < 0.0, "{trend:?}: {report}");
}

#[test]
fn the_shortest_messages_are_verified_as_well() {
    let report = run(&LoadPlan { payload_bytes: 16, depth: 4, ..plan(echo(), "/echo") }).unwrap();
    assert!(report.messages > 0 && damage(&report) == 0, "{report}");
    let flipped = echo_server(|number, mut message| {
        message[9] ^= u8::from(number == 7);
        vec![Answer::Send(message)]
    });
    let report = run(&LoadPlan { payload_bytes: 16, ..plan(flipped, "/echo") }).unwrap();
    assert_eq!(report.corrupted, 8, "one on each connection: {report}");
}
