//! Servers that die and come back, or do not, and a load generator that must say what that cost.

#[expect(dead_code, reason = "the other tests need more of them")]
mod servers;

use std::net::SocketAddr;
use std::time::Duration;

use servers::mortal::{BEFORE_ANYBODY, Fate, Last, forgetful_udp_server, mortal_server};
use switchboard_load::{LoadPlan, LoadReport, Reconnect, run};

/// Honest, but mortal.
const HONEST: Fate = Fate {
    dies_with: 20,
    last: Last::Deliver,
    away: Some(Duration::from_millis(50)),
    replays: 1,
    is_backwards: false,
};

/// Those who hear, and can go on where they were.
const RESUMING: [(&str, &str); 4] = [
    ("sse+http", "/events?topic=t"),
    ("longpoll+http", "/longpoll?topic=t"),
    ("poll+http", "/poll?topic=t"),
    ("ws", "/broadcast?topic=t&format=json"),
];

fn plan(scheme: &str, address: SocketAddr, path: &str) -> LoadPlan {
    LoadPlan {
        url: format!("{scheme}://{address}{path}"),
        connections: 1,
        duration: Duration::from_millis(1200),
        warmup: Duration::ZERO,
        rate_per_s: Some(200.0),
        reconnect: Some(Duration::from_millis(20)),
        every: (scheme == "poll+http").then_some(Duration::from_millis(20)),
        patience: Duration::from_secs(5),
        ..LoadPlan::default()
    }
}

/// Lost, duplicated, reordered, corrupted.
fn figures(report: &LoadReport) -> [u64; 4] {
    [report.lost, report.duplicated, report.reordered, report.corrupted]
}

fn again(report: &LoadReport) -> &Reconnect {
    report.reconnect.as_ref().unwrap()
}

#[test]
fn who_knows_where_it_was_hears_what_it_has_missed() {
    for (scheme, path) in RESUMING {
        let (address, seen) = mortal_server(HONEST);
        let report = run(&plan(scheme, address, path)).unwrap();
        let (again, seen) = (again(&report), seen.lock().unwrap());
        assert_eq!((figures(&report)[1..].iter().sum::<u64>(), report.exit_status()), (0, 0), "{report}");
        // What a poll had not been answered with dies with the server, and is lost; others were told all at once.
        assert!(report.lost == 0 || scheme.contains("poll") && report.lost <= 20, "{scheme}: {report}");
        assert_eq!(again.disconnected.values().sum::<u64>(), 1, "{scheme}: {report}");
        assert!(again.attempts >= 2 && again.still_blind == 0 && again.blind_ns.is_some(), "{report}");
        let turned_away = again.failed.keys().any(|kind| kind.contains("503"));
        assert!(turned_away && again.unpublished > 0, "{scheme}: {report}");
        // Those were published before the attempt began that was not turned away.
        assert!(again.replayed >= BEFORE_ANYBODY as u64, "{scheme}: {report}");
        assert!(again.replayed_age_ns.unwrap().min > 0, "{report}");
        let [Some(cursor)] = &seen.cursors[..] else { panic!("{scheme}: {:?}", seen.cursors) };
        let (id, epoch) = cursor.split_once('-').unwrap_or((cursor, ""));
        assert!(id.parse::<u64>().unwrap() <= 20, "{scheme}: {cursor}");
        assert_eq!(epoch, if scheme == "sse+http" { "" } else { "abc" }, "{scheme}: {cursor}");
        let text = report.to_string();
        assert!(text.contains("\nblind        p50 ") && text.contains("\nreplayed     "), "{text}");
        assert!(report.errors.is_empty() && report.refused.is_empty() && !report.ended_early, "{report}");
    }
}

