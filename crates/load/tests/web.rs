//! Loads over HTTP: polls, events, Socket.IO by polling, against servers that are honest and servers that lie.

#[expect(dead_code, reason = "the other tests need more of them")]
mod servers;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use servers::rooms::room_server;
use servers::web::{Copies, http_server, hub_server, ok, slow_poll_server, socketio_polling_server};
use servers::{broadcast_server, expect_under_way, web_server};
use switchboard_load::{Arrivals, LoadPlan, LoadReport, Mechanism, run};

fn plan(scheme: &str, address: SocketAddr, path: &str) -> LoadPlan {
    LoadPlan {
        url: format!("{scheme}://{address}{path}"),
        connections: 3,
        duration: Duration::from_millis(200),
        warmup: Duration::ZERO,
        depth: 2,
        patience: Duration::from_secs(2),
        ..LoadPlan::default()
    }
}

/// Lost, duplicated, reordered, corrupted.
fn figures(report: &LoadReport) -> [u64; 4] {
    [report.lost, report.duplicated, report.reordered, report.corrupted]
}

const NEWS: &str = r#"{"topic":"t","newest":7,"events":[]}"#;

#[test]
fn requests_are_messages_whoever_answers_them() {
    let page = || http_server(|_, _| Some(ok("text/html", "<h1>It works!</h1>")));
    let news = http_server(|_, _| Some(ok("application/json", NEWS)));
    for (plan, mechanism) in [
        (plan("http", page(), "/index.html"), Mechanism::Get),
        (plan("poll+http", news, "/poll?topic=t"), Mechanism::Poll),
    ] {
        let report = run(&plan).unwrap();
        assert_eq!(figures(&report), [0; 4], "{report}");
        assert_eq!((report.mechanism, report.connections_open, report.exit_status()), (mechanism, 3, 0));
        assert!(report.messages > 0 && report.requests == Some(report.messages), "{report}");
        assert!(report.latency_ns.unwrap().p50 > 0 && report.errors.is_empty(), "{report}");
        expect_under_way(&report, 6, report.latency_ns.unwrap(), report.messages);
        assert!(report.to_string().contains("\nrequests     "), "{report}");
    }
    let open_loop = LoadPlan { rate_per_s: Some(1000.0), ..plan("http", page(), "/") };
    let report = run(&open_loop).unwrap();
    assert_eq!((report.due, figures(&report)), (Some(200), [0; 4]), "{report}");
}

#[test]
fn what_has_not_changed_need_not_be_sent_again() {
    let address = http_server(|_, request| {
        Some(match request.etag.as_deref() {
            Some("\"7\"") => "HTTP/1.1 304 Not Modified\r\nETag: \"7\"\r\n\r\n".to_owned(),
            None => ok("application/json", NEWS).replace("OK\r\n", "OK\r\nETag: \"7\"\r\n"),
            Some(_) => return None,
        })
    });
    let report = run(&LoadPlan { revalidate: true, ..plan("poll+http", address, "/poll?topic=t") }).unwrap();
    assert!(report.messages > 0 && figures(&report) == [0; 4] && report.exit_status() == 0, "{report}");
    // 304 to who has not asked for it is no answer.
    let rude = http_server(|_, _| Some("HTTP/1.1 304 Not Modified\r\n\r\n".to_owned()));
    let report = run(&plan("http", rude, "/")).unwrap();
    assert_eq!(report.refused.get("304 Not Modified"), Some(&3), "{report}");
}

