//! How a load ends: what its exit status says, and that it ends at all.

#[expect(dead_code, reason = "the other tests need more of them")]
mod servers;

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use servers::web::{http_server, ok};
use servers::{Answer, echo_server, serve, web_server};
use switchboard_load::{LoadPlan, LoadReport, run};

fn plan(scheme: &str, address: SocketAddr, path: &str) -> LoadPlan {
    LoadPlan {
        url: format!("{scheme}://{address}{path}"),
        connections: 2,
        duration: Duration::from_millis(300),
        warmup: Duration::ZERO,
        patience: Duration::from_secs(5),
        ..LoadPlan::default()
    }
}

fn echo() -> SocketAddr {
    echo_server(|_, message| vec![Answer::Send(message)])
}

/// Lost, duplicated, reordered, corrupted.
fn figures(report: &LoadReport) -> [u64; 4] {
    [report.lost, report.duplicated, report.reordered, report.corrupted]
}

#[test]
fn a_worker_that_cannot_start_ends_the_load_in_words() {
    let cpus = |cpus| LoadPlan { cpus: Some(cpus), threads: 2, ..plan("ws", echo(), "/echo") };
    for absent in [1023, 1024, usize::MAX] {
        let error = run(&cpus(vec![0, absent])).unwrap_err();
        assert!(error.to_string().contains(&format!("--cpus {absent}: ")), "{error}");
        assert_eq!(error.exit_status(), 2, "{error}");
    }
    assert!(run(&cpus(vec![])).unwrap_err().to_string().contains("--cpus"));
    let fine = run(&cpus(vec![0])).unwrap();
    assert_eq!((figures(&fine), fine.exit_status()), ([0; 4], 0), "{fine}");
}

#[test]
fn a_rate_is_one_schedule_over_all_threads() {
    for threads in [1, 4] {
        let seldom = LoadPlan {
            threads,
            connections: 4,
            rate_per_s: Some(3.0),
            duration: Duration::from_secs(1),
            ..plan("ws", echo(), "/echo")
        };
        let report = run(&seldom).unwrap();
        assert_eq!((report.due, report.sent, report.messages), (Some(3), Some(3), 3), "{report}");
        assert_eq!(report.exit_status(), 0, "{report}");
    }
}

#[test]
fn connections_that_come_and_go_keep_to_their_rate() {
    let served = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&served);
    let address = echo_server(move |_, message| {
        count.fetch_add(1, Ordering::SeqCst);
        vec![Answer::Send(message)]
    });
    for threads in [1, 4] {
        let before = served.load(Ordering::SeqCst);
        let paced = LoadPlan {
            threads,
            churn: true,
            connections: 4,
            connect_rate_per_s: Some(20.0),
            duration: Duration::from_secs(1),
            ..plan("ws", address, "/echo")
        };
        let report = run(&paced).unwrap();
        let opened = served.load(Ordering::SeqCst) - before;
        assert!((10..=22).contains(&opened) && report.messages <= 21, "{opened} opened: {report}");
    }
}

#[test]
fn not_all_connected_is_no_success() {
    // The first gets in, all others are turned away.
    let arrived = AtomicU64::new(0);
    let address = serve(move |mut stream| {
        if arrived.fetch_add(1, Ordering::SeqCst) > 0 {
            use std::io::{Read, Write};
            let full = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n";
            let _ = stream.write_all(full.as_bytes());
            let _ = stream.read_to_end(&mut Vec::new());
            return;
        }
        let Ok(mut socket) = tungstenite::accept(stream) else { return };
        while let Ok(message) = socket.read() {
            if message.is_binary() && socket.send(message).is_err() {
                return;
            }
        }
    });
    let report = run(&LoadPlan { connections: 4, ..plan("ws", address, "/echo") }).unwrap();
    assert!(report.messages > 0 && figures(&report) == [0; 4], "{report}");
    assert_eq!((report.connections_open, report.exit_status()), (1, 1), "{report}");
}

#[test]
fn a_datagram_to_nobody_is_an_error() {
    let closed = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for rate_per_s in [None, Some(100.0)] {
        let nobody = LoadPlan { rate_per_s, ..plan("udp", closed, "") };
        let report = run(&nobody).unwrap();
        assert!(report.errors.contains_key("datagram refused: nobody listens on that port"), "{report}");
        assert_eq!((report.messages, report.exit_status()), (0, 1), "{report}");
    }
    // A port that is open and says nothing.
    let deaf = UdpSocket::bind("127.0.0.1:0").unwrap();
    let report = run(&LoadPlan {
        datagram_timeout: Duration::from_millis(50),
        ..plan("udp", deaf.local_addr().unwrap(), "")
    });
    let report = report.unwrap();
    assert_eq!((report.messages, report.exit_status()), (0, 1), "{report}");
}

