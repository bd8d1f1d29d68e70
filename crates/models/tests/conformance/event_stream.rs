//! Server-sent events (WHATWG HTML, section 9.2): one long answer, resumed where it broke off.

use std::time::Duration;

use crate::client::{Client, Named};
use crate::events::{Event, EventStream, post};
use crate::frames::text;
use crate::http::get;
use crate::server::Server;
use crate::{Case, case};

pub(crate) const CASES: &[Case] = &[
    case!(EventStream, an_event_stream_carries_what_is_published),
    case!(EventStream, topics_do_not_mix),
    case!(EventStream, a_stream_goes_on_behind_the_last_event_that_its_client_had),
    case!(EventStream, what_is_no_longer_held_is_told_as_a_gap)
        .with(|settings| settings.app.history_events = 3),
    case!(EventStream, a_silent_stream_carries_comments).with(|settings| {
        settings.app.sse_heartbeat = Duration::from_millis(100);
    }),
    case!(EventStream, a_slow_stream_is_dropped_and_does_not_delay_the_others)
        .with(|settings| settings.app.max_unsent_bytes = 256 << 10),
    case!(EventStream, whoever_comes_back_late_gets_all_that_is_held)
        .with(|settings| settings.app.max_unsent_bytes = 256 << 10),
];

fn an_event_stream_carries_what_is_published(server: &mut Server) {
    let mut publisher = Client::connect(server);
    publisher.publish("t", "before it came");
    let mut streams: Vec<EventStream> =
        (0..4).map(|_| EventStream::open(server, "/events?topic=t")).collect();
    publisher.publish("t", "one line");
    publisher.publish_to("topic=t&event=news", " several\nlines\r\nof\rtext\n");
    publisher.publish_to("topic=t&event=message", "");
    publisher.send(post("topic=t", "", b"\xff\x00"));
    assert_eq!(publisher.response().json()["id"], 5);
    publisher.publish("t", "x: y\nid: 77\nevent: z\n\n: c");
    publisher.publish("t", "\u{1d11e}".repeat(50_000));
    let mut websocket = Client::open(server, "/broadcast?topic=t");
    websocket.send(text("by WebSocket"));
    websocket.expect_text("by WebSocket");
    for stream in &mut streams {
        assert!(stream.retry.is_some_and(|retry| retry > 0));
        stream.expect([
            Event::message(2, "one line"),
            // All ends of lines are one to an event stream.
            Event { id: 3, event: "news".into(), data: " several\nlines\nof\ntext\n".into() },
            Event::message(4, ""),
            Event::message(5, "/wA="),
            Event::message(6, "x: y\nid: 77\nevent: z\n\n: c"),
            Event::message(7, "\u{1d11e}".repeat(50_000)),
            Event::message(8, "by WebSocket"),
        ]);
    }
    // What its client says on it is not listened to, and does not disturb it.
    streams[0].client.send(get("/nothing"));
    publisher.publish("t", "the last");
    streams.iter_mut().for_each(|stream| stream.expect([Event::message(9, "the last")]));
    // HTTP/1.0 has streams too; and to HEAD there is nothing to stream.
    let mut old = Client::connect(server);
    old.send("GET /events?topic=t&since=8 HTTP/1.0\r\n\r\n");
    let head = old.response_head();
    assert!(head.status == 200 && head.says_close());
    let mut client = Client::connect(server);
    client.send(get("/events").replacen("GET", "HEAD", 1) + &get("/nothing"));
    assert_eq!(client.response_head().header("Content-Type"), Some("text/event-stream"));
    assert_eq!(client.response().status, 404);
}

