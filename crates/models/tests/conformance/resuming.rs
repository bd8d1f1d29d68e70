//! Clients that come to a server that was started again: the numbers of its events begin anew, and nobody misses what it holds.

use serde_json::{Value, json};

use crate::child::Settings;
use crate::client::Client;
use crate::engine_client::{Engine, SOCKETIO};
use crate::events::{Event, EventStream, events, post};
use crate::frames::{TEXT, text};
use crate::http::get;
use crate::server::Server;
use crate::{Case, case};

pub(crate) const CASES: &[Case] = &[
    case!(Poll, who_polls_misses_nothing_after_a_restart),
    case!(LongPoll, who_waits_is_told_of_a_restart_at_once),
    case!(EventStream, a_stream_misses_nothing_after_a_restart),
    case!(Broadcast, a_websocket_can_be_told_the_number_of_each_event),
    case!(Broadcast, such_a_websocket_misses_nothing_after_a_restart),
    case!(Broadcast, how_a_websocket_takes_its_events_must_make_sense),
    case!(SocketIo, a_socket_can_ask_what_it_has_missed),
];

/// How many events the other run of the server has had when its client comes: none, fewer than that knows of, as many, more.
const COUNTS: [u64; 4] = [0, 2, 4, 7];

/// A client that knows of so many events of a server, and that server's epoch.
const HAD: u64 = 4;

/// Has the server publish all that its client has, and returns the cursor behind that.
fn first_run(server: &Server) -> String {
    let mut client = Client::connect(server);
    (1..=HAD).for_each(|id| assert_eq!(client.publish("t", format!("old {id}")), id));
    let newest = client.ask("/poll?topic=t");
    assert_eq!(newest["newest"], HAD);
    format!("{HAD}-{}", newest["epoch"].as_str().expect("an epoch"))
}

/// The other run of that server, with so many events, and its epoch.
fn second_run(server: &Server, count: u64) -> (Server, String) {
    let other = Server::start(server.model, &Settings::for_model(server.model));
    let mut client = Client::connect(&other);
    (1..=count).for_each(|id| assert_eq!(client.publish("t", format!("new {id}")), id));
    let epoch = client.epoch();
    (other, epoch)
}

fn held(count: u64) -> Vec<Event> {
    (1..=count).map(|id| Event::message(id, format!("new {id}"))).collect()
}

fn who_polls_misses_nothing_after_a_restart(server: &mut Server) {
    let cursor = first_run(server);
    for count in COUNTS {
        let (mut other, epoch) = second_run(server, count);
        let mut client = Client::connect(&other);
        let answer = client.ask(&format!("/poll?topic=t&since={cursor}"));
        assert_eq!(events(&answer), held(count));
        let told = json!([answer["newest"], answer["epoch"], answer["restarted"], answer["missed"]]);
        assert_eq!(told, json!([count, epoch, true, null]));
        // From here on it is at home.
        let answer = client.ask(&format!("/poll?topic=t&since={count}-{epoch}"));
        assert_eq!(answer, json!({"topic": "t", "newest": count, "epoch": epoch, "events": []}));
        drop(client);
        other.stop();
    }
    // The first one still knows its own.
    let mut client = Client::connect(server);
    assert!(client.ask(&format!("/poll?topic=t&since={cursor}")).get("restarted").is_none());
}

fn who_waits_is_told_of_a_restart_at_once(server: &mut Server) {
    let cursor = first_run(server);
    for count in COUNTS {
        let (other, epoch) = second_run(server, count);
        let mut client = Client::connect(&other);
        let answer = client.ask(&format!("/longpoll?topic=t&since={cursor}"));
        assert_eq!((events(&answer), &answer["restarted"]), (held(count), &json!(true)));
        client.send(get(&format!("/longpoll?topic=t&since={count}-{epoch}")));
        Client::connect(&other).publish("t", "the next");
        let answer = client.response().json();
        let next = json!({"id": count + 1, "event": "message", "data": "the next"});
        let expected = json!({"topic": "t", "newest": count + 1, "epoch": epoch, "events": [next]});
        assert_eq!(answer, expected);
    }
}

fn a_stream_misses_nothing_after_a_restart(server: &mut Server) {
    let cursor = first_run(server);
    let mut stream = EventStream::resume(server, "t", HAD - 1);
    stream.expect([Event::message(HAD, "old 4")]);
    assert_eq!(stream.last_event_id, cursor);
    for count in COUNTS {
        let (other, epoch) = second_run(server, count);
        let mut stream = EventStream::resume(&other, "t", &cursor);
        let data = "{\"missed\":0,\"restarted\":true}".to_owned();
        stream.expect([Event { id: 0, event: "gap".into(), data }]);
        stream.expect(held(count));
        assert_eq!(stream.last_event_id, format!("{count}-{epoch}"));
        Client::connect(&other).publish("t", "the next");
        stream.expect([Event::message(count + 1, "the next")]);
        // Both forms of what it has had lead to where it was.
        for last in [format!("{count}-{epoch}"), count.to_string()] {
            EventStream::resume(&other, "t", last).expect([Event::message(count + 1, "the next")]);
        }
    }
}

/// The next text message of a WebSocket, which is JSON.
fn next(client: &mut Client) -> Value {
    let (opcode, payload) = client.message();
    assert_eq!(opcode, TEXT);
    serde_json::from_slice(&payload).expect("JSON")
}