#[test]
fn a_connection_that_is_closed_in_order_is_opened_again() {
    let announced = || http_server(|_, _| Some(ok("text/plain", "x").replace("OK\r\n", "OK\r\nConnection: close\r\n")));
    let silent = || http_server(|number, _| (number < 5).then(|| ok("text/plain", "x")));
    // The server closes after the answer where the one who made it says so or has no other way to end it.
    let once = |answer: &'static str| {
        serve(move |stream| {
            use std::io::{BufReader, Write};
            let mut writer = stream.try_clone().unwrap();
            if servers::web::Request::read(&mut BufReader::new(stream)).is_some() {
                let _ = writer.write_all(answer.as_bytes());
            }
        })
    };
    let old = once("HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nx");
    let endless = once("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nx");
    for (address, depth, is_closed_loop) in [
        (announced(), 1, false),
        (announced(), 3, false),
        (silent(), 1, false),
        // A second request before the first is answered would be unread when the server closes: a reset.
        (old, 1, true),
        (endless, 1, true),
    ] {
        for rate_per_s in [None, Some(100.0)].into_iter().filter(|rate| rate.is_none() || !is_closed_loop) {
            let plan = LoadPlan { depth, rate_per_s, ..plan("http", address, "/") };
            let report = run(&plan).unwrap();
            assert_eq!((figures(&report), report.exit_status()), ([0; 4], 0), "{report}");
            assert!(report.messages > 10 && report.errors.is_empty(), "{report}");
            assert!(report.to_string().contains("\nreopened     "), "{report}");
        }
    }
    let news = r#"{"topic":"t","newest":7,"events":[]}"#;
    let polls = http_server(move |_, _| {
        Some(ok("application/json", news).replace("OK\r\n", "OK\r\nConnection: close\r\n"))
    });
    let report = run(&plan("poll+http", polls, "/poll?topic=t")).unwrap();
    assert!(report.messages > 10 && report.exit_status() == 0, "{report}");
}

#[test]
fn an_answer_without_a_length_keeps_its_status() {
    let missing = "HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\n\r\nno such page";
    for (scheme, path) in [
        ("http", "/"),
        ("poll+http", "/poll"),
        ("longpoll+http", "/longpoll"),
        ("sse+http", "/events"),
        ("socketio+http", "/socket.io/?transport=polling"),
        ("socketio+http", "/socket.io/?transport=upgrade"),
    ] {
        let address = serve(move |stream| {
            use std::io::{BufReader, Write};
            let mut writer = stream.try_clone().unwrap();
            if servers::web::Request::read(&mut BufReader::new(stream)).is_some() {
                let _ = writer.write_all(missing.as_bytes());
            }
        });
        let report = run(&plan(scheme, address, path)).unwrap();
        assert!(report.refused.keys().any(|kind| kind.starts_with("404 Not Found")), "{scheme}: {report}");
        assert_eq!((report.connections_open, report.exit_status()), (0, 1), "{report}");
    }
}

#[test]
fn what_was_damaged_has_no_time() {
    let address = echo_server(|number, mut message| {
        message[40] ^= u8::from(number % 2 == 1);
        vec![Answer::Send(message)]
    });
    let report = run(&LoadPlan { rate_per_s: Some(200.0), ..plan("ws", address, "/echo") }).unwrap();
    assert!(report.corrupted > 10 && report.exit_status() == 1, "{report}");
    assert!(report.uncorrected_latency_ns.unwrap().min > 0, "{report}");
}

#[test]
fn a_servers_words_do_not_reach_the_terminal_as_they_are() {
    let head = "HTTP/1.1 503 X\r\nSwitchboard-Refused: \u{9b}31m\u{202e}full\u{85}\r\nContent-Length: 0\r\n\r\n";
    let report = run(&plan("ws", web_server(head), "/echo")).unwrap();
    let said = [report.to_string(), serde_json::to_string(&report).unwrap()];
    for text in said {
        let is_safe = |letter: char| letter == '\n' || !letter.is_control() && letter != '\u{202e}';
        assert!(text.chars().all(is_safe) && text.contains("full"), "{text:?}");
    }
}
