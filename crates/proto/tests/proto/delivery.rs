//! Polls, event streams and the ticker: what each gets, and when.

use std::time::Duration;

use switchboard_proto::{App, Exchange, Kind, Request, TopicName};

use super::frames::{BINARY, CLOSE, TEXT, masked};
use super::pair::{TICK, Wire, secs, upgrade};

fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n")
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").expect("an answer").1
}

/// A stream whose head is taken.
fn stream(app: App) -> Wire {
    let mut wire = Wire::new(app);
    let head = wire.ask(get("/events?topic=t"));
    assert!(head.ends_with("\r\n\r\nretry: 1000\n\nid: 0\n\n"), "{head}");
    wire
}

#[test]
fn a_long_poll_is_answered_with_204_at_its_time_and_not_before() {
    let hour = secs(3600);
    for (query, timeout) in [("", secs(25)), ("&timeout=0.5", secs(1) / 2), ("&timeout=1e9", hour)] {
        let mut wire = Wire::new(App { keep_alive: secs(7), ..App::default() });
        for _ in 0..2 {
            wire.send(get(&format!("/longpoll?topic=t{query}")).as_bytes());
            wire.wait(timeout - TICK);
            assert_eq!(wire.take_text(), "");
            wire.wait(TICK);
            assert!(wire.take_text().starts_with("HTTP/1.1 204 No Content\r\n"));
            assert!(!wire.subscribed);
        }
        // From here on it is a connection that has not asked.
        wire.wait(secs(7) - TICK);
        assert!(!wire.is_closed());
        wire.wait(TICK);
        assert!(wire.is_closed());
    }
}

#[test]
fn a_long_poll_is_answered_once_and_by_what_comes_after_its_question() {
    let mut wire = Wire::new(App::default());
    for i in 1..4 {
        wire.publish("t", None, Kind::Text, b"nobody waits");
        wire.send(get("/longpoll?topic=t").as_bytes());
        wire.wait(secs(24));
        wire.publish("other", None, Kind::Text, b"for others");
        assert_eq!(wire.take_text(), "");
        wire.publish("t", Some("e"), Kind::Text, b"at last");
        let id = 2 * i;
        let expected = format!(
            "{{\"topic\":\"t\",\"newest\":{id},\"events\":[{{\"id\":{id},\"event\":\"e\",\"data\":\"at last\"}}]}}"
        );
        assert_eq!(body(&wire.take_text()), expected);
        // Its time is not up any more.
        wire.wait(secs(2));
        assert_eq!(wire.take_text(), "");
    }
}

#[test]
fn a_stream_carries_a_comment_so_often() {
    let mut wire = stream(App { sse_heartbeat: secs(15), ..App::default() });
    for _ in 0..3 {
        wire.wait(secs(15) - TICK);
        assert_eq!(wire.take_text(), "");
        wire.wait(TICK);
        let comment = wire.take_text();
        assert!(comment.starts_with(':') && comment.ends_with("\n\n"), "{comment:?}");
    }
    assert!(!wire.is_closed());
}

#[test]
fn a_stream_from_which_nothing_is_taken_is_given_up() {
    let mut wire = stream(App { sse_heartbeat: secs(15), ..App::default() });
    wire.wait(secs(15));
    // The comment is in the kernel's hands or not: that is not known before the next look.
    wire.wait(secs(15));
    assert!(!wire.is_closed());
    wire.wait(secs(15));
    assert!(wire.is_closed() && !wire.subscribed);
    // Whoever takes a little each time stays, and gets no comment on top.
    let mut wire = stream(App { sse_heartbeat: secs(15), ..App::default() });
    wire.publish("t", None, Kind::Text, &[b'x'; 10_000]);
    let mut taken = Vec::new();
    for _ in 0..20 {
        wire.wait(secs(15));
        taken.extend(wire.take_some(100));
    }
    assert_eq!(taken.len(), 2000);
    taken.extend(wire.take());
    assert!(String::from_utf8(taken).unwrap().ends_with("x\n\n"));
}

