//! Long polling: an answer as soon as there is one, and no trace of whoever did not wait for it.

use std::thread;

use crate::client::{Client, Named, eventually, upgrade_request};
use crate::events::{Event, EventStream, events};
use crate::frames::text;
use crate::http::get;
use crate::refusals::open_eventually;
use crate::server::Server;
use crate::{Case, case};

pub(crate) const CASES: &[Case] = &[
    case!(LongPoll, a_long_poll_is_answered_at_once_or_when_there_is_something_or_at_its_timeout),
    case!(LongPoll, all_that_wait_on_a_topic_are_answered_and_nobody_else),
    case!(LongPoll, whoever_asks_again_misses_nothing),
    case!(LongPoll, what_stands_behind_a_long_poll_waits_for_it),
    case!(LongPoll, whoever_goes_while_it_waits_leaves_nothing_behind_and_makes_room).with(|settings| {
        settings.app.max_connections = Some(2);
        settings.app.workers = settings.app.workers.or(Some(2));
    }),
];

fn a_long_poll_is_answered_at_once_or_when_there_is_something_or_at_its_timeout(server: &mut Server) {
    let mut client = Client::connect(server);
    let mut publisher = Client::connect(server);
    for timeout in ["0", "0.05"] {
        client.send(get(&format!("/longpoll?topic=t&timeout={timeout}")));
        let nothing = client.response();
        assert_eq!((nothing.status, nothing.says_close()), (204, false));
    }
    publisher.publish("t", "one");
    assert_eq!(events(&client.ask("/longpoll?topic=t&since=0")), [Event::message(1, "one")]);
    // Without a number it is only for what is still to come, which may come before the server knows that somebody waits.
    client.send(get("/longpoll?topic=t"));
    let mut newest = 1;
    client.stream.set_nonblocking(true).unwrap();
    eventually("it is answered", || {
        newest = publisher.publish("t", "more");
        client.stream.peek(&mut [0]).is_ok()
    });
    client.stream.set_nonblocking(false).unwrap();
    let answer = client.response().json();
    let [event] = &events(&answer)[..] else { panic!("one event answers it: {answer}") };
    assert!(answer["newest"] == event.id && (2..=newest).contains(&event.id), "{answer}");
    // With a number it does not matter who is first.
    client.send(get(&format!("/longpoll?topic=t&since={newest}")));
    let data = "x\n".repeat(100_000);
    let id = publisher.publish_to("topic=t&event=e", &data);
    let response = client.response();
    assert_eq!(response.header("Cache-Control"), Some("no-store"));
    assert_eq!(response.json()["newest"], id);
    assert_eq!(events(&response.json()), [Event { id, event: "e".into(), data }]);
    // What came between two questions is answered at once, all together.
    (0..3).for_each(|_| assert_ne!(publisher.publish("t", "more"), 0));
    let found = events(&client.ask(&format!("/longpoll?topic=t&since={id}")));
    assert_eq!(found.iter().map(|event| event.id).collect::<Vec<_>>(), [id + 1, id + 2, id + 3]);
    for timeout in ["-1", "soon", "NaN", "inf"] {
        client.send(get(&format!("/longpoll?timeout={timeout}")));
        assert_eq!(client.response().status, 400, "{timeout}");
    }
}

fn all_that_wait_on_a_topic_are_answered_and_nobody_else(server: &mut Server) {
    const EACH: usize = 30;
    let mut publisher = Client::connect(server);
    let mut waiting: Vec<(usize, Client)> = Vec::new();
    for i in 0..2 * EACH {
        let mut client = Client::connect(server);
        client.send(get(&format!("/longpoll?topic={}&since=0&timeout=9", ["a", "b"][i % 2])));
        waiting.push((i % 2, client));
    }
    publisher.publish("b", "to b");
    let (of_b, of_a): (Vec<_>, Vec<_>) = waiting.into_iter().partition(|(topic, _)| *topic == 1);
    // Each at its own time: those of the other topic are not answered before theirs.
    for (clients, data) in [(of_b, "to b"), (of_a, "to a")] {
        for (i, (_, mut client)) in clients.into_iter().enumerate() {
            if i == 0 && data == "to a" {
                publisher.publish("a", "to a");
            }
            assert_eq!(events(&client.response().json()), [Event::message(1, data)]);
        }
    }
}