#[test]
fn a_plain_websocket_has_lost_what_was_published_before_it_was_back() {
    for threads in [1, 2] {
        let (address, seen) = mortal_server(HONEST);
        let plan = LoadPlan { connections: 3, threads, ..plan("ws", address, "/broadcast?topic=t") };
        let report = run(&plan).unwrap();
        let missed = seen.lock().unwrap().missed as u64;
        assert!(missed >= 3 * BEFORE_ANYBODY as u64, "{missed}");
        assert_eq!((figures(&report), report.exit_status()), ([missed, 0, 0, 0], 0), "{report}");
        assert_eq!(again(&report).disconnected.values().sum::<u64>(), 3, "{report}");
        assert_eq!((again(&report).replayed, again(&report).still_blind), (0, 0), "{report}");
    }
}

#[test]
fn what_is_replayed_twice_or_backwards_is_found() {
    for (scheme, path) in RESUMING {
        let (address, seen) = mortal_server(Fate { replays: 2, ..HONEST });
        let report = run(&plan(scheme, address, path)).unwrap();
        let missed = seen.lock().unwrap().missed as u64;
        assert_eq!((report.duplicated, report.exit_status()), (missed, 1), "{scheme}: {report}");

        let (address, _) = mortal_server(Fate { is_backwards: true, ..HONEST });
        let report = run(&plan(scheme, address, path)).unwrap();
        assert!(report.reordered >= BEFORE_ANYBODY as u64 - 1, "{scheme}: {report}");
        assert_eq!((report.duplicated, report.exit_status()), (0, 1), "{scheme}: {report}");
    }
}

#[test]
fn what_the_server_never_confirmed_is_lost_by_nobody() {
    for (last, unknown) in [(Last::Swallow, 1), (Last::DeliverOnly, 0)] {
        let (address, _) = mortal_server(Fate { last, ..HONEST });
        let report = run(&plan("sse+http", address, "/events?topic=t")).unwrap();
        // What was sent right behind it, before the end was noticed, is as unknown.
        assert!(again(&report).unknown >= unknown && figures(&report) == [0; 4], "{last:?}: {report}");
        assert_eq!(report.exit_status(), 0, "{last:?}: {report}");
    }
}

#[test]
fn a_server_that_does_not_come_back_leaves_everybody_blind() {
    for (scheme, path) in RESUMING {
        let (address, _) = mortal_server(Fate { away: None, ..HONEST });
        let short = Duration::from_millis(400);
        let plan =
            LoadPlan { connections: 3, duration: short, patience: short, ..plan(scheme, address, path) };
        let report = run(&plan).unwrap();
        assert_eq!((again(&report).still_blind, report.exit_status()), (3, 1), "{scheme}: {report}");
        assert!(again(&report).unpublished > 0 && !report.ended_early, "{scheme}: {report}");
        assert!(again(&report).failed.contains_key("connection refused"), "{scheme}: {report}");
        assert!(report.to_string().contains("; 3 did not come back"), "{scheme}: {report}");
    }
}

#[test]
fn who_hears_datagrams_hears_again_when_it_has_announced_itself() {
    let address = forgetful_udp_server(40, Duration::from_millis(100));
    let plan = LoadPlan {
        connections: 3,
        datagram_timeout: Duration::from_millis(100),
        ..plan("udp", address, "/broadcast")
    };
    let report = run(&plan).unwrap();
    assert_eq!((report.corrupted, report.exit_status()), (0, 0), "{report}");
    assert_eq!((again(&report).still_blind, again(&report).disconnected.len()), (0, 0), "{report}");
    // Nobody can tell what a server had that is gone: what nobody has heard may never have arrived.
    // On a machine that is busy enough the publisher itself may have been away at that time.
    let unsent = report.due.unwrap() - report.sent.unwrap();
    assert!(again(&report).unknown + unsent > 0 && again(&report).replayed == 0, "{report}");
    let blind = again(&report).blind_ns.unwrap();
    assert!(blind.min >= 95_000_000, "the server was away for 100 ms; {report}");
}

#[test]
fn who_never_was_there_does_not_come_again() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let report = run(&plan("sse+http", closed, "/events?topic=t")).unwrap();
    assert!(report.errors.contains_key("connecting: connection refused"), "{report}");
    assert_eq!((report.connections_open, report.exit_status()), (0, 1), "{report}");
}
