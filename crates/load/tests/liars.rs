//! Servers that lie, and a load generator that must say how.

#[expect(dead_code, reason = "the other tests need more of them")]
mod servers;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use servers::{
    Answer, batching_server, broadcast_server, echo_server, expect_under_way, silent_server, stalling_server,
    udp_server, web_server,
};
use switchboard_load::{LoadPlan, LoadReport, run};

/// A short load with two connections.
fn load(scheme: &str, address: SocketAddr, path: &str) -> LoadReport {
    run(&plan(scheme, address, path)).unwrap()
}

fn plan(scheme: &str, address: SocketAddr, path: &str) -> LoadPlan {
    LoadPlan {
        url: format!("{scheme}://{address}{path}"),
        connections: 2,
        duration: Duration::from_millis(300),
        warmup: Duration::ZERO,
        depth: 4,
        patience: Duration::from_secs(2),
        // What is lost is given up at the end; nothing else is, however busy the machine.
        datagram_timeout: Duration::from_secs(2),
        ..LoadPlan::default()
    }
}

/// Lost, duplicated, reordered, corrupted.
fn figures(report: &LoadReport) -> [u64; 4] {
    [report.lost, report.duplicated, report.reordered, report.corrupted]
}

#[test]
fn an_honest_server_is_found_honest() {
    let report = load("ws", echo_server(|_, message| vec![Answer::Send(message)]), "/echo");
    assert_eq!(figures(&report), [0; 4]);
    assert_eq!((report.connections_open, report.exit_status()), (2, 0));
    assert!(report.messages > 0 && report.latency_ns.unwrap().p50 > 0);
    assert!(report.errors.is_empty() && report.refused.is_empty());
}

#[test]
fn an_echo_that_never_comes_is_lost() {
    let address = echo_server(|number, message| match number {
        7 => vec![],
        _ => vec![Answer::Send(message)],
    });
    let report = load("ws", address, "/echo");
    // One on each connection.
    assert_eq!(figures(&report), [2, 0, 0, 0]);
    assert_eq!(report.exit_status(), 1);
}

#[test]
fn an_echo_that_comes_twice_is_a_duplicate() {
    let address = echo_server(|number, message| match number {
        7 => vec![Answer::Send(message.clone()), Answer::Send(message)],
        _ => vec![Answer::Send(message)],
    });
    assert_eq!(figures(&load("ws", address, "/echo")), [0, 2, 0, 0]);
}

#[test]
fn echoes_that_change_places_are_reordered() {
    // Both connections are served at once: which one a message came on stands in its first four bytes.
    let mut kept = HashMap::new();
    let address = echo_server(move |number, message| {
        let connection: [u8; 4] = message[..4].try_into().unwrap();
        match (number, kept.remove(&connection)) {
            (6, _) => {
                kept.insert(connection, message);
                vec![]
            }
            (_, Some(before)) => vec![Answer::Send(message), Answer::Send(before)],
            _ => vec![Answer::Send(message)],
        }
    });
    assert_eq!(figures(&load("ws", address, "/echo")), [0, 0, 2, 0]);
}

#[test]
fn a_flipped_bit_is_corruption() {
    let address = echo_server(|number, mut message| {
        if number == 7 {
            message[40] ^= 1;
        }
        vec![Answer::Send(message)]
    });
    let report = load("ws", address, "/echo");
    assert_eq!(figures(&report), [0, 0, 0, 2]);
    assert_eq!(report.exit_status(), 1);
}

#[test]
fn somebody_elses_message_is_corruption() {
    let mut first: Option<Vec<u8>> = None;
    let address = echo_server(move |number, message| {
        let first = first.get_or_insert_with(|| message.clone());
        // Whole, but it belongs to the connection that spoke first.
        vec![Answer::Send(if number == 7 { first.clone() } else { message })]
    });
    let report = load("ws", address, "/echo");
    assert_eq!(report.corrupted + report.duplicated, 2, "{report}");
}