fn whoever_asks_again_misses_nothing(server: &mut Server) {
    const EVENTS: u64 = 150;
    let server = &*server;
    thread::scope(|scope| {
        for reader in 0..4 {
            scope.spawn(move || {
                let mut client = Client::connect(server);
                let mut had = 0;
                while had < EVENTS {
                    // Some come back by another connection.
                    if reader == 0 && had % 3 == 0 {
                        client = Client::connect(server);
                    }
                    for event in events(&client.ask(&format!("/longpoll?topic=t&since={had}"))) {
                        had += 1;
                        assert_eq!(event, Event::message(had, had.to_string()));
                    }
                }
            });
        }
        scope.spawn(|| {
            let mut publisher = Client::connect(server);
            (1..=EVENTS).for_each(|i| assert_eq!(publisher.publish("t", i.to_string()), i));
        });
    });
}

fn what_stands_behind_a_long_poll_waits_for_it(server: &mut Server) {
    let mut publisher = Client::connect(server);
    let poll = get("/longpoll?topic=t&since=0&timeout=9");
    let mut client = Client::connect(server);
    client.send(
        poll.clone() + &get("/nothing") + &get("/longpoll?topic=t&since=1") + &upgrade_request("/echo"),
    );
    client.send(text("hello"));
    // Whatever the server knows by now, it says nothing before something is published.
    let mut other = EventStream::open(server, "/events?topic=t");
    publisher.publish("t", "one");
    other.expect([Event::message(1, "one")]);
    assert_eq!(events(&client.response().json()), [Event::message(1, "one")]);
    assert_eq!(client.response().status, 404);
    publisher.publish("t", "two");
    assert_eq!(events(&client.response().json()), [Event::message(2, "two")]);
    let mut client = client.upgraded().expect("what stood behind it is a WebSocket");
    client.expect_text("hello");
    client.leave();
    // Nobody may send without end while it waits, and is told so.
    let mut client = Client::connect(server);
    client.send(get("/longpoll?topic=nothing&timeout=9"));
    client.send(vec![b'x'; 3 << 20]);
    let response = client.response();
    assert_eq!((response.status, response.says_close()), (503, true));
}

/// A way to go.
type Way = fn(Client);

fn whoever_goes_while_it_waits_leaves_nothing_behind_and_makes_room(server: &mut Server) {
    // One stays, so that there is one place more.
    let mut stays = Client::open(server, "/broadcast?topic=t");
    stays.echo("hello");
    let ask = |target: &str| {
        let mut client = ask_eventually(server, target);
        // The server has taken it in, and waits with it.
        if target.starts_with("/events") {
            client.response_head();
        }
        client
    };
    let targets = ["/longpoll?topic=t&timeout=60", "/longpoll?topic=other", "/events?topic=t"];
    drop(ask(targets[0]));
    let before = server.belongings_at_rest();
    let ways: [(&str, Way); 3] = [
        ("an end", drop),
        ("a reset", Client::reset),
        ("half an end", |mut client| {
            client.half_close();
            client.rest();
        }),
    ];
    for target in targets {
        for (way, vanish) in ways {
            let _on_failure = Named(format!("{way} of {target}"));
            vanish(ask(target));
            eventually("descriptors, threads and processes are as before", || server.belongings() == before);
            // Whether the server knows of it already or not.
            vanish(ask(target));
            stays.echo("to nobody else");
            open_eventually(server).0.echo("there is room");
        }
    }
    stays.echo("still there");
}

/// Asks when there is a place.
fn ask_eventually(server: &Server, target: &str) -> Client {
    let mut asking = None;
    eventually("there is a place", || {
        let mut client = Client::connect(server);
        client.send(get("/nothing"));
        let is_in = client.response().status == 404;
        asking = is_in.then_some(client);
        is_in
    });
    let mut client = asking.expect("there is a place");
    client.send(get(target));
    client
}