#[test]
fn an_answer_that_is_cut_or_wrong_later_on_is_found() {
    let wrong = http_server(|number, _| {
        Some(match number {
            5 => ok("application/json", "{\"topic\":\"t\"}"),
            _ => ok("application/json", NEWS),
        })
    });
    let report = run(&plan("poll+http", wrong, "/poll?topic=t")).unwrap();
    assert_eq!((figures(&report), report.exit_status()), ([0, 0, 0, 3], 1), "{report}");

    let cut = http_server(|number, _| match number {
        5 => Some(ok("text/plain", "cut").replace("3\r\n", "9\r\n")),
        6 => None,
        _ => Some(ok("text/plain", "whole")),
    });
    let report = run(&LoadPlan { depth: 1, ..plan("http", cut, "/") }).unwrap();
    assert_eq!(report.lost, 3, "{report}");
    assert_eq!(report.exit_status(), 1);

    let failing = http_server(|number, _| match number {
        0..5 => Some(ok("text/plain", "fine")),
        _ => Some("HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n".to_owned()),
    });
    let report = run(&plan("http", failing, "/")).unwrap();
    assert_eq!(report.errors.get("answered with 500 Internal Server Error"), Some(&3), "{report}");

    let closing = http_server(|number, _| (number < 5).then(|| ok("text/plain", "fine")));
    let report = run(&LoadPlan { depth: 1, ..plan("http", closing, "/") }).unwrap();
    assert!(report.reopened >= 3 && figures(&report) == [0; 4] && report.exit_status() == 0, "{report}");

    // A server that is going away: whoever comes again is not served.
    let served = AtomicU64::new(0);
    let leaving = http_server(move |_, _| {
        (served.fetch_add(1, Ordering::SeqCst) < 20).then(|| ok("text/plain", "fine"))
    });
    let report = run(&LoadPlan { depth: 1, ..plan("http", leaving, "/") }).unwrap();
    assert_eq!(report.errors.values().sum::<u64>(), 3, "{report}");
    assert!(report.errors.keys().all(|kind| kind.starts_with("closed by the server after ")), "{report}");
    assert!(report.ended_early && report.lost == 3 && report.exit_status() == 1, "{report}");
}

