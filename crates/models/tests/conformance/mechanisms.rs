//! All mechanisms together: what is published by one is heard by all, each event once and in its order, whoever comes and goes.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::client::{Client, close_code};
use crate::events::{Event, EventStream, events, post};
use crate::frames::{BINARY, CLOSE, frame, text};
use crate::http::get;
use crate::server::Server;
use crate::{Case, case};

pub(crate) const CASES: &[Case] = &[
    case!(EventStream, what_one_mechanism_publishes_is_heard_by_all),
    case!(EventStream, everyone_hears_everything_once_and_in_order_whoever_comes_and_goes),
    case!(EventStream, what_begins_behind_a_long_poll_hears_nothing_twice),
    case!(Broadcast, a_message_on_one_topic_too_many_ends_its_websocket)
        .with(|settings| settings.app.max_topics = 1),
];

fn what_one_mechanism_publishes_is_heard_by_all(server: &mut Server) {
    let mut poster = Client::connect(server);
    let mut websocket = Client::open(server, "/broadcast?topic=t");
    let mut stream = EventStream::open(server, "/events?topic=t");
    let mut poll = Client::connect(server);
    let mut long_poll = Client::connect(server);
    for i in 1..=30 {
        long_poll.send(get(&format!("/longpoll?topic=t&since={}", i - 1)));
        let data = format!("number {i}");
        match i % 3 {
            0 => websocket.send(text(&data)),
            1 => assert_eq!(poster.publish("t", &data), i),
            // Whoever polls may publish on the same connection.
            _ => assert_eq!(poll.publish_to("topic=t&event=message", &data), i),
        }
        let event = Event::message(i, &data[..]);
        websocket.expect_text(&data);
        stream.expect([event.clone()]);
        assert_eq!(events(&long_poll.response().json()), std::slice::from_ref(&event));
        assert_eq!(events(&poll.ask(&format!("/poll?topic=t&since={}", i - 1))), [event]);
    }
    websocket.send(frame(BINARY, b"\xff\x00"));
    websocket.expect(BINARY, b"\xff\x00");
    stream.expect([Event::message(31, "/wA=")]);
    assert_eq!(poll.ask("/poll?topic=t&since=30")["events"][0]["base64"], "/wA=");
}

/// What is published: so many events by each of them; together no more than are held, so that nobody who comes again is too late.
const PUBLISHERS: usize = 3;
const EACH: usize = 300;
const ALL: u64 = (PUBLISHERS * EACH) as u64;

/// A client that has had some events, hears so many more on one connection, and gives that up.
type Reader = fn(&Server, had: u64, more: u64, hear: &mut dyn FnMut(u64, &str));

const READERS: [(&str, Reader); 4] = [
    ("polls", |server, mut had, more, hear| {
        let (mut client, end) = (Client::connect(server), had + more);
        while had < end.min(ALL) {
            for event in events(&client.ask(&format!("/poll?topic=t&since={had}"))) {
                hear(event.id, &event.data);
                had = event.id;
            }
            // It asks as often as others let it.
            thread::yield_now();
        }
    }),
    ("long polls", |server, mut had, more, hear| {
        let (mut client, end) = (Client::connect(server), had + more);
        while had < end.min(ALL) {
            for event in events(&client.ask(&format!("/longpoll?topic=t&since={had}"))) {
                hear(event.id, &event.data);
                had = event.id;
            }
        }
    }),
    ("an event stream", |server, had, more, hear| {
        let mut stream = EventStream::resume(server, "t", had);
        for _ in 0..more.min(ALL - had) {
            let event = stream.next();
            hear(event.id, &event.data);
        }
    }),
    ("a WebSocket", |server, had, more, hear| {
        let mut client = Client::open(server, &format!("/broadcast?topic=t&since={had}"));
        for id in had + 1..=(had + more).min(ALL) {
            // It is told no numbers, but says where to begin.
            hear(id, &String::from_utf8(client.message().1).expect("text was published"));
        }
    }),
];