fn topics_do_not_mix(server: &mut Server) {
    const TOPICS: [&str; 3] = ["a", "%C3%A9%20b", "c"];
    let mut publisher = Client::connect(server);
    let mut streams: Vec<EventStream> =
        (0..9).map(|i| EventStream::open(server, &format!("/events?topic={}", TOPICS[i % 3]))).collect();
    let mut websockets = TOPICS.map(|topic| Client::open(server, &format!("/broadcast?topic={topic}")));
    let mut nobody = Client::open(server, "/broadcast");
    // All in one write, so that much of it is published in one turn of a loop.
    let mut requests = Vec::new();
    for i in 0..60 {
        requests.extend(post(&format!("topic={}", TOPICS[i % 3]), "", format!("{i}").as_bytes()));
    }
    publisher.send(requests);
    for i in 0..60_u64 {
        assert_eq!(publisher.response().json()["id"], i / 3 + 1);
    }
    for i in 0..60 {
        let expected = Event::message(i / 3 + 1, i.to_string());
        for stream in streams.iter_mut().skip(i as usize % 3).step_by(3) {
            stream.expect([expected.clone()]);
        }
        websockets[i as usize % 3].expect_text(&i.to_string());
    }
    nobody.send(text("only here"));
    nobody.expect_text("only here");
    websockets.into_iter().chain([nobody]).for_each(Client::leave);
}

fn a_stream_goes_on_behind_the_last_event_that_its_client_had(server: &mut Server) {
    let mut publisher = Client::connect(server);
    (1..=6).for_each(|i| assert_eq!(publisher.publish("t", i.to_string()), i));
    let header = |line: &'static str| (line, "/events?topic=t", line);
    let query = |target: &'static str| (target, target, "");
    let ways = [
        header("Last-Event-ID: 4\r\n"),
        header("last-event-id:4\r\n"),
        query("/events?topic=t&lastEventId=4"),
        query("/events?topic=t&Last-Event-ID=4"),
        query("/events?topic=t&since=4"),
        // The header is of now, the query of when the stream was begun.
        ("both", "/events?topic=t&lastEventId=1&since=2", "Last-Event-ID: 4\r\n"),
        // What is none, or of somebody else, hides none of the others.
        ("an empty header", "/events?topic=t&since=4", "Last-Event-ID:\r\n"),
        ("a foreign header", "/events?topic=t&since=4", "Last-Event-ID: somebody else's\r\n"),
        ("all empty", "/events?topic=t&lastEventId=&Last-Event-ID=&since=4", "Last-Event-ID: \r\n"),
        ("one of three", "/events?topic=t&lastEventId=x&Last-Event-ID=4&since=2", "Last-Event-ID: y\r\n"),
        ("the middle one", "/events?topic=t&lastEventId=4&Last-Event-ID=1", "Last-Event-ID: 7-\r\n"),
    ];
    let mut streams = Vec::new();
    for (name, target, lines) in ways {
        let _on_failure = Named(name.trim_end().to_owned());
        let mut stream = EventStream::open_with(Client::connect(server), target, lines);
        stream.expect([Event::message(5, "5"), Event::message(6, "6")]);
        streams.push(stream);
    }
    // A number of another server, and one that is none.
    let mut stream = EventStream::resume(server, "t", 77);
    stream.expect([Event { id: 0, event: "gap".into(), data: "{\"missed\":0,\"restarted\":true}".into() }]);
    stream.expect((1..=6).map(|i| Event::message(i, i.to_string())));
    streams.push(stream);
    streams.push(EventStream::open_with(
        Client::connect(server),
        "/events?topic=t",
        "Last-Event-ID: somebody else's\r\n",
    ));
    // A WebSocket can do the same.
    let mut websocket = Client::open(server, "/broadcast?topic=t&since=4");
    publisher.publish("t", "7");
    streams.iter_mut().for_each(|stream| stream.expect([Event::message(7, "7")]));
    ["5", "6", "7"].iter().for_each(|text| websocket.expect_text(text));
}

fn what_is_no_longer_held_is_told_as_a_gap(server: &mut Server) {
    let mut publisher = Client::connect(server);
    (1..=6).for_each(|i| assert_eq!(publisher.publish("t", i.to_string()), i));
    let held = || (4..=6).map(|i| Event::message(i, i.to_string()));
    for (last, missed) in [(0, "3"), (1, "2"), (2, "1"), (99, "3,\"restarted\":true")] {
        let mut stream = EventStream::resume(server, "t", last);
        // Whoever breaks off here goes on behind what was missed.
        let data = format!("{{\"missed\":{missed}}}");
        stream.expect([Event { id: 3, event: "gap".into(), data }]);
        stream.expect(held());
    }
    EventStream::resume(server, "t", 3).expect(held());
    EventStream::resume(server, "t", 5).expect(held().skip(2));
}

