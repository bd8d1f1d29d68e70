//! What the application on Socket.IO does, event by event.

use std::time::Duration;

use switchboard_proto::engine::{Endpoint, EngineSettings, Request};
use switchboard_proto::{Budget, Kind, Port};

use super::engine::{Server, settings, sid_of};

const NOTHING: [&str; 0] = [];

fn start() -> (Server, Port) {
    let mut server = Server::new(&settings());
    let port = server.connect();
    (server, port)
}

#[test]
fn there_are_three_ways_to_send() {
    let (mut server, a) = start();
    let b = server.connect();
    let custom = server.connect_to("/custom");
    let event = |name: &str| format!(r#"42["{name}",1]"#);
    for (name, to_a, to_b) in [("to-me", 1, 0), ("to-others", 0, 1), ("to-all", 1, 1)] {
        server.say(a, &event(name));
        assert_eq!(server.told(a), vec![event(name); to_a]);
        assert_eq!(server.told(b), vec![event(name); to_b]);
        assert_eq!(server.told(custom), NOTHING, "another namespace");
    }
    server.say(a, r#"451-["to-others",{"_placeholder":true,"num":0}]"#);
    server.say_bytes(a, &[7]);
    assert_eq!(server.told(b), [r#"451-["to-others",{"_placeholder":true,"num":0}]"#, "<07>"]);
}

#[test]
fn a_chat_reaches_everybody_once_and_those_outside_too() {
    let (mut server, a) = start();
    let b = server.connect();
    let custom = server.connect_to("/custom");
    server.say(b, r#"421["join","chat"]"#);
    server.told(b);
    assert_eq!(
        server.exchange(a, r#"425["chat message - client","hi \"all\""]"#),
        [r#"42["chat message - server","hi \"all\""]"#, "435[1]"]
    );
    assert_eq!(server.told(b), [r#"42["chat message - server","hi \"all\""]"#]);
    assert_eq!(server.told(custom), NOTHING);
    let said = server.published.pop().unwrap();
    assert_eq!((&*said.topic, said.event.as_deref()), ("chat", Some("chat message - server")));
    assert_eq!((said.kind, &*said.data), (Kind::Text, br#"hi "all""#.as_slice()));

    server.say(a, r#"42["chat message - client",1,{"a":2}]"#);
    assert_eq!(&*server.published.pop().unwrap().data, br#"[1,{"a":2}]"#);
    assert_eq!(server.told(b).len(), 1);

    server.say(custom, r#"42/custom,["chat message - client","from here"]"#);
    assert_eq!(server.told(custom), [r#"42/custom,["chat message - server","from here"]"#]);
    assert_eq!(server.told(a).pop().unwrap(), r#"42["chat message - server","from here"]"#);
}

#[test]
fn what_others_publish_on_chat_reaches_everybody() {
    let (mut server, a) = start();
    let custom = server.connect_to("/custom");
    server.publish("chat", "message", Kind::Text, "over \u{1e} HTTP".as_bytes());
    assert_eq!(server.told(a), [r#"42["chat message - server","over \u001e HTTP"]"#]);
    server.publish("chat", "message", Kind::Binary, &[1, 2]);
    assert_eq!(server.told(a), [r#"451-["chat message - server",{"_placeholder":true,"num":0}]"#, "<0102>"]);
    assert_eq!(server.told(custom), NOTHING);
}

#[test]
fn a_room_gets_what_is_published_on_its_topic() {
    let (mut server, a) = start();
    let custom = server.connect_to("/custom");
    assert_eq!(server.exchange(a, r#"421["join","news"]"#), ["431[]"]);
    assert_eq!(server.exchange(a, r#"42["join","news"]"#), NOTHING);
    assert_eq!(server.exchange(custom, r#"42/custom,["join","n\u0065ws"]"#), NOTHING);
    server.publish("news", "message", Kind::Text, b"first");
    assert_eq!(server.told(a), [r#"42["message","first",{"topic":"news","id":1}]"#]);
    assert_eq!(server.told(custom), [r#"42/custom,["message","first",{"topic":"news","id":1}]"#]);
    server.publish("news", "bits", Kind::Binary, &[5]);
    let binary = r#"451-["bits",{"_placeholder":true,"num":0},{"topic":"news","id":2}]"#;
    assert_eq!(server.told(a), [binary, "<05>"]);
    assert_eq!(server.exchange(a, r#"422["leave","news"]"#), ["432[]"]);
    assert_eq!(server.exchange(a, r#"42["leave","news"]"#), NOTHING);
    server.publish("news", "message", Kind::Text, b"third");
    assert_eq!(server.told(a), NOTHING);
    assert_eq!(server.told(custom).len(), 3);
    server.ask(custom, Request::Gone);
    server.publish("news", "message", Kind::Text, b"fourth");
    assert_eq!(server.told(custom), NOTHING);
}

#[test]
fn rooms_are_bounded() {
    let (mut server, port) = start();
    for room in 0..64 {
        assert_eq!(server.exchange(port, &format!(r#"421["join","{room}"]"#)), ["431[]"]);
    }
    assert_eq!(server.exchange(port, r#"421["join","63"]"#), ["431[]"]);
    for name in ["one more", &"long".repeat(1000), ""] {
        let told = server.exchange(port, &format!(r#"421["join","{name}"]"#));
        assert!(told[0].starts_with(r#"431[{"error":""#), "{told:?}");
    }
    assert!(server.exchange(port, r#"421["join",5]"#)[0].starts_with(r#"431[{"error":""#));
}

#[test]
fn a_client_publishes_and_is_told_the_number() {
    let (mut server, port) = start();
    server.say(port, r#"42["join","t"]"#);
    let told = server.exchange(port, r#"429["publish","t","greeting","hi"]"#);
    assert_eq!(told, ["439[1]", r#"42["greeting","hi",{"topic":"t","id":1}]"#]);
    server.say(port, r#"42["publish","u",null,{"a":[1]}]"#);
    let said = server.published.pop().unwrap();
    assert_eq!((&*said.topic, said.event, &*said.data), ("u", None, br#"{"a":[1]}"#.as_slice()));
    server.say(port, r#"451-["publish","u","bits",{"_placeholder":true,"num":0}]"#);
    server.say_bytes(port, &[9]);
    let said = server.published.pop().unwrap();
    assert_eq!((said.kind, &*said.data), (Kind::Binary, [9].as_slice()));
    for wrong in ["", r#","t""#, r#","t",5,"x""#, r#",1,"e","x""#] {
        let told = server.exchange(port, &format!(r#"421["publish"{wrong}]"#));
        assert!(told[0].starts_with(r#"431[{"error":""#), "{told:?}");
    }
    let receipt = said.receipt;
    server.engines.not_published(receipt, "too many topics", server.now);
    assert_eq!(server.engines.poll_effect(), None, "nobody asked");
}

#[test]
fn a_client_asks_what_there_is_and_is_told_in_order() {
    let (mut server, port) = start();
    server.say(port, r#"42["join","t"]"#);
    // Nothing of what was published before is told after it.
    let poll = server.polling(Endpoint::SocketIo);
    server.post(poll.clone(), "40");
    server.poll(poll.clone());
    let packets = [
        r#"420["join","t"]"#,
        r#"421["publish","t","e","x"]"#,
        r#"422["since","t",null]"#,
        r#"42["chat message - client","z"]"#,
        r#"423["publish","t","e","y"]"#,
    ];
    assert_eq!(server.post(poll.clone(), packets.join("\u{1e}")), ["200 ok"]);
    let told = server.poll(poll).concat();
    let told: Vec<&str> = told.trim_start_matches("200 ").split('\u{1e}').collect();
    let chat = r#"42["chat message - server","z"]"#;
    let event = |data: &str, id: u64| format!(r#"42["e","{data}",{{"topic":"t","id":{id}}}]"#);
    let expected =
        ["430[]", "431[1]", &event("x", 1), r#"432[{"newest":1}]"#, chat, "433[3]", &event("y", 3)];
    assert_eq!(told, expected);

    let cursors = ["null", "7", r#""7""#, r#""7-19ac0f3b2d1""#];
    server.asked.clear();
    for cursor in cursors {
        server.told(port);
        let told = server.exchange(port, &format!(r#"425["since","n\u0065ws",{cursor}]"#));
        assert_eq!(told, [r#"435[{"newest":3}]"#]);
    }
    let asked: Vec<_> = server.asked.iter().map(|asked| (&*asked.topic, asked.since)).collect();
    let cursor = |text: &str| ("news", text.parse().ok());
    assert_eq!(asked, [("news", None), cursor("7"), cursor("7"), cursor("7-19ac0f3b2d1")]);
    for wrong in
        ["", r#","t""#, r#","t",-1"#, r#","t","x""#, r#",1,null"#, r#","t",null,null"#, r#","t",7.5"#]
    {
        let told = server.exchange(port, &format!(r#"421["since"{wrong}]"#));
        assert!(told[0].starts_with(r#"431[{"error":"since takes "#), "{told:?}");
    }
    // Who does not want to know is not told.
    assert_eq!(server.exchange(port, r#"42["since","t",null]"#), NOTHING);
    assert_eq!(server.asked.len(), cursors.len());
}

#[test]
fn clients_are_listed_by_their_ids() {
    let mut server = Server::new(&settings());
    let mut ids = Vec::new();
    let ports: Vec<_> = (0..3).map(|_| server.open(Endpoint::SocketIo)).collect();
    for port in &ports {
        ids.push(format!("\"{}\"", sid_of(&server.exchange(*port, "40")[0])));
    }
    let other = server.connect_to("/custom");
    assert_eq!(server.exchange(ports[0], r#"421["clients"]"#), [format!("431[[{}]]", ids.join(","))]);
    assert_eq!(server.exchange(ports[0], r#"42["clients"]"#), NOTHING);
    assert!(server.exchange(other, r#"42/custom,1["clients"]"#)[0].len() < 50);
}

#[test]
fn the_server_asks_and_hears_the_answer_once() {
    let (mut server, port) = start();
    assert_eq!(server.exchange(port, r#"42["ask-me","why"]"#), [r#"420["question","why"]"#]);
    assert_eq!(server.exchange(port, r#"42["ask-me"]"#), [r#"421["question"]"#]);
    assert_eq!(server.exchange(port, r#"431["late",2]"#), [r#"42["answered","late",2]"#]);
    assert_eq!(server.exchange(port, r#"461-0[{"_placeholder":true,"num":0}]"#), NOTHING);
    server.say_bytes(port, &[1]);
    assert_eq!(server.told(port), [r#"451-["answered",{"_placeholder":true,"num":0}]"#, "<01>"]);
    for nobody_asked in ["430[]", "437[]", "43[]"] {
        assert_eq!(server.exchange(port, nobody_asked), NOTHING);
    }
    for _ in 0..100 {
        server.say(port, r#"42["ask-me"]"#);
    }
    assert_eq!(server.told(port).len(), 64, "so many questions may wait");
}

#[test]
fn a_client_that_asks_for_it_is_disconnected() {
    let (mut server, port) = start();
    server.say(port, "40/custom");
    server.told(port);
    assert_eq!(server.exchange(port, r#"42/custom,["disconnect-me"]"#), ["41/custom,"]);
    assert_eq!(server.exchange(port, r#"42["message"]"#), [r#"42["message-back"]"#]);
    assert_eq!(server.exchange(port, r#"42["disconnect-me"]"#), ["41"]);
    assert_eq!(server.exchange(port, "40").len(), 2);
}

#[test]
fn an_event_that_nobody_knows_is_ignored() {
    let (mut server, port) = start();
    for event in
        [r#"42["unknown",1]"#, r#"421["unknown"]"#, "42[5]", r#"42["\ud800"]"#, r#"42["message-with-ack"]"#]
    {
        assert_eq!(server.exchange(port, event), NOTHING);
    }
}

#[test]
fn a_receipt_is_not_taken_for_the_next_in_the_same_place() {
    let (mut server, port) = start();
    server.say(port, r#"421["publish","t","e","x"]"#);
    let receipt = server.published.pop().unwrap().receipt;
    server.ask(port, Request::Gone);
    server.connect();
    server.engines.not_published(receipt, "no", server.now);
    assert_eq!(server.engines.poll_effect(), None);
}

#[test]
fn one_body_of_many_events_for_all_is_read_bit_by_bit() {
    let mut server = Server::new(&settings());
    let listeners: Vec<_> = (0..100).map(|_| server.connect()).collect();
    let session = server.polling(Endpoint::SocketIo);
    assert_eq!(server.post(session.clone(), "40"), ["200 ok"]);
    server.poll(session.clone());
    let port = server.port();
    let body = vec![r#"42["to-others"]"#; 10_000].join("\x1e");
    let request = Request::Post { query: session, content_type: None, body: body.into() };
    server.engines.handle(port, request, server.now);
    let (mut effects, mut turns) = (0, 0);
    loop {
        let before = effects;
        while server.engines.poll_effect().is_some() {
            effects += 1;
            if effects == 1 {
                assert_eq!(server.engines.effects_waiting(), 1099, "of a million");
            }
        }
        assert!(effects - before < 20_000, "others get their turn");
        if server.engines.poll_timeout().is_none_or(|due| due > server.now) {
            break;
        }
        turns += 1;
        server.engines.handle_timeout(server.now);
    }
    assert_eq!(effects, 100 * 10_000 + 1);
    assert_eq!((listeners.len(), turns), (100, 60));
}

#[test]
fn a_body_that_is_read_bit_by_bit_is_the_only_one_of_its_session() {
    let mut server = Server::new(&settings());
    let body = vec![r#"42["to-others"]"#; 2000].join("\x1e");
    let mut begin = || {
        let listeners: Vec<_> = (0..100).map(|_| server.connect()).collect();
        let session = server.polling(Endpoint::SocketIo);
        assert_eq!(server.post(session.clone(), "40"), ["200 ok"]);
        let port = server.port();
        let request = Request::Post { query: session.clone(), content_type: None, body: body.clone().into() };
        server.ask(port, request);
        assert_eq!(server.told(port), [""; 0], "it is not read to its end");
        (listeners, session, port)
    };
    // What comes beside it, or its connection's end, is the end of the session.
    let (listeners, session, port) = begin();
    let (_, other, lost) = begin();
    assert_eq!(server.post(session, "42[\"to-me\"]"), [r#"400 {"code":3,"message":"Bad request"}"#]);
    server.ask(lost, Request::Gone);
    server.wait(Duration::ZERO);
    assert_eq!(server.told(port), [r#"400 {"code":3,"message":"Bad request"}"#]);
    assert!(server.told(lost).is_empty() || server.told(lost) != ["200 ok"]);
    assert!(server.post(other, "3")[0].starts_with("400 "));
    assert_eq!(server.engines.sessions(), 2 * listeners.len());
}

#[test]
fn what_one_body_leaves_for_many_sessions_that_do_not_poll_is_bounded() {
    // By an eighth of the memory, and by 128 MiB where there is plenty.
    bounded_by(16 << 20, 5 << 20);
    bounded_by(8 << 30, 160 << 20);
}

fn bounded_by(memory: usize, most: usize) {
    let budget = Budget::new(memory);
    let settings = EngineSettings { memory: budget.clone(), ..settings() };
    let mut server = Server::new(&EngineSettings { max_unsent_bytes: 4 << 20, ..settings });
    let session = server.polling(Endpoint::SocketIo);
    let quiet = server.polling(Endpoint::SocketIo);
    for _ in 0..500 {
        let listener = server.polling(Endpoint::SocketIo);
        assert_eq!(server.post(listener, "40"), ["200 ok"]);
    }
    assert_eq!(server.post(session.clone(), "40"), ["200 ok"]);
    let port = server.port();
    let body = vec![r#"42["to-others"]"#; 14_000].join("\x1e");
    server.ask(port, Request::Post { query: session, content_type: None, body: body.into() });
    while server.engines.poll_timeout().is_some_and(|due| due <= server.now) {
        assert!(budget.used_bytes() < most, "{}", budget.used_bytes());
        server.wait(Duration::ZERO);
    }
    assert_eq!(server.told(port), ["200 ok"]);
    // Those that had most waiting have been closed, and nobody else.
    assert!(server.engines.sessions() < 300, "{}", server.engines.sessions());
    assert_eq!(server.post(quiet, "40"), ["200 ok"]);
}