fn everyone_hears_everything_once_and_in_order_whoever_comes_and_goes(server: &mut Server) {
    let is_over = AtomicBool::new(false);
    let heard: Vec<(&str, Vec<String>)> = {
        let server = &*server;
        thread::scope(|scope| {
            let mut readers = Vec::new();
            for (name, read) in READERS {
                // One that stays, and one that goes after every few and comes again.
                for more in [ALL, 17] {
                    readers.push(scope.spawn(move || {
                        let mut heard = Vec::new();
                        while (heard.len() as u64) < ALL {
                            read(server, heard.len() as u64, more, &mut |id, data| {
                                assert_eq!(id, heard.len() as u64 + 1, "{name}: lost, or there twice");
                                heard.push(data.to_owned());
                            });
                        }
                        (name, heard)
                    }));
                }
            }
            // Some come, hear whatever comes, and vanish in the middle of it; some listen to another topic.
            let is_over = &is_over;
            scope.spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    let mut guests = Vec::new();
                    for target in [
                        "/longpoll?topic=t",
                        "/events?topic=t&since=0",
                        "/events?topic=u",
                        "/poll?topic=t&since=0",
                    ] {
                        let mut client = Client::connect(server);
                        client.send(get(target));
                        guests.push(client);
                    }
                    guests.push(Client::open(server, "/broadcast?topic=t"));
                    guests.into_iter().step_by(2).for_each(Client::reset);
                }
            });
            let publishers: Vec<_> =
                (0..PUBLISHERS).map(|publisher| scope.spawn(move || publish(server, publisher))).collect();
            publishers.into_iter().for_each(|publisher| publisher.join().expect("it published all"));
            let heard = readers.into_iter().map(|reader| reader.join().expect("it heard all")).collect();
            is_over.store(true, Ordering::Relaxed);
            heard
        })
    };
    // All heard the same in the same order, and of each publisher everything in the order in which it was said.
    let (_, expected) = &heard[0];
    for (name, heard) in &heard {
        assert!(heard == expected, "{name} heard another order");
    }
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for data in expected {
        let (publisher, i) = data.split_once(' ').expect("two numbers");
        let count = counts.entry(publisher).or_default();
        assert_eq!(i, count.to_string(), "of publisher {publisher}");
        *count += 1;
    }
    assert_eq!(counts.len(), PUBLISHERS);
    assert!(server.stop().messages >= ALL);
}

/// Publishes by POST one by one, by POST many at once, or by WebSocket.
fn publish(server: &Server, publisher: usize) {
    let data = |i: usize| format!("{publisher} {i}");
    match publisher {
        0 => {
            let mut client = Client::connect(server);
            let mut last = 0;
            for i in 0..EACH {
                let id = client.publish("t", data(i));
                assert!(id > last, "{id} after {last}");
                last = id;
            }
        }
        1 => {
            let mut client = Client::connect(server);
            for i in (0..EACH).step_by(20) {
                let batch = (i..i + 20).flat_map(|i| post("topic=t", "", data(i).as_bytes()));
                client.send(batch.collect::<Vec<u8>>());
                (0..20).for_each(|_| assert_eq!(client.response().status, 202));
            }
        }
        _ => {
            let mut client = Client::open(server, "/broadcast?topic=t");
            (0..EACH).for_each(|i| client.send(text(&data(i))));
            // It is a subscriber like any other: it hears its own last message at the end.
            while client.message().1 != data(EACH - 1).into_bytes() {}
        }
    }
}

fn what_begins_behind_a_long_poll_hears_nothing_twice(server: &mut Server) {
    let mut publisher = Client::connect(server);
    for round in 0..10 {
        // They are answered by what is published on one topic, and go on with another; both are published together.
        let mut clients: Vec<Client> = (0..3).map(|_| Client::connect(server)).collect();
        for client in &mut clients {
            client.send(get(&format!("/longpoll?topic=a&since={round}")));
            client.send(get(&format!("/events?topic=b&since={}", round * 3)));
        }
        let together = ["a", "b", "b"].map(|topic| post(&format!("topic={topic}"), "", b"x"));
        publisher.send(together.concat());
        (0..3).for_each(|_| assert_eq!(publisher.response().status, 202));
        publisher.publish("b", "x");
        for mut client in clients {
            assert_eq!(events(&client.response().json()), [Event::message(round + 1, "x")]);
            EventStream::begun(client).expect((1..=3).map(|i| Event::message(round * 3 + i, "x")));
        }
    }
}

fn a_message_on_one_topic_too_many_ends_its_websocket(server: &mut Server) {
    let mut first = Client::open(server, "/broadcast?topic=one");
    first.echo("there is a place for this");
    let mut second = Client::open(server, "/broadcast?topic=two");
    second.send(text("but not for that"));
    let close = second.frame();
    assert_eq!((close.opcode, close_code(&close)), (CLOSE, Some(1013)));
    assert!(String::from_utf8_lossy(&close.payload).contains("--max-topics"));
    second.expect_end();
    first.echo("still");
}