#[test]
fn a_connection_that_is_closed_early_is_counted_with_its_code() {
    let address = echo_server(|number, message| match number {
        7 => vec![Answer::Close(1011)],
        _ => vec![Answer::Send(message)],
    });
    let report = load("ws", address, "/echo");
    assert_eq!(report.errors.get("closed 1011"), Some(&2), "{report}");
    assert_eq!(report.exit_status(), 1, "what was in flight is lost");
}

#[test]
fn a_server_that_stays_silent_loses_everything_within_bounded_time() {
    let report = load("ws", echo_server(|_, _| vec![]), "/echo");
    assert_eq!(figures(&report), [8, 0, 0, 0]);
    assert_eq!(report.latency_ns, None);
}

#[test]
fn a_server_that_accepts_and_says_nothing_is_given_up() {
    let report = load("ws", silent_server(), "/echo");
    assert_eq!(report.connections_open, 0);
    assert_eq!(report.errors.get("upgrading: no answer within 4s"), Some(&2), "{report}");
    assert_eq!(report.exit_status(), 1);
}

#[test]
fn a_refusal_is_a_result_with_its_reason() {
    let head =
        "HTTP/1.1 503 Service Unavailable\r\nSwitchboard-Refused: FD_SETSIZE\r\nContent-Length: 0\r\n\r\n";
    let report = load("ws", web_server(head), "/echo");
    assert_eq!(report.refused.get("503 FD_SETSIZE"), Some(&2), "{report}");
    assert!(report.to_string().starts_with("0 of 2 connected, 2 refused: 503 FD_SETSIZE"), "{report}");

    let report = load("ws", web_server("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"), "/echo");
    assert_eq!(report.refused.get("404 Not Found"), Some(&2), "{report}");
}

#[test]
fn an_answer_that_is_not_http_or_not_ours_is_an_error() {
    let report = load("ws", web_server("+PONG\r\n\r\n"), "/echo");
    assert!(report.errors.keys().any(|kind| kind.contains("not HTTP")), "{report}");
    let head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: bm8=\r\n\r\n";
    let report = load("ws", web_server(head), "/echo");
    assert!(report.errors.keys().any(|kind| kind.contains("wrong Sec-WebSocket-Accept")), "{report}");
}

#[test]
fn nobody_there_is_an_error_with_the_systems_reason() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let report = load("ws", closed, "/echo");
    assert_eq!(report.errors.get("connecting: connection refused"), Some(&2), "{report}");
    assert_eq!(report.exit_status(), 1);
}

#[test]
fn datagrams_are_lost_doubled_and_swapped_without_failing() {
    let report = load(
        "udp",
        udp_server(|number, message| match number {
            5 => vec![],
            9 => vec![message.clone(), message],
            _ => vec![message],
        }),
        "",
    );
    let [lost, duplicated, _, corrupted] = figures(&report);
    assert_eq!([lost, duplicated, corrupted], [1, 1, 0], "{report}");
    assert_eq!(report.exit_status(), 0, "loss is what UDP does");

    let mut kept = None;
    let address = udp_server(move |number, message| match (number, kept.take()) {
        (5, _) => {
            kept = Some(message);
            vec![]
        }
        (_, Some(before)) => vec![message, before],
        _ => vec![message],
    });
    let one = LoadPlan { connections: 1, ..plan("udp", address, "") };
    assert_eq!(figures(&run(&one).unwrap()), [0, 0, 1, 0]);
}

#[test]
fn a_broadcast_reaches_everybody_once() {
    let report = load("ws", broadcast_server(|_, _, message| vec![message]), "/broadcast");
    assert_eq!(figures(&report), [0; 4]);
    assert!(report.published.unwrap() > 0 && report.last_receiver_ns.is_some());
    // Two receivers; what is delivered at the edges of the window may belong to a message outside it.
    assert!(report.messages.abs_diff(2 * report.published.unwrap()) <= 16, "{report}");
}

#[test]
fn a_receiver_that_is_left_out_or_served_twice_is_found() {
    let address = broadcast_server(|receiver, number, message| match (receiver, number) {
        (1, 7) => vec![],
        _ => vec![message],
    });
    assert_eq!(figures(&load("ws", address, "/broadcast")), [1, 0, 0, 0]);

    let address = broadcast_server(|receiver, number, message| match (receiver, number) {
        (1, 7) => vec![message.clone(), message],
        _ => vec![message],
    });
    assert_eq!(figures(&load("ws", address, "/broadcast")), [0, 1, 0, 0]);
}