#[test]
fn what_does_not_speak_the_mechanism_is_told_by_what_came_instead() {
    let html = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>";
    let missing = "HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\nContent-Length: 0\r\n\r\n";
    let upgrade = "HTTP/1.1 426 Upgrade Required\r\nContent-Length: 0\r\n\r\n";
    let other =
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 11\r\n\r\n{\"ok\":true}";
    let full =
        "HTTP/1.1 503 Service Unavailable\r\nSwitchboard-Refused: FD_SETSIZE\r\nContent-Length: 0\r\n\r\n";
    let endless = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
    let polling = "/socket.io/?transport=polling";
    for (scheme, path, answer, kind) in [
        ("http", "/", missing, "404 Not Found"),
        ("http", "/", full, "503 FD_SETSIZE"),
        ("poll+http", "/poll", html, "200 OK (text/html) where application/json was expected"),
        ("poll+http", "/poll", other, "200 OK (application/json) that is no news: missing field `topic`"),
        ("longpoll+http", "/longpoll", html, "200 OK (text/html) where application/json was expected"),
        ("longpoll+http", "/longpoll", missing, "404 Not Found"),
        ("longpoll+http", "/events", endless, "200 OK (text/event-stream) which does not end"),
        ("poll+http", "/events", endless, "200 OK (text/event-stream) which does not end"),
        ("sse+http", "/events", upgrade, "426 Upgrade Required"),
        ("sse+http", "/events", other, "200 OK (application/json) where text/event-stream was expected"),
        ("socketio+http", polling, html, "200 OK (text/html): <html>"),
        ("socketio+http", polling, missing, "404 Not Found: "),
        ("socketio+http", "/socket.io/", missing, "404 Not Found"),
        ("socketio+http", "/socket.io/?topic=t", missing, "404 Not Found"),
        ("socketio+http", "/socket.io/?transport=upgrade", html, "200 OK (text/html): <html>"),
        ("socketio+http", "/socket.io/?topic=t&transport=upgrade", missing, "404 Not Found: "),
    ] {
        let report = run(&plan(scheme, http_server(|_, _| Some(answer.to_owned())), path)).unwrap();
        let kinds: Vec<&String> = report.refused.keys().collect();
        assert!(kinds.len() == 1 && kinds[0].starts_with(kind), "{scheme}: {report}");
        assert_eq!((report.connections_open, report.exit_status()), (0, 1), "{report}");
    }
    let report = run(&plan("sse+http", web_server("+PONG\r\n\r\n"), "/events")).unwrap();
    assert!(report.errors.keys().any(|kind| kind.contains("not HTTP")), "{report}");
}

const LISTENING: [(&str, &str); 6] = [
    ("sse+http", "/events?topic=t"),
    ("longpoll+http", "/longpoll?topic=t"),
    ("poll+http", "/poll?topic=t"),
    ("socketio+http", "/socket.io/?topic=t"),
    ("socketio+http", "/socket.io/?topic=t&transport=polling"),
    ("socketio+http", "/socket.io/?topic=t&transport=upgrade"),
];

/// One of those who listen, to a server that sends what `copies` makes of each event.
fn listen(scheme: &str, path: &str, copies: impl Copies) -> LoadPlan {
    let address = match scheme {
        "socketio+http" => room_server(r#""websocket""#, "430[]", copies),
        _ => hub_server(true, copies),
    };
    let every = (scheme == "poll+http").then_some(Duration::from_millis(5));
    LoadPlan { every, ..plan(scheme, address, path) }
}

/// With a server that loses nothing: what is late because the machine is busy comes all the same.
fn patient(plan: LoadPlan) -> LoadPlan {
    LoadPlan { patience: Duration::from_secs(10), ..plan }
}

#[test]
fn what_is_published_reaches_all_who_listen_once() {
    for (scheme, path) in LISTENING {
        for threads in [1, 2] {
            let honest = patient(listen(scheme, path, |_, _, data| vec![data]));
            let report = run(&LoadPlan { threads, ..honest }).unwrap();
            assert_eq!((figures(&report), report.exit_status()), ([0; 4], 0), "{scheme}: {report}");
            assert!(report.published.unwrap() > 0 && report.messages > 0, "{scheme}: {report}");
            assert!(report.connections_open == 3 && report.errors.is_empty(), "{report}");
            assert!(report.last_receiver_ns.is_some() && report.fairness.is_some(), "{report}");
            let asks = matches!(scheme, "longpoll+http" | "poll+http") || path.ends_with("polling");
            assert_eq!(report.requests.is_some(), asks, "{path}");
        }
        let open_loop = LoadPlan {
            rate_per_s: Some(500.0),
            payload_bytes: 1000,
            ..patient(listen(scheme, path, |_, _, data| vec![data]))
        };
        let report = run(&open_loop).unwrap();
        assert_eq!((report.due, figures(&report)), (Some(100), [0; 4]), "{scheme}: {report}");
    }
}

#[test]
fn an_empty_long_poll_is_asked_again_and_counted() {
    let address = hub_server(false, |_, _, data| vec![data]);
    let seldom = LoadPlan { rate_per_s: Some(50.0), ..plan("longpoll+http", address, "/longpoll?topic=t") };
    let report = run(&seldom).unwrap();
    assert_eq!((figures(&report), report.published), ([0; 4], Some(10)), "{report}");
    assert!(report.empty_answers.unwrap() > 0 && report.requests > report.empty_answers, "{report}");
    assert!(report.to_string().contains("of them for nothing"), "{report}");
}

#[test]
fn an_event_that_is_lost_doubled_swapped_or_changed_is_found() {
    for (scheme, path) in LISTENING {
        let load = |copies: fn(usize, u64, String) -> Vec<String>| {
            let report = run(&listen(scheme, path, copies)).unwrap();
            assert_eq!(report.exit_status(), 1, "{path}: {report}");
            figures(&report)
        };
        let lost = load(|receiver, number, data| match (receiver, number) {
            (1, 6) => vec![],
            _ => vec![data],
        });
        assert_eq!(lost, [1, 0, 0, 0], "{scheme}");
        let doubled = load(|receiver, number, data| match (receiver, number) {
            (1, 6) => vec![data.clone(), data],
            _ => vec![data],
        });
        assert_eq!(doubled, [0, 1, 0, 0], "{scheme}");
        let changed = load(|receiver, number, data| match (receiver, number) {
            (1, 6) => vec![data.replacen(&data[20..21], if &data[20..21] == "A" { "B" } else { "A" }, 1)],
            _ => vec![data],
        });
        assert_eq!(changed, [0, 0, 0, 1], "{scheme}");
        let strange = run(&listen(scheme, path, |receiver, number, data| match (receiver, number) {
            (1, 6) => vec!["hello".to_owned(), data],
            _ => vec![data],
        }));
        let strange = strange.unwrap();
        assert_eq!((figures(&strange), strange.unasked), ([0; 4], 1), "{scheme}: {strange}");
        assert_eq!(strange.exit_status(), 0, "{scheme}: {strange}");
    }
}

#[test]
fn events_that_change_places_are_reordered() {
    for (scheme, path) in LISTENING {
        let kept = Mutex::new(None);
        let swapping = listen(scheme, path, move |receiver, number, data| match (receiver, number) {
            (1, 6) => {
                *kept.lock().unwrap() = Some(data);
                vec![]
            }
            (1, 7) => std::iter::once(data).chain(kept.lock().unwrap().take()).collect(),
            _ => vec![data],
        });
        assert_eq!(figures(&run(&swapping).unwrap()), [0, 0, 1, 0], "{path}");
    }
}

#[test]
fn a_websocket_may_publish_for_those_who_listen_to_something_else() {
    // Nobody hears what goes over this WebSocket but the one who publishes, so it is lost; but it was published, as text.
    let heard = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&heard);
    let websocket = broadcast_server(move |_, _, message| {
        seen.lock().unwrap().push(String::from_utf8(message.clone()).unwrap());
        vec![message]
    });
    let address = hub_server(true, |_, _, data| vec![data]);
    let plan = LoadPlan {
        publish: Some(format!("ws://{websocket}/broadcast?topic=t")),
        depth: 1,
        ..plan("sse+http", address, "/events?topic=t")
    };
    let report = run(&plan).unwrap();
    assert_eq!((report.connections_open, figures(&report)), (3, [3, 0, 0, 0]), "{report}");
    assert_eq!(heard.lock().unwrap().iter().map(String::len).collect::<Vec<_>>(), [64]);
}

#[test]
fn without_a_publisher_there_is_nothing_to_measure() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (publish, kind) in [
        (format!("http://{closed}/publish"), "publishing: connection refused"),
        (format!("http://{}/publish", web_server("")), ""),
    ] {
        let address = hub_server(true, |_, _, data| vec![data]);
        let plan = LoadPlan { publish: Some(publish), ..plan("sse+http", address, "/events?topic=t") };
        let report = run(&plan).unwrap();
        assert_eq!(report.exit_status(), 1, "{report}");
        assert!(kind.is_empty() || report.errors.contains_key(kind) && report.ended_early, "{report}");
    }
    let address = hub_server(true, |_, _, data| vec![data]);
    let lost = format!("http://{address}/nowhere?topic=t");
    let patient = LoadPlan {
        duration: Duration::from_secs(3600),
        publish: Some(lost),
        ..plan("sse+http", address, "/events?topic=t")
    };
    let report = run(&patient).unwrap();
    assert_eq!(report.refused.get("publishing: 404 Not Found"), Some(&1), "{report}");
    assert!(report.ended_early && report.exit_status() == 1, "{report}");
}

