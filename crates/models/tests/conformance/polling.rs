//! Short polling and publishing: numbers, history, tags, and what cannot be published.
//!
//! These cases have one connection at a time, since one model has no more.

use crate::client::{Client, Named, eventually};
use crate::events::{Event, events, post};
use crate::http::get;
use crate::server::Server;
use crate::{Case, case};

pub(crate) const CASES: &[Case] = &[
    case!(Poll, numbers_rise_by_one_on_each_topic_whichever_connection_publishes),
    case!(Poll, a_poll_is_answered_with_what_its_client_has_not_had),
    case!(Poll, what_is_not_text_stands_there_as_base64),
    case!(Poll, whoever_has_the_answer_already_is_told_so),
    case!(Poll, what_is_no_longer_held_is_counted).with(|settings| settings.app.history_events = 3),
    case!(Poll, a_question_that_makes_no_sense_is_a_bad_request),
    case!(Poll, the_ticker_publishes_the_time)
        .with(|settings| settings.app.tick = Some(std::time::Duration::from_millis(40))),
];

fn numbers_rise_by_one_on_each_topic_whichever_connection_publishes(server: &mut Server) {
    for round in 0..5 {
        let mut client = Client::connect(server);
        for i in 1..=10 {
            assert_eq!(client.publish("one", format!("{round} {i}")), round * 10 + i);
        }
        assert_eq!(client.publish("other", "x"), round + 1);
        // The one without a name has its own numbers, and it is that of the WebSockets.
        assert_eq!(client.publish_to("", "x"), round + 1);
        assert_eq!(client.ask("/poll?topic=broadcast")["newest"], round + 1);
    }
    let mut client = Client::connect(server);
    let expected = (0..50).map(|i| Event::message(i + 1, format!("{} {}", i / 10, i % 10 + 1)));
    assert_eq!(events(&client.ask("/poll?topic=one&since=0")), expected.collect::<Vec<_>>());
    let tally = {
        drop(client);
        server.stop()
    };
    assert_eq!((tally.connections, tally.messages), (6, 60));
}

fn a_poll_is_answered_with_what_its_client_has_not_had(server: &mut Server) {
    let mut client = Client::connect(server);
    let epoch = client.epoch();
    let nothing = serde_json::json!({"topic": "a b", "newest": 0, "epoch": epoch, "events": []});
    for query in ["topic=a%20b", "topic=a+b&since=0"] {
        assert_eq!(client.ask(&format!("/poll?{query}")), nothing);
    }
    let texts = ["", "two", "drei: \u{20ac}\n\"\\\u{1}", " \u{1d11e} "];
    for text in texts {
        client.publish_to("topic=a+b&event=news", text);
    }
    let newest = serde_json::json!({"topic": "a b", "newest": 4, "epoch": epoch, "events": []});
    assert_eq!(client.ask("/poll?topic=a+b"), newest);
    let all: Vec<Event> =
        (1..).zip(texts).map(|(id, text)| Event { id, event: "news".into(), data: text.into() }).collect();
    for since in 0..=4 {
        let answer = client.ask(&format!("/poll?topic=a+b&since={since}"));
        assert_eq!((&answer["newest"], events(&answer)), (&4.into(), all[since..].to_vec()));
        assert!(answer.get("missed").is_none());
    }
    // A number that is still to come is of another server's: everything is new.
    assert_eq!(events(&client.ask("/poll?topic=a+b&since=5")), all);
    // HEAD asks for the head only.
    client.send(get("/poll?topic=a+b&since=0").replacen("GET", "HEAD", 1));
    assert!(client.response_head().header("Content-Length").unwrap().parse::<usize>().unwrap() > 100);
    client.send(get("/longpoll?topic=a+b").replacen("GET", "HEAD", 1));
    assert_eq!(client.response_head().status, 200);
    // An answer is of one size at most: the rest is for those who ask again.
    let long = "x".repeat(1 << 20);
    (0..6).for_each(|_| assert_ne!(client.publish("long", &long), 0));
    let mut had = 0;
    for expected in [1..=4, 5..=6] {
        let answer = client.ask(&format!("/poll?topic=long&since={had}"));
        let ids = events(&answer).iter().map(|event| event.id).collect::<Vec<_>>();
        assert!(
            ids.iter().all(|id| *id <= 6) && ids[0] == had + 1 && ids.len() < 6,
            "{ids:?}, about {expected:?}"
        );
        had = *ids.last().unwrap();
    }
}

fn what_is_not_text_stands_there_as_base64(server: &mut Server) {
    let mut client = Client::connect(server);
    let binary = "Content-Type: application/octet-stream\r\n";
    for (lines, data) in
        [("", &b"\xff\x00"[..]), (binary, b"text"), ("Content-Type: text/plain\r\n", b"text")]
    {
        client.send(post("topic=t", lines, data));
        assert_eq!(client.response().status, 202);
    }
    let expected = serde_json::json!([
        {"id": 1, "event": "message", "base64": "/wA="},
        {"id": 2, "event": "message", "base64": "dGV4dA=="},
        {"id": 3, "event": "message", "data": "text"},
    ]);
    assert_eq!(client.ask("/poll?topic=t&since=0")["events"], expected);
}