#[test]
fn a_subscriber_that_does_not_read_is_dropped_at_the_limit_and_counted() {
    let app = App { max_unsent_bytes: 10_000, ..App::default() };
    let mut wire = stream(app.clone());
    for i in 0..5 {
        assert!(!wire.is_closed(), "{i}");
        wire.publish("t", None, Kind::Text, &[b'x'; 2480]);
    }
    assert!(wire.is_closed() && !wire.subscribed);
    assert!(wire.session.counts().is_dropped);
    // One that is longer than the limit by itself is for everyone who keeps up.
    let mut wire = stream(app.clone());
    wire.publish("t", None, Kind::Text, &[b'x'; 20_000]);
    assert!(wire.take_text().len() > 20_000 && !wire.is_closed());
    // And an answer to a poll is never too long to be given.
    let mut wire = Wire::new(app);
    (0..3).for_each(|_| wire.publish("t", None, Kind::Text, &[b'x'; 20_000]));
    assert!(wire.ask(get("/poll?topic=t&since=1")).contains("\"newest\":3,\"events\":[{\"id\":2,"));
}

#[test]
fn a_message_that_cannot_be_published_ends_its_websocket() {
    let mut wire = Wire::new(App { max_topics: 1, ..App::default() });
    wire.publish("t", None, Kind::Text, b"x");
    wire.ask_elsewhere(Request::Subscribe {
        topic: TopicName::new("t").unwrap(),
        since: None,
        is_portion: false,
    });
    assert!(wire.ask(upgrade("/broadcast?topic=one%20too%20many")).starts_with("HTTP/1.1 101 "));
    wire.send(&[masked(TEXT, "a"), masked(BINARY, "b")].concat());
    let frames = wire.take_frames();
    let [(CLOSE, close)] = &frames[..] else { panic!("{frames:?}") };
    assert_eq!(close[..2], 1013_u16.to_be_bytes());
    assert!(String::from_utf8_lossy(close).contains("--max-topics"));
    wire.assert_drains();
}

#[test]
fn the_ticker_publishes_at_its_times_and_makes_up_for_none() {
    let app = App { tick: Some(secs(1)), keep_alive: secs(100), ..App::default() };
    let mut wire = Wire::new(App { started: None, ..app });
    let start = wire.now;
    let times = |wire: &mut Wire| {
        let answer = wire.ask(get("/poll?topic=tick&since=0"));
        answer.matches("\"id\"").count()
    };
    wire.wait(secs(1) - TICK);
    assert_eq!(times(&mut wire), 0);
    wire.wait(TICK);
    assert_eq!(times(&mut wire), 1);
    wire.wait(secs(4));
    assert_eq!(times(&mut wire), 5);
    // Woken a little late it keeps its beat.
    wire.now += secs(1) + Duration::from_millis(300);
    wire.tick();
    assert_eq!((times(&mut wire), wire.exchange.poll_timeout()), (6, Some(start + secs(7))));
    // After a long sleep there is one event, and the next a whole period later.
    wire.now = start + secs(60) + Duration::from_millis(1);
    wire.tick();
    assert_eq!(times(&mut wire), 7);
    assert_eq!(wire.exchange.poll_timeout(), Some(wire.now + secs(1)));
    // Woken too early it does nothing.
    wire.tick();
    assert_eq!(times(&mut wire), 7);
}

#[test]
fn a_tick_says_what_time_it_is() {
    let mut wire = Wire::new(App::default());
    let time = Duration::from_millis(1_700_000_000_123);
    let app = App { tick: Some(secs(2)), started: Some((wire.now, time)), ..App::default() };
    wire.exchange = Exchange::new(&app.into(), wire.now);
    wire.wait(secs(2));
    assert!(wire.ask(get("/poll?topic=tick&since=0")).contains("\"data\":\"1700000002123\""));
    // Nothing else is due when there is no ticker.
    assert_eq!(Exchange::new(&App::default().into(), wire.now).poll_timeout(), None);
    let never = App { tick: Some(Duration::MAX), ..App::default() };
    assert_eq!(Exchange::new(&never.into(), wire.now).poll_timeout(), None);
}

#[test]
fn what_is_replayed_comes_before_what_follows() {
    for (upgrade_or_stream, is_websocket) in
        [(get("/events?topic=t&since=1").into_bytes(), false), (upgrade("/broadcast?topic=t&since=1"), true)]
    {
        let mut wire = Wire::new(App { history_events: 2, ..App::default() });
        (1..=4).for_each(|i| wire.publish("t", None, Kind::Text, format!("[{i}]").as_bytes()));
        wire.send(&upgrade_or_stream);
        wire.publish("t", None, Kind::Text, b"[5]");
        let output = String::from_utf8_lossy(&wire.take()).into_owned();
        let found: Vec<&str> = output.split('[').skip(1).map(|rest| &rest[..1]).collect();
        assert_eq!(found, ["3", "4", "5"]);
        // A WebSocket has no words for what is missing; it did not say which numbers its messages have either.
        assert_eq!(output.contains("event: gap\ndata: {\"missed\":1}"), !is_websocket, "{output}");
    }
}