#[test]
fn socketio_by_polling_returns_what_it_is_sent() {
    let path = "/socket.io/?transport=polling";
    let address = socketio_polling_server(|_, attachment| vec![attachment]);
    let report = run(&plan("socketio+http", address, path)).unwrap();
    assert_eq!((figures(&report), report.exit_status()), ([0; 4], 0), "{report}");
    assert_eq!((report.mechanism, report.connections_open), (Mechanism::SocketioPolling, 3));
    assert!(report.messages > 0 && report.requests.unwrap() > 0, "{report}");

    let address = socketio_polling_server(|number, attachment| match number {
        5 => vec![],
        7 => vec![attachment.clone(), attachment],
        9 => vec![attachment.replacen(
            &attachment[20..21],
            if &attachment[20..21] == "A" { "B" } else { "A" },
            1,
        )],
        _ => vec![attachment],
    });
    let report = run(&plan("socketio+http", address, path)).unwrap();
    assert_eq!((figures(&report), report.exit_status()), ([3, 3, 0, 3], 1), "{report}");
}

#[test]
fn a_room_is_joined_or_the_server_says_why_not() {
    for path in ["/socket.io/?topic=t", "/socket.io/?topic=t&transport=polling"] {
        let refusing = room_server("", r#"430[{"error":"no such room"}]"#, |_, _, data| vec![data]);
        let report = run(&plan("socketio+http", refusing, path)).unwrap();
        let kinds: Vec<&String> = report.refused.keys().collect();
        assert!(kinds.len() == 1 && kinds[0].contains("no such room"), "{report}");
        assert_eq!((report.connections_open, report.exit_status()), (0, 1), "{report}");
        // Somebody who does not know what `join` is says nothing.
        let deaf = room_server("", "2", |_, _, data| vec![data]);
        let report = run(&plan("socketio+http", deaf, path)).unwrap();
        assert_eq!(report.errors.get("upgrading: no answer within 4s"), Some(&3), "{report}");
    }
    let poller = room_server("", "430[]", |_, _, data| vec![data]);
    let report = run(&plan("socketio+http", poller, "/socket.io/?topic=t&transport=upgrade")).unwrap();
    let kinds: Vec<&String> = report.refused.keys().collect();
    assert!(kinds.iter().all(|kind| kind.contains("offers no upgrade to websocket")), "{report}");
    assert_eq!((report.connections_open, report.exit_status()), (0, 1), "{report}");
}

#[test]
fn the_same_seed_publishes_at_the_same_times_whatever_is_loaded() {
    let due_times = |scheme: &str, path: &str, seed: u64| -> Vec<u64> {
        let seen: Arc<Mutex<Vec<(u64, u64)>>> = Arc::default();
        let heard = Arc::clone(&seen);
        let plan = LoadPlan {
            rate_per_s: Some(500.0),
            arrivals: Arrivals::Random { seed },
            // Behind the text there are no dots: 24 bytes of stamp and 24 of filler.
            payload_bytes: 64,
            ..patient(listen(scheme, path, move |receiver, number, data| {
                let stamp = URL_SAFE_NO_PAD.decode(&data[..64]).unwrap();
                let word = |from: usize| u64::from_le_bytes(stamp[from..from + 8].try_into().unwrap());
                // Both are mixed with the run's mark, and the sequence number is known.
                let due = word(16) ^ word(8) ^ number;
                if receiver == 0 {
                    heard.lock().unwrap().push((number, due));
                }
                vec![data]
            }))
        };
        let report = run(&plan).unwrap();
        assert_eq!((figures(&report), report.exit_status()), ([0; 4], 0), "{report}");
        let mut seen = seen.lock().unwrap().clone();
        seen.sort_unstable();
        seen.windows(2).take(40).map(|pair| pair[1].1 - pair[0].1).collect()
    };
    let expected = due_times("sse+http", "/events?topic=t", 5);
    assert_eq!(expected.len(), 40);
    assert!(expected.iter().max() > expected.iter().min(), "{expected:?}");
    for (scheme, path) in LISTENING {
        assert_eq!(due_times(scheme, path, 5), expected, "{path}");
    }
    assert_ne!(due_times("sse+http", "/events?topic=t", 6), expected);
}

#[test]
fn requests_and_bytes_are_counted_as_they_go_over_the_connections() {
    let loads = |scheme: &str, path: &str| {
        let honest = patient(listen(scheme, path, |_, _, data| vec![data]));
        let open_loop = LoadPlan { rate_per_s: Some(100.0), ..honest };
        let report = run(&open_loop).unwrap();
        assert_eq!((figures(&report), report.due), ([0; 4], Some(20)), "{report}");
        // A publisher that is kept from running sends the last of them when the window has closed.
        assert!((1..=20).contains(&report.published.unwrap()), "{report}");
        report
    };
    let report = loads("sse+http", "/events?topic=t");
    let (heard, published) = (report.subscribers.unwrap(), report.publisher.unwrap());
    // An event in a chunk, and its number has one or two digits.
    let event = |digits: usize| "65\r\n: next\n\nid: \nevent: message\ndata: \n\n\r\n".len() + 64 + digits;
    let received = heard.bytes_received;
    let deliveries = report.messages as usize;
    assert!((deliveries * event(1)..=deliveries * event(2)).contains(&(received as usize)), "{report}");
    assert_eq!((heard.requests, heard.empty_answers, heard.bytes_sent), (0, 0, 0), "{report}");
    let host = report.url.split("://").nth(1).unwrap().split('/').next().unwrap();
    let post = format!(
        "POST /publish?topic=t&event=message HTTP/1.1\r\nHost: {host}\r\nContent-Type: text/plain;charset=UTF-8\r\nContent-Length: 64\r\n\r\n"
    );
    assert_eq!(published.bytes_sent, report.published.unwrap() * (post.len() as u64 + 64), "{report}");
    assert_eq!(report.bytes_sent, published.bytes_sent + heard.bytes_sent);
    assert_eq!(report.bytes_received, published.bytes_received + heard.bytes_received);

    let report = loads("poll+http", "/poll?topic=t");
    let heard = report.subscribers.unwrap();
    let (due, skipped) = (report.polls_due.unwrap(), report.polls_skipped.unwrap());
    // Three connections every 5 ms for 200 ms; those at the edges may be answered on the other side of them.
    assert!((due - skipped).abs_diff(heard.requests) <= 6, "{due} due, {skipped} skipped: {report}");
    assert!(due <= 121 && heard.empty_answers > 0 && heard.empty_answers < heard.requests, "{report}");
    let get = |digits: usize| {
        format!("GET /poll?topic=t&since= HTTP/1.1\r\nHost: {host}\r\n\r\n").len() as u64 + digits as u64
    };
    assert!(heard.bytes_sent >= (due - skipped).saturating_sub(6) * get(1), "{report}");
    assert!(heard.bytes_sent <= (due - skipped + 6) * get(2), "{report}");
    let per = report.per_delivery.unwrap();
    assert_eq!(per.requests, heard.requests as f64 / report.messages as f64);
    let text = report.to_string();
    assert!(text.contains("\na delivery   ") && text.contains("of them for nothing"), "{text}");
}

#[test]
fn who_polls_by_the_clock_never_asks_twice_at_once() {
    let early = Arc::new(AtomicU64::new(0));
    let address = slow_poll_server(Duration::from_millis(40), Arc::clone(&early));
    let plan = LoadPlan {
        every: Some(Duration::from_millis(10)),
        rate_per_s: Some(20.0),
        patience: Duration::from_millis(50),
        ..plan("poll+http", address, "/poll?topic=t")
    };
    let report = run(&plan).unwrap();
    assert_eq!(early.load(Ordering::SeqCst), 0);
    let (due, skipped) = (report.polls_due.unwrap(), report.polls_skipped.unwrap());
    // Of four that are due one can be made.
    assert!(skipped > due / 2 && skipped < due, "{skipped} of {due}: {report}");
    assert!(report.to_string().contains("were left out"), "{report}");
    assert_eq!(report.messages, 0, "nothing new was ever told: {report}");
    assert!(report.lost > 0 && report.exit_status() == 1, "{report}");
}