fn a_silent_stream_carries_comments(server: &mut Server) {
    let mut stream = EventStream::open(server, "/events?topic=t");
    let mut publisher = Client::connect(server);
    (0..3).for_each(|_| stream.comment());
    publisher.publish("t", "in between");
    stream.expect([Event::message(1, "in between")]);
    (0..2).for_each(|_| stream.comment());
}

const MESSAGE_BYTES: usize = 32 << 10;

/// More than the socket buffers between the server and a client that does not read can hold.
const MESSAGES: u64 = 640;

fn a_slow_stream_is_dropped_and_does_not_delay_the_others(server: &mut Server) {
    let mut slow = EventStream::open_with(Client::connect_narrow(server), "/events?topic=t", "");
    let mut fast = EventStream::open(server, "/events?topic=t");
    let mut publisher = Client::connect(server);
    let payload = |id: u64| format!("{id} {}", "x".repeat(MESSAGE_BYTES));
    for id in 1..=MESSAGES {
        assert_eq!(publisher.publish("t", payload(id)), id);
        assert!(
            fast.next() == Event::message(id, payload(id)),
            "event {id} is not the one that was published"
        );
    }
    // What the slow one gets is the beginning, in order, and then the end.
    let text = String::from_utf8(slow.client.whatever_is_left()).expect("only ASCII was published");
    let mut had = 0;
    let epoch = publisher.epoch();
    let events = text.strip_prefix(&format!("id: 0-{epoch}\n\n")).expect("it is told where it is");
    for event in events.split_terminator("\n\n") {
        let expected = format!("id: {}-{epoch}\ndata: {}", had + 1, payload(had + 1));
        if event.len() < expected.len() {
            assert!(expected.starts_with(event), "event {} is not the one that was published", had + 1);
            break;
        }
        assert!(event == expected, "event {} is not the one that was published", had + 1);
        had += 1;
    }
    assert!(had < MESSAGES, "it missed nothing: then it was not slow, or the server held everything");
    // It comes again, and says what it has had.
    let mut again = EventStream::resume(server, "t", MESSAGES - 3);
    again.expect((MESSAGES - 2..=MESSAGES).map(|id| Event::message(id, payload(id))));
    assert_eq!(publisher.publish("t", "the end"), MESSAGES + 1);
    fast.expect([Event::message(MESSAGES + 1, "the end")]);
    drop((slow, fast, again, publisher));
    assert_eq!(server.stop().dropped, 1);
}

fn whoever_comes_back_late_gets_all_that_is_held(server: &mut Server) {
    // 6 MiB at once, where a quarter of one may wait; small ones as many as are held.
    let mut publisher = Client::connect(server);
    let long = "x".repeat(MESSAGE_BYTES);
    (1..=192).for_each(|i| assert_eq!(publisher.publish("long", &long), i));
    let mut requests = Vec::new();
    (0..1100).for_each(|i| requests.extend(post("topic=short", "", format!("{i}").as_bytes())));
    std::thread::scope(|scope| {
        let mut writer = publisher.stream.try_clone().unwrap();
        scope.spawn(move || std::io::Write::write_all(&mut writer, &requests).unwrap());
        (1..=1100).for_each(|i: u64| assert_eq!(publisher.response().json()["id"], i));
    });
    let mut late = EventStream::open_with(Client::connect_narrow(server), "/events?topic=long&since=0", "");
    let mut websocket = Client::connect_narrow(server).upgrade("/broadcast?topic=long&since=0");
    let mut short = EventStream::open(server, "/events?topic=short&since=0");
    // While they have hardly begun to read, more is published; but not more than may wait.
    (193..=196).for_each(|i| assert_eq!(publisher.publish("long", &long), i));
    (1..=196).for_each(|i| assert!(late.next() == Event::message(i, &long[..]), "event {i}"));
    (1..=196).for_each(|_| websocket.expect_text(&long));
    publisher.publish("long", "the last");
    late.expect([Event::message(197, "the last")]);
    websocket.expect_text("the last");
    assert_eq!((short.next().event, short.last_id), ("gap".into(), Some(76)));
    short.expect((76..1100).map(|i| Event::message(i + 1, i.to_string())));
    drop((late, websocket, short, publisher));
    assert_eq!(server.stop().dropped, 0);
}
