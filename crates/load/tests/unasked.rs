//! Servers that say what nobody has asked for, or leave out an answer, and a load generator that goes on all the same.

#[expect(dead_code, reason = "the other tests need more of them")]
mod servers;

use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use servers::web::{hub_server, ok};
use servers::{Answer, echo_server, greeting_server, serve};
use switchboard_load::{LoadPlan, LoadReport, run};
use tungstenite::Message;

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

/// Everything that was asked for has come, and something else is told.
fn is_fine_but_for_the_unasked(report: &LoadReport) {
    let damage = [report.lost, report.duplicated, report.reordered, report.corrupted];
    assert_eq!((damage, report.exit_status()), ([0; 4], 0), "{report}");
    assert!(report.messages > 20 && report.errors.is_empty(), "{report}");
    assert!(report.to_string().contains("\nunasked      "), "{report}");
}

#[test]
fn a_welcome_and_ticks_are_no_echoes() {
    // Text, bytes, none, as long as a message, longer.
    let greetings = || {
        vec![
            Message::text("welcome, you are number 7"),
            Message::binary(vec![0; 64]),
            Message::binary(vec![]),
            Message::binary(vec![b'x'; 1000]),
        ]
    };
    for (depth, rate_per_s, churn, threads) in
        [(1, None, false, 1), (4, None, false, 2), (1, Some(500.0), false, 1), (1, None, true, 1)]
    {
        let address = greeting_server(greetings(), |number, message| match number % 3 {
            1 => vec![Message::text("tick"), Message::binary(message)],
            2 => vec![Message::binary(message), Message::text("tock")],
            _ => vec![Message::binary(message)],
        });
        let plan = LoadPlan { depth, rate_per_s, churn, threads, ..plan("ws", address, "/echo") };
        is_fine_but_for_the_unasked(&run(&plan).unwrap());
    }
}

#[test]
fn the_shortest_messages_are_told_from_those_of_their_length() {
    let address = greeting_server(vec![Message::binary(vec![0; 16])], |_, message| {
        vec![Message::text("sixteen letters!"), Message::binary(message)]
    });
    is_fine_but_for_the_unasked(
        &run(&LoadPlan { payload_bytes: 16, ..plan("ws", address, "/echo") }).unwrap(),
    );
}

#[test]
fn another_runs_messages_are_not_this_runs() {
    // What another load generator has sent, word for word: kept from the run before.
    let kept = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let keeping = std::sync::Arc::clone(&kept);
    let first = echo_server(move |_, message| {
        keeping.lock().unwrap().push(message.clone());
        vec![Answer::Send(message)]
    });
    run(&plan("ws", first, "/echo")).unwrap();
    let old = kept.lock().unwrap().iter().take(10).map(|message| Message::binary(message.clone())).collect();
    let address = greeting_server(old, |_, message| vec![Message::binary(message)]);
    is_fine_but_for_the_unasked(&run(&plan("ws", address, "/echo")).unwrap());
}

/// An echo of bytes that begins with a banner and says `line` behind every hundredth read.
fn bannered_tcp(banner: &'static [u8], line: &'static [u8]) -> SocketAddr {
    serve(move |mut stream: TcpStream| {
        if stream.write_all(banner).is_err() {
            return;
        }
        let mut message = [0; 64];
        for number in 1u64.. {
            if stream.read_exact(&mut message).is_err() || stream.write_all(&message).is_err() {
                return;
            }
            if number % 100 == 0 && stream.write_all(line).is_err() {
                return;
            }
        }
    })
}

#[test]
fn a_banner_in_a_byte_stream_is_skipped() {
    let long: &[u8] = &[b'~'; 200];
    for banner in [&b"220 ready\r\n"[..], b"welcome\n", b"!", &long[..64], &long[..63], long, &[0; 24]] {
        for line in [&b""[..], b"250 still here\r\n"] {
            let plan = plan("tcp", bannered_tcp(banner, line), "");
            is_fine_but_for_the_unasked(&run(&plan).unwrap());
        }
    }
    let churn = LoadPlan { churn: true, ..plan("tcp", bannered_tcp(b"220 ready\r\n", b""), "") };
    is_fine_but_for_the_unasked(&run(&churn).unwrap());
}

#[test]
fn events_of_another_name_are_no_echoes_over_socket_io() {
    let address = greeting_server(
        vec![Message::text(r#"0{"sid":"1","upgrades":[],"pingInterval":25000}"#)],
        |_, packet| match &packet[..] {
            b"40" => vec![
                Message::text(r#"40{"sid":"2"}"#),
                Message::text(r#"42["ping"]"#),
                Message::text(r#"451-["ping",{"_placeholder":true,"num":0}]"#),
                Message::binary(vec![7; 64]),
            ],
            b"3" => vec![],
            event if event.starts_with(b"451-") => vec![Message::text(String::from_utf8(packet).unwrap())],
            _ => vec![Message::binary(packet), Message::text(r#"42["tick",1]"#)],
        },
    );
    is_fine_but_for_the_unasked(&run(&plan("ws", address, "/socket.io/")).unwrap());
}

#[test]
fn a_broadcast_and_an_event_stream_may_have_other_voices() {
    let address = servers::broadcast_server(|_, number, message| match number % 3 {
        0 => vec![b"tick".to_vec(), message],
        1 => vec![message, vec![0; 64]],
        _ => vec![message],
    });
    is_fine_but_for_the_unasked(&run(&plan("ws", address, "/broadcast")).unwrap());
    for (scheme, path) in [("sse+http", "/events?topic=t"), ("longpoll+http", "/longpoll?topic=t")] {
        let address = hub_server(true, |_, number, data| match number % 2 {
            0 => vec!["hello".to_owned(), data],
            _ => vec![data, "A".repeat(64)],
        });
        is_fine_but_for_the_unasked(&run(&plan(scheme, address, path)).unwrap());
    }
}

#[test]
fn a_closed_loop_goes_on_when_a_message_is_lost() {
    // One answer in fifty never comes.
    let lossy = || {
        echo_server(|number, message| match number % 50 {
            49 => vec![],
            _ => vec![Answer::Send(message)],
        })
    };
    let patience = Duration::from_millis(100);
    for (scheme, depth, connections) in [("ws", 1, 4), ("ws", 3, 1)] {
        let plan = LoadPlan {
            depth,
            connections,
            patience,
            duration: Duration::from_secs(2),
            ..plan(scheme, lossy(), "/echo")
        };
        let report = run(&plan).unwrap();
        // Without going on it would be 49 on each connection.
        assert!(report.messages > 60 * connections as u64, "{report}");
        assert!(report.lost > connections as u64 && report.exit_status() == 1, "{report}");
        assert_eq!([report.duplicated, report.reordered, report.corrupted], [0; 3], "{report}");
    }
}

#[test]
fn a_request_that_is_never_answered_does_not_stop_the_connections_place() {
    // The third request on each connection is never answered.
    let address = serve(|stream: TcpStream| {
        let mut writer = stream.try_clone().unwrap();
        let mut reader = BufReader::new(stream);
        for number in 0.. {
            let Some(_) = servers::web::Request::read(&mut reader) else { return };
            if number != 2 && writer.write_all(ok("text/plain", "fine").as_bytes()).is_err() {
                return;
            }
        }
    });
    let plan = LoadPlan {
        patience: Duration::from_millis(100),
        duration: Duration::from_secs(2),
        ..plan("http", address, "/")
    };
    let report = run(&plan).unwrap();
    assert!(report.messages > 6 && report.lost > 2 && report.exit_status() == 1, "{report}");
    assert!(!report.ended_early, "{report}");
}
