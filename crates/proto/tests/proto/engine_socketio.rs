//! Socket.IO as its clients see it: connecting, packets, attachments, and what is malformed.

use std::time::Duration;

use switchboard_proto::Port;
use switchboard_proto::engine::Endpoint;

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