fn message(id: u64, data: &str) -> Value {
    json!({"id": id, "event": "message", "data": data})
}

fn a_websocket_can_be_told_the_number_of_each_event(server: &mut Server) {
    let mut publisher = Client::connect(server);
    let epoch = publisher.epoch();
    publisher.publish("t", "before it came");
    let mut plain = Client::open(server, "/broadcast?topic=t");
    let mut sockets: Vec<Client> =
        (0..4).map(|_| Client::open(server, "/broadcast?topic=t&format=json")).collect();
    for socket in &mut sockets {
        assert_eq!(next(socket), json!({"topic": "t", "newest": 1, "epoch": epoch}));
    }
    publisher.publish_to("topic=t&event=news", "\"\n\u{1d11e}");
    publisher.send(post("topic=t", "", b"\xff\x00"));
    assert_eq!(publisher.response().json()["id"], 3);
    // What it says itself is data, and comes back like all else.
    sockets[0].send(text("{\"id\":77}"));
    plain.expect_text("\"\n\u{1d11e}");
    plain.expect(crate::frames::BINARY, b"\xff\x00");
    plain.expect_text("{\"id\":77}");
    publisher.publish("t", "x".repeat(100_000));
    for socket in &mut sockets {
        assert_eq!(next(socket), json!({"id": 2, "event": "news", "data": "\"\n\u{1d11e}"}));
        assert_eq!(next(socket), json!({"id": 3, "event": "message", "base64": "/wA="}));
        assert_eq!(next(socket), message(4, "{\"id\":77}"));
        assert_eq!(next(socket), message(5, &"x".repeat(100_000)));
    }
    let mut late = Client::open(server, "/broadcast?topic=t&format=json&since=3");
    assert_eq!(next(&mut late), json!({"topic": "t", "newest": 5, "epoch": epoch}));
    assert_eq!(next(&mut late), message(4, "{\"id\":77}"));
    assert_eq!(next(&mut late)["id"], 5);
    sockets.into_iter().chain([late]).for_each(Client::leave);
}

fn such_a_websocket_misses_nothing_after_a_restart(server: &mut Server) {
    let cursor = first_run(server);
    for count in COUNTS {
        let (other, epoch) = second_run(server, count);
        let mut socket = Client::open(&other, &format!("/broadcast?topic=t&format=json&since={cursor}"));
        let hello = json!({"topic": "t", "newest": count, "epoch": epoch, "restarted": true});
        assert_eq!(next(&mut socket), hello);
        (1..=count).for_each(|id| assert_eq!(next(&mut socket), message(id, &format!("new {id}"))));
        socket.send(text("the next"));
        assert_eq!(next(&mut socket), message(count + 1, "the next"));
        // One that is told no numbers gets the same.
        let mut plain = Client::open(&other, &format!("/broadcast?topic=t&since={cursor}"));
        (1..=count).for_each(|id| plain.expect_text(&format!("new {id}")));
        plain.expect_text("the next");
    }
}

fn how_a_websocket_takes_its_events_must_make_sense(server: &mut Server) {
    for query in ["format=xml", "format=", "format=JSON", "format=json&format=json", "since=1-", "since=x"] {
        let Err(refusal) = Client::try_open(server, &format!("/broadcast?{query}")) else {
            panic!("{query} was taken");
        };
        assert_eq!(refusal.status, 400, "{query}: {refusal:?}");
    }
    let refusal = Client::try_open(server, "/broadcast?format=xml").err().expect("it is refused");
    assert!(refusal.body.contains("format is json"), "{refusal:?}");
}

fn a_socket_can_ask_what_it_has_missed(server: &mut Server) {
    let cursor = first_run(server);
    let (other, epoch) = second_run(server, 2);
    let mut publisher = Client::connect(&other);
    let answer = |packet: String| -> Value {
        let [answer] =
            serde_json::from_str::<[Value; 1]>(packet.strip_prefix("437").expect("an answer")).unwrap();
        answer
    };
    let mut newest = 2;
    for mut client in Engine::both(&other, SOCKETIO).map(Engine::connected) {
        client.send(&[r#"421["join","t"]"#]);
        client.expect(&["431[]"]);
        client.send(&[&format!(r#"427["since","t","{cursor}"]"#)]);
        let told = answer(client.next());
        let expected = json!([newest, epoch, true]);
        assert_eq!(json!([told["newest"], told["epoch"], told["restarted"]]), expected);
        assert_eq!(events(&told)[..2], held(2));
        client.send(&[&format!(r#"427["since","t",{}]"#, newest - 1)]);
        let told = answer(client.next());
        assert_eq!((events(&told).len(), events(&told)[0].id), (1, newest));
        // What comes after the answer is what it did not hold.
        newest = publisher.publish("t", "the next");
        client.expect(&[&format!(r#"42["message","the next",{{"topic":"t","id":{newest}}}]"#)]);
        client.send(&[r#"427["since","t",null]"#, r#"427["since","t","x"]"#]);
        assert_eq!(
            answer(client.next()),
            json!({"topic": "t", "newest": newest, "epoch": epoch, "events": []})
        );
        assert!(
            answer(client.next())["error"].as_str().is_some_and(|error| error.starts_with("since takes "))
        );
    }
}