#[test]
fn what_is_replayed_may_be_more_than_may_wait() {
    for (request, is_websocket) in
        [(get("/events?topic=t&since=0").into_bytes(), false), (upgrade("/broadcast?topic=t&since=0"), true)]
    {
        let mut wire = Wire::new(App { max_unsent_bytes: 10_000, ..App::default() });
        (0..20).for_each(|_| wire.publish("t", None, Kind::Text, &[b'x'; 2000]));
        wire.send(&request);
        let replayed = wire.session.output().len();
        assert!((40_000..60_000).contains(&replayed), "{replayed}");
        // What follows may wait behind it, as much as ever, whether some of it has been taken or not.
        for _ in 0..4 {
            wire.publish("t", None, Kind::Text, &[b'x'; 2000]);
            wire.take_some(1000);
        }
        assert!(!wire.session.counts().is_dropped);
        wire.publish("t", None, Kind::Text, &[b'x'; 2000]);
        assert!(wire.session.counts().is_dropped, "{is_websocket}");
    }
}

#[test]
fn what_is_replayed_leaves_the_history_in_portions_and_what_follows_comes_behind_it() {
    for request in [get("/events?topic=t&since=0").into_bytes(), upgrade("/broadcast?topic=t&since=0")] {
        let mut wire = Wire::new(App { max_unsent_bytes: 10_000, ..App::default() });
        let mut published = 0;
        let mut publish = |wire: &mut Wire| {
            published += 1;
            let data = format!("[{published}]{}", "x".repeat(10_000));
            wire.publish("t", None, Kind::Text, data.as_bytes());
        };
        (0..500).for_each(|_| publish(&mut wire));
        wire.send(&request);
        let mut output = Vec::new();
        // It reads a little at a time, and others go on publishing.
        for _ in 0..200 {
            publish(&mut wire);
            assert!(wire.session.output().len() < 200_000, "{}", wire.session.output().len());
            output.extend(wire.take_some(5000));
        }
        output.extend(wire.take());
        publish(&mut wire);
        output.extend(wire.take());
        let output = String::from_utf8_lossy(&output).into_owned();
        let found = output.split('[').skip(1).map(|rest| rest.split(']').next().unwrap().parse().unwrap());
        assert_eq!(found.collect::<Vec<u32>>(), (1..=701).collect::<Vec<_>>());
        assert!(!wire.session.counts().is_dropped && !output.contains("event: gap"));
    }
}

#[test]
fn a_replay_that_is_not_read_ends_when_the_history_has_gone_past_it() {
    for request in [get("/events?topic=t&since=0").into_bytes(), upgrade("/broadcast?topic=t&since=0")] {
        let mut wire = Wire::new(App { history_events: 100, ..App::default() });
        (0..100).for_each(|_| wire.publish("t", None, Kind::Text, &[b'x'; 10_000]));
        wire.send(&request);
        (0..100).for_each(|_| wire.publish("t", None, Kind::Text, &[b'x'; 10_000]));
        assert!(wire.session.output().len() < 200_000 && !wire.session.counts().is_dropped);
        wire.take();
        assert!(wire.session.counts().is_dropped && !wire.subscribed);
    }
}

#[test]
fn a_server_without_the_means_refuses_what_it_was_asked_and_not_what_it_has_answered() {
    let mut wire = Wire::new(App::default());
    wire.session.receive(&mut (get("/nothing") + &get("/longpoll")).into_bytes(), wire.now);
    wire.session.refuse("threads", "no thread", wire.now);
    let answers = wire.take_text();
    let (first, second) = answers.split_once("HTTP/1.1 503 ").expect("it is refused");
    assert!(first.starts_with("HTTP/1.1 404 ") && second.contains("Switchboard-Refused: threads"));
    assert!(wire.session.counts().is_refused);
    wire.assert_drains();
}