fn whoever_has_the_answer_already_is_told_so(server: &mut Server) {
    let mut client = Client::connect(server);
    client.publish("t", "one");
    let mut poll = |target: &str, tag: Option<&str>| {
        let line = tag.map_or(String::new(), |tag| format!("If-None-Match: {tag}\r\n"));
        client.send(get(target).replace("Host", &format!("{line}Host")));
        let response = client.response();
        assert_eq!(response.header("Cache-Control"), Some("no-cache"));
        (response.status, response.header("ETag").expect("a tag").to_owned(), response.body)
    };
    let (status, tag, _) = poll("/poll?topic=t&since=0", None);
    assert_eq!(status, 200);
    for tags in [&tag[..], &format!("\"other\", W/{tag}"), "*"] {
        assert_eq!(poll("/poll?topic=t&since=0", Some(tags)), (304, tag.clone(), String::new()));
    }
    assert_eq!(poll("/poll?topic=t&since=0", Some("\"other\"")).0, 200);
    // Another question has another answer.
    assert_eq!(poll("/poll?topic=t&since=1", Some(&tag)).0, 200);
    assert_eq!(poll("/poll?topic=t", Some(&tag)).0, 200);
    client.publish("t", "two");
    client.send(get("/poll?topic=t&since=0").replace("Host", &format!("If-None-Match: {tag}\r\nHost")));
    let response = client.response();
    assert_eq!((response.status, events(&response.json()).len()), (200, 2));
    assert_ne!(response.header("ETag"), Some(&tag[..]));
}

fn what_is_no_longer_held_is_counted(server: &mut Server) {
    let mut client = Client::connect(server);
    (1..=5).for_each(|i| assert_eq!(client.publish("t", i.to_string()), i));
    let held: Vec<Event> = (3..=5).map(|i| Event::message(i, i.to_string())).collect();
    for (since, missed) in [("0", 2), ("1", 1), ("77", 2)] {
        let answer = client.ask(&format!("/poll?topic=t&since={since}"));
        assert_eq!((answer["missed"].as_u64(), events(&answer)), (Some(missed), held.clone()));
    }
    assert!(client.ask("/poll?topic=t&since=2").get("missed").is_none());
}

fn a_question_that_makes_no_sense_is_a_bad_request(server: &mut Server) {
    let long = "x".repeat(256);
    let fits = "x".repeat(255);
    let get = |query: &str| get(&format!("/poll?{query}")).into_bytes();
    let publish = |query: &str| post(query, "", b"x");
    let requests = [
        ("the longest name", (200, get(&format!("topic={fits}")))),
        ("a name too long", (400, get(&format!("topic={long}")))),
        ("an empty name", (400, get("topic="))),
        ("two names", (400, get("topic=a&topic=b"))),
        ("no number", (400, get("since=one"))),
        ("a number below all", (400, get("since=-1"))),
        ("an epoch that is none", (400, get("since=1-XYZ"))),
        ("an empty epoch", (400, get("since=1-"))),
        ("a number above all", (400, get("since=18446744073709551616"))),
        ("an empty number", (400, get("since="))),
        ("the longest name of an event", (202, publish(&format!("topic={fits}&event={fits}")))),
        ("a name too long to publish on", (400, publish(&format!("topic={long}")))),
        ("a name of an event too long", (400, publish(&format!("event={long}")))),
        ("a line feed in it", (400, publish("event=a%0Adata:%20b"))),
        ("a carriage return in it", (400, publish("event=a%0Ddata:%20b"))),
        ("no event's name", (202, publish("event="))),
        ("another page", (200, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec())),
    ];
    // None of this ends the connection: each request was understood as far as its end.
    let mut client = Client::connect(server);
    for (name, (status, request)) in requests {
        let _on_failure = Named(name.to_owned());
        client.send(request);
        let response = client.response();
        assert!(response.status == status && !response.says_close(), "{response:?}");
    }
    assert_eq!(client.ask("/poll")["newest"], 1);
    drop(client);
    // These are no requests, and what follows could be anything; a name of a mebibyte is too long for a head.
    let mebibyte = get(&format!("topic={}", "x".repeat(1 << 20)));
    let no_requests =
        [(400, get("topic=%ff")), (400, publish("event=a%00b")), (400, get("topic=%4")), (431, mebibyte)];
    for (status, request) in no_requests {
        let mut client = Client::connect(server);
        client.send(request);
        let response = client.response();
        assert!(response.status == status && response.says_close(), "{response:?}");
    }
}

fn the_ticker_publishes_the_time(server: &mut Server) {
    let now =
        || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as u64;
    let before = now();
    let mut client = Client::connect(server);
    let mut ticks = Vec::new();
    eventually("it has ticked some times", || {
        ticks = events(&client.ask("/poll?topic=tick&since=0"));
        ticks.len() >= 4
    });
    let times: Vec<u64> = ticks.iter().map(|tick| tick.data.parse().expect("milliseconds")).collect();
    assert!(ticks.iter().zip(1..).all(|(tick, id)| tick.id == id), "{ticks:?}");
    // A clock that somebody sets while this runs is not this server's.
    assert!(times.is_sorted() && times[0] + 10_000 > before && times[3] < now() + 10_000, "{times:?}");
}
