//! What may be a topic, and what an event may be called: the same at every entrance.

use crate::client::{Client, Named, upgrade_request};
use crate::engine_client::{BLOBS, Engine, SOCKETIO};
use crate::events::{Event, EventStream, post};
use crate::http::get;
use crate::server::Server;
use crate::{Case, case};

pub(crate) const CASES: &[Case] = &[
    case!(Http, what_is_no_name_is_refused_by_every_path),
    case!(SocketIo, what_is_no_name_is_refused_by_socket_io),
    case!(SocketIo, nobody_can_forge_an_event_or_throw_others_out_by_a_name),
];

/// What is neither a topic nor an event's name. None of it is empty: for a path that is to leave the event's name out.
fn no_names() -> Vec<String> {
    let lines = [
        "a\ndata: forged\nid: 999\n\nevent: b",
        "a\rb",
        "\r\n",
        "\t",
        "a\u{1}",
        "\u{1b}[2J",
        "\u{1e}4",
        "a\u{7f}",
        "a\u{85}b",
        "\u{9b}2J",
        "a\u{2028}b",
        "a\u{2029}b",
    ];
    let long = ["x".repeat(256), "é".repeat(128)];
    lines.into_iter().map(str::to_owned).chain(long).collect()
}

/// What Socket.IO's clients, an `EventSource` or this server itself take for their own.
const RESERVED: [&str; 9] = [
    "connect",
    "connect_error",
    "disconnect",
    "disconnecting",
    "newListener",
    "removeListener",
    "error",
    "open",
    "gap",
];

/// Names that are as good as any other.
const NAMES: [&str; 8] = ["message", "Error", "connected", "a b", "röom 🦀", "\"", "__proto__", "login"];

fn percent(name: &str) -> String {
    name.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

fn json(name: &str) -> String {
    serde_json::to_string(name).expect("a string is JSON")
}

fn what_is_no_name_is_refused_by_every_path(server: &mut Server) {
    let mut client = Client::connect(server);
    let mut refused = |request: Vec<u8>, name: &str| {
        let _on_failure = Named(format!("{name:?}: {}", String::from_utf8_lossy(&request)));
        client.send(request);
        let response = client.response();
        assert!(response.status == 400 && !response.says_close(), "{response:?}");
        assert!(response.body.contains("255"), "the rule is told: {}", response.body);
    };
    for name in no_names().iter().map(String::as_str).chain([""]) {
        let topic = format!("topic={}", percent(name));
        refused(post(&topic, "", b"x"), name);
        for path in ["/poll", "/longpoll", "/events"] {
            refused(get(&format!("{path}?{topic}")).into(), name);
        }
        refused(upgrade_request(&format!("/broadcast?{topic}")).into(), name);
    }
    for name in no_names() {
        refused(post(&format!("event={}", percent(&name)), "", b"x"), &name);
    }
    for name in RESERVED {
        client.send(post(&format!("topic=t&event={name}"), "", b"x"));
        let response = client.response();
        assert!(response.status == 400 && response.body.contains(name), "{response:?}");
    }
    assert_eq!(client.ask("/poll?topic=t")["newest"], 0);
    // A topic may be called so, and the names beside these are free.
    for (i, name) in RESERVED.into_iter().chain(NAMES).enumerate() {
        let query = format!("topic={}", percent(name));
        assert_eq!(client.publish_to(&query, "x"), 1, "{name}");
        let is_free = i >= RESERVED.len();
        let query = format!("topic={}&event={}", percent(name), percent(if is_free { name } else { "e" }));
        assert_eq!(client.publish_to(&query, "y"), 2, "{name}");
    }
}

fn what_is_no_name_is_refused_by_socket_io(server: &mut Server) {
    let mut clients = Engine::both(server, SOCKETIO).map(Engine::connected);
    let blob = r#"{"_placeholder":true,"num":0}"#;
    let long = "long ".repeat(10_000);
    let no_names: Vec<String> = no_names().into_iter().chain([String::new(), "\0".into(), long]).collect();
    for client in &mut clients {
        let mut refused = |packets: &[&str]| {
            let _on_failure = Named(packets[0].chars().take(100).collect());
            client.send(packets);
            let answer = client.next();
            assert!(answer.starts_with(r#"437[{"error":""#), "{answer}");
        };
        for name in no_names.iter().map(|name| json(name)) {
            refused(&[&format!(r#"427["publish",{name},null,"x"]"#)]);
            refused(&[&format!(r#"427["publish","t",{name},"x"]"#)]);
            refused(&[&format!(r#"451-7["publish","t",{name},{blob}]"#), BLOBS[0].1]);
            refused(&[&format!(r#"427["since",{name},null]"#)]);
            refused(&[&format!(r#"427["join",{name}]"#)]);
            refused(&[&format!(r#"427["leave",{name}]"#)]);
        }
        for name in RESERVED {
            refused(&[&format!(r#"427["publish","t","{name}","x"]"#)]);
        }
        // Whoever does not ask is not told, and it is no reason to end a session.
        client.send(&[r#"42["publish","t","gap","x"]"#, r#"421["since","t",0]"#]);
        let answer = client.next();
        assert!(answer.contains(r#""newest":0"#), "{answer}");
    }
    let mut id = 0;
    for name in NAMES {
        id += 1;
        clients[0].send(&[&format!(r#"427["publish","t",{},"x"]"#, json(name))]);
        clients[0].expect(&[&format!("437[{id}]")]);
        clients[1].send(&[&format!(r#"427["publish",{},null,"x"]"#, json(name))]);
        clients[1].expect(&["437[1]"]);
    }
}

fn nobody_can_forge_an_event_or_throw_others_out_by_a_name(server: &mut Server) {
    let mut stream = EventStream::open(server, "/events?topic=t");
    let mut member = Engine::websocket(server, SOCKETIO).connected();
    member.send(&[r#"421["join","t"]"#]);
    member.expect(&["431[]"]);
    let mut sender = Engine::websocket(server, SOCKETIO).connected();
    let mut poster = Client::connect(server);
    for name in no_names().iter().map(String::as_str).chain(RESERVED) {
        sender.send(&[&format!(r#"42["publish","t",{},"forged"]"#, json(name))]);
        poster.send(post(&format!("topic=t&event={}", percent(name)), "", b"forged"));
        assert_eq!(poster.response().status, 400, "{name:?}");
    }
    sender.send(&[r#"427["publish","t","b","real"]"#]);
    sender.expect(&["437[1]"]);
    stream.expect([Event { id: 1, event: "b".into(), data: "real".into() }]);
    member.expect(&[r#"42["b","real",{"topic":"t","id":1}]"#]);
}