#[test]
fn a_stall_is_in_the_latency_of_every_message_that_it_kept_back() {
    let stall = Duration::from_millis(200);
    let open_loop = LoadPlan {
        connections: 1,
        duration: Duration::from_millis(600),
        rate_per_s: Some(1000.0),
        patience: Duration::from_secs(5),
        ..plan("ws", stalling_server(50, stall), "/echo")
    };
    let report = run(&open_loop).unwrap();
    assert_eq!(figures(&report), [0; 4]);
    let latency = report.latency_ns.unwrap();
    assert!(latency.max >= 190_000_000, "{report}");
    // Who sends only when the server answers, sees one slow message, if any.
    let uncorrected = report.uncorrected_latency_ns.unwrap();
    assert!(uncorrected.p50 < 50_000_000 && uncorrected.p50 <= latency.p50, "{report}");
    assert_eq!(report.due, Some(600));
    // 200 of 600 messages were due within the stall, and waited for 100 ms on the average. A closed loop would
    // have recorded one of them: then even p90 would know nothing of it.
    assert!(latency.p90 >= 50_000_000, "{report}");
}

#[test]
fn as_many_messages_are_under_way_as_were_asked_for() {
    let broadcast = broadcast_server(|_, _, message| vec![message]);
    let udp = udp_server(|_, message| vec![message]);
    for (scheme, address, path, asked) in
        [("ws", batching_server(4), "/echo", 8), ("udp", udp, "", 8), ("ws", broadcast, "/broadcast", 4)]
    {
        let report = load(scheme, address, path);
        assert_eq!(figures(&report), [0; 4], "{report}");
        assert!(report.messages > 0, "{report}");
        match report.last_receiver_ns {
            // A published message is under way until both receivers have it.
            Some(times) => expect_under_way(&report, asked, times, report.messages / 2),
            None => expect_under_way(&report, asked, report.latency_ns.unwrap(), report.messages),
        }
        assert_eq!(report.slices.iter().sum::<u64>(), report.messages);
    }
}

#[test]
fn a_rate_that_cannot_be_offered_is_said_to_be_so() {
    let flood = LoadPlan { rate_per_s: Some(5e7), ..plan("udp", udp_server(|_, message| vec![message]), "") };
    let report = run(&flood).unwrap();
    assert!(report.sent.unwrap() < report.due.unwrap() / 2, "{report}");
    assert!(report.to_string().contains("the schedule could not be kept"), "{report}");
    assert!(report.lateness_ns.unwrap().max > 1_000_000, "{report}");
}

#[test]
fn the_warm_up_is_as_long_as_told_unless_it_has_a_limit() {
    let address = echo_server(|_, message| vec![Answer::Send(message)]);
    let plain = LoadPlan { warmup: Duration::from_millis(50), ..plan("ws", address, "/echo") };
    let report = run(&plain).unwrap();
    assert_eq!(report.steady_warmup, None);
    assert!(report.warmup_ns >= 50_000_000, "{}", report.warmup_ns);
    let limited = LoadPlan { warmup_limit: Some(Duration::from_secs(2)), ..plain };
    let report = run(&limited).unwrap();
    assert!(report.steady_warmup.is_some() && report.warmup_ns >= 50_000_000, "{}", report.warmup_ns);
}

#[test]
fn a_server_that_dies_ends_the_load() {
    let address = echo_server(|number, message| match number {
        20 => vec![Answer::Close(1011)],
        _ => vec![Answer::Send(message)],
    });
    let patient = LoadPlan { duration: Duration::from_secs(3600), ..plan("ws", address, "/echo") };
    let report = run(&patient).unwrap();
    assert!(report.ended_early, "{report}");
    assert_eq!((report.exit_status(), report.errors.get("closed 1011")), (1, Some(&2)), "{report}");
    assert!(report.to_string().contains("ended early"), "{report}");
}
