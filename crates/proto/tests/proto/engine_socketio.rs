//! Socket.IO as its clients see it, and what the application on it does.

use std::time::Duration;

use switchboard_proto::engine::{Endpoint, Request};
use switchboard_proto::{Kind, Port};

use super::engine::{CONNECT_TIMEOUT, INTERVAL, Server, over_websocket, settings, sid_of};

const NOTHING: [&str; 0] = [];

fn start() -> (Server, Port) {
    let mut server = Server::new(&settings());
    let port = server.connect();
    (server, port)
}

#[test]
fn connecting_tells_the_id_and_what_was_sent_along() {
    let mut server = Server::new(&settings());
    for (packet, namespace, auth) in [
        ("40", "", "{}"),
        (r#"40{"token":"123"}"#, "", r#"{"token":"123"}"#),
        ("40/custom", "/custom,", "{}"),
        ("40/custom,", "/custom,", "{}"),
        (r#"40/custom,{"token":"abc"}"#, "/custom,", r#"{"token":"abc"}"#),
    ] {
        let port = server.open(Endpoint::SocketIo);
        let told = server.exchange(port, packet);
        let sid = sid_of(&told[0]);
        assert_eq!(sid.len(), 20);
        assert_eq!(told[0], format!(r#"40{namespace}{{"sid":"{sid}"}}"#));
        assert_eq!(told[1], format!(r#"42{namespace}["auth",{auth}]"#));
    }
}

#[test]
fn a_namespace_that_does_not_exist_is_refused_and_another_may_be_tried() {
    let mut server = Server::new(&settings());
    let port = server.open(Endpoint::SocketIo);
    assert_eq!(server.exchange(port, "40/random"), [r#"44/random,{"message":"Invalid namespace"}"#]);
    assert_eq!(server.exchange(port, "40").len(), 2);
    assert_eq!(server.exchange(port, "40/random,{}"), [r#"44/random,{"message":"Invalid namespace"}"#]);
    assert_eq!(server.exchange(port, r#"42["message"]"#), [r#"42["message-back"]"#]);
}

#[test]
fn who_does_not_connect_in_time_is_closed() {
    let mut server = Server::new(&settings());
    let port = server.open(Endpoint::SocketIo);
    server.say(port, "40/random");
    let session = server.polling(Endpoint::SocketIo);
    for _ in 0..3 {
        server.wait(INTERVAL);
        server.say(port, "3");
        server.post(session.clone(), "3");
    }
    server.told(port);
    let poll = server.get(session.clone());
    assert_eq!(server.told(poll).len(), 1, "pings");
    let poll = server.get(session);
    server.wait(CONNECT_TIMEOUT - 3 * INTERVAL - Duration::from_millis(1));
    assert_eq!(server.told(port), NOTHING);
    server.wait(Duration::from_millis(1));
    assert_eq!(server.told(port), ["close"]);
    assert_eq!(server.told(poll), ["200 1"]);
}

#[test]
fn who_has_connected_once_may_be_without_a_namespace() {
    let (mut server, port) = start();
    assert_eq!(server.exchange(port, "41"), NOTHING);
    server.wait(INTERVAL);
    assert_eq!(server.told(port), ["2"]);
    for _ in 0..4 {
        server.say(port, "3");
        server.wait(INTERVAL);
    }
    assert_eq!(server.told(port), ["2"; 4]);
    assert_eq!(server.exchange(port, "40").len(), 2);
}

#[test]
fn namespaces_are_left_one_by_one() {
    let (mut server, port) = start();
    assert_eq!(server.exchange(port, "40/custom").len(), 2);
    assert_eq!(server.exchange(port, "41/custom"), NOTHING);
    let echo = server.exchange(port, r#"42["message","to main"]"#);
    assert_eq!(echo, [r#"42["message-back","to main"]"#]);
    assert_eq!(server.exchange(port, r#"42/custom,["message"]"#), ["close"]);
}

#[test]
fn events_come_back_with_their_arguments_as_they_were_written() {
    let (mut server, port) = start();
    for (event, back) in [
        (r#"42["message",1,"2",{"3":[true]}]"#, r#"42["message-back",1,"2",{"3":[true]}]"#),
        (r#"42["message"]"#, r#"42["message-back"]"#),
        (r#"42["mess\u0061ge","\ud800",1e999,1.50]"#, r#"42["message-back","\ud800",1e999,1.50]"#),
        (r#"42456["message-with-ack",1,"2",{"3":[false]}]"#, r#"43456[1,"2",{"3":[false]}]"#),
        (r#"420["message-with-ack"]"#, "430[]"),
    ] {
        assert_eq!(server.exchange(port, event), [back]);
    }
    server.say(port, "40/custom");
    server.told(port);
    assert_eq!(server.exchange(port, r#"42/custom,["message",1]"#), [r#"42/custom,["message-back",1]"#]);
    assert_eq!(server.exchange(port, r#"42/custom,7["message-with-ack",1]"#), ["43/custom,7[1]"]);
}

#[test]
fn attachments_follow_their_event_both_ways() {
    let (mut server, port) = start();
    let places = r#"{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}"#;
    for (event, back) in [
        (format!(r#"452-["message",{places}]"#), format!(r#"452-["message-back",{places}]"#)),
        (format!(r#"452-789["message-with-ack",{places}]"#), format!("462-789[{places}]")),
    ] {
        assert_eq!(server.exchange(port, &event), NOTHING);
        server.say_bytes(port, &[1, 2, 3]);
        assert_eq!(server.told(port), NOTHING);
        server.say_bytes(port, &[]);
        assert_eq!(server.told(port), [back, "<010203>".to_owned(), "<>".to_owned()]);
    }
}

#[test]
fn the_same_works_by_polling() {
    let mut server = Server::new(&settings());
    let session = server.polling(Endpoint::SocketIo);
    let body = "40\x1e42[\"message\",1]\x1e451-[\"message\",{\"_placeholder\":true,\"num\":0}]\x1ebAQID";
    assert_eq!(server.post(session.clone(), body), ["200 ok"]);
    let told = server.poll(session.clone()).remove(0);
    let packets: Vec<_> = told.split('\x1e').skip(1).collect();
    let binary = r#"451-["message-back",{"_placeholder":true,"num":0}]"#;
    assert_eq!(packets, [r#"42["auth",{}]"#, r#"42["message-back",1]"#, binary, "bAQID"]);
    let port = server.websocket(over_websocket(&session));
    server.say(port, "2probe");
    server.say(port, "5");
    server.told(port);
    assert_eq!(server.exchange(port, r#"42["message",2]"#), [r#"42["message-back",2]"#]);
}

#[test]
fn what_is_malformed_closes_at_once() {
    for packet in [
        "4",
        "4abc",
        "47",
        "42",
        "42{}",
        "42[]",
        "42[null]",
        "42[{}]",
        r#"42["a""#,
        r#"42["a",]"#,
        r#"42["connect"]"#,
        r#"42["disconnecting",1]"#,
        r#"42abc["message"]"#,
        r#"42/other,["message"]"#,
        r#"42/custom,["message"]"#,
        "40",
        "40[]",
        "41{}",
        "41/custom",
        "43",
        "431{}",
        r#"44{"message":"no"}"#,
        "45",
        "450-[]",
        r#"45["message"]"#,
        r#"451-["message",{"_placeholder":true,"num":1}]"#,
        r#"451-["connect"]"#,
        "451-{}",
        r#"4500-["message"]"#,
        r#"451-/custom,["message"]"#,
        "bAQID",
    ] {
        let (mut server, port) = start();
        assert_eq!(server.exchange(port, packet), ["close"], "{packet}");
        assert_eq!(server.engines.sessions(), 0);
    }
    for packet in ["4abc", "42[\"message\"]", "40[]", "40{", "41", "bAQID"] {
        let mut server = Server::new(&settings());
        let port = server.open(Endpoint::SocketIo);
        assert_eq!(server.exchange(port, packet), ["close"], "{packet} as the first");
        let session = server.polling(Endpoint::SocketIo);
        assert!(server.post(session.clone(), packet.to_owned())[0].starts_with("400 "));
        assert!(server.poll(session)[0].starts_with("400 "));
    }
}

#[test]
fn text_in_the_place_of_an_attachment_closes_and_bytes_out_of_place_too() {
    let (mut server, port) = start();
    server.say(port, r#"451-["message",{"_placeholder":true,"num":0}]"#);
    assert_eq!(server.exchange(port, r#"42["message"]"#), ["close"]);
    let port = server.connect();
    server.say_bytes(port, &[1]);
    assert_eq!(server.told(port), ["close"]);
}

#[test]
fn attachments_that_come_to_more_than_may_be_kept_close() {
    let (mut server, port) = start();
    server.say(port, r#"459-["message",{"_placeholder":true,"num":0}]"#);
    server.say_bytes(port, &[0; 600_000]);
    assert_eq!(server.told(port), NOTHING);
    server.say_bytes(port, &[0; 600_000]);
    assert_eq!(server.told(port), ["close"]);
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
    let mut effects = 0;
    while server.engines.poll_effect().is_some() {
        effects += 1;
        if effects == 1 {
            assert_eq!(server.engines.effects_waiting(), 1099, "of a million");
        }
    }
    assert_eq!(effects, 100 * 10_000 + 1);
    assert_eq!(listeners.len(), 100);
}

#[test]
fn a_server_that_ends_disconnects_its_sockets() {
    let (mut server, port) = start();
    server.say(port, "40/custom");
    server.told(port);
    let session = server.polling(Endpoint::SocketIo);
    server.post(session.clone(), "40");
    server.poll(session.clone());
    let poll = server.get(session);
    server.close_all();
    assert_eq!(server.told(port), ["41", "41/custom,", "close"]);
    assert_eq!(server.told(poll), ["200 41\x1e1"]);
    assert_eq!((server.engines.sessions(), server.engines.poll_timeout()), (0, None));
}
