//! Socket.IO v5 (<https://socket.io/docs/v4/socket-io-protocol/>) over both transports: namespaces, events, acknowledgements, attachments, and rooms,
//! which are topics.

use std::time::{Duration, Instant};

use crate::client::{Client, Named, eventually, upgrade_request};
use crate::engine_client::{BARE, BLOBS, Engine, Polling, SESSION_UNKNOWN, SOCKETIO, opening, target};
use crate::events::{Event, EventStream, events};
use crate::frames::{BINARY, frame, text};
use crate::server::Server;
use crate::{Case, case};

pub(crate) const CASES: &[Case] = &[
    case!(SocketIo, a_client_connects_to_each_namespace_with_its_auth),
    case!(SocketIo, arguments_come_back_as_they_were_sent),
    case!(SocketIo, an_attachment_may_be_written_as_other_clients_do),
    case!(SocketIo, an_event_with_an_attachment_may_hold_what_one_without_may),
    case!(SocketIo, what_would_break_those_who_hear_it_is_not_passed_on),
    case!(SocketIo, the_server_asks_and_is_answered),
    case!(SocketIo, an_event_goes_to_me_to_others_or_to_all_whatever_their_transport),
    case!(SocketIo, everybody_hears_several_who_talk_at_once_in_the_same_order)
        .with(|settings| settings.work = Duration::from_millis(1)),
    case!(SocketIo, a_room_is_a_topic),
    case!(SocketIo, all_of_a_namespace_take_part_in_the_chat),
    case!(SocketIo, who_does_not_connect_in_time_is_closed)
        .with(|settings| settings.app.engine.connect_timeout = CONNECT_TIMEOUT),
    case!(SocketIo, who_does_not_poll_is_closed_and_delays_nobody)
        .with(|settings| settings.app.max_unsent_bytes = 100_000),
];

const CONNECT_TIMEOUT: Duration = Duration::from_millis(120);

fn a_client_connects_to_each_namespace_with_its_auth(server: &mut Server) {
    let mut ids = Vec::new();
    for mut client in Engine::both(server, SOCKETIO) {
        client.send(&["40/nowhere,{\"token\":1}", "40/nowhere"]);
        let refusal = r#"44/nowhere,{"message":"Invalid namespace"}"#;
        client.expect(&[refusal, refusal]);
        ids.push(client.connect("", r#"{"token":"123","deep":[{"a":null}]}"#));
        ids.push(client.connect("/custom,", ""));
        // Each of them is left by itself.
        client.send(&[r#"42["message","here"]"#, r#"42/custom,["message","there"]"#]);
        client.expect(&[r#"42["message-back","here"]"#, r#"42/custom,["message-back","there"]"#]);
        client.send(&["41", r#"42/custom,["message","still there"]"#]);
        client.expect(&[r#"42/custom,["message-back","still there"]"#]);
        ids.push(client.connect("", "{}"));
        client.send(&["41/custom,"]);
        ids.push(client.connect("/custom,", r#"{ "spaced" : true }"#));
        // The server may be asked to disconnect as well.
        client.send(&[r#"42/custom,["disconnect-me"]"#, r#"42["message"]"#]);
        client.expect(&["41/custom,", r#"42["message-back"]"#]);
        client.send_the_last(server, &[r#"42/custom,["message"]"#]);
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 8, "every socket has an id of its own: {ids:?}");
}

fn arguments_come_back_as_they_were_sent(server: &mut Server) {
    let lists = ["", "1", r#""two",[3,{"four":null}],"fünf \ud83e\udd80 🦀",1.5e300,true"#];
    let long = format!(r#""{}""#, "lång ".repeat(20_000));
    for (mut client, prefix) in Engine::both(server, SOCKETIO).into_iter().zip(["/custom,", ""]) {
        client.connect(prefix, "");
        for (arguments, id) in lists.into_iter().chain([&long[..]]).zip([0, 7, 12, 1_u64 << 50]) {
            let comma = if arguments.is_empty() { "" } else { "," };
            client.send(&[&format!(r#"42{prefix}["message"{comma}{arguments}]"#)]);
            client.expect(&[&format!(r#"42{prefix}["message-back"{comma}{arguments}]"#)]);
            client.send(&[&format!(r#"42{prefix}{id}["message-with-ack"{comma}{arguments}]"#)]);
            client.expect(&[&format!(r#"43{prefix}{id}[{arguments}]"#)]);
        }
        // An attachment is a packet of its own behind that of the event; one may be used twice.
        let [a, b, empty] = BLOBS.map(|(_, base64)| base64);
        let places = r#"{"_placeholder":true,"num":0},"x",{"deep":[{"_placeholder":true,"num":2},{"num":1,"_placeholder":true}]}"#;
        client.send(&[&format!(r#"453-{prefix}["message",{places}]"#), a, empty, b]);
        client.expect(&[&format!(r#"453-{prefix}["message-back",{places}]"#), a, empty, b]);
        client.send(&[&format!(r#"453-{prefix}4["message-with-ack",{places}]"#)]);
        [a, empty, b].iter().for_each(|blob| client.send(&[blob]));
        client.expect(&[&format!(r#"463-{prefix}4[{places}]"#), a, empty, b]);
        // What nobody knows and what asks for nothing is no harm.
        client.send(&[
            &format!(r#"42{prefix}1["nobody listens to this"]"#),
            &format!(r#"42{prefix}["message-with-ack"]"#),
            &format!(r#"42{prefix}[5]"#),
            &format!(r#"43{prefix}77["never asked"]"#),
            &format!(r#"42{prefix}["message","the end"]"#),
        ]);
        client.expect(&[&format!(r#"42{prefix}["message-back","the end"]"#)]);
    }
}

fn an_attachment_may_be_written_as_other_clients_do(server: &mut Server) {
    let mut session = Polling::open(server, SOCKETIO);
    session.post("40").expect_ok();
    assert!(session.next().starts_with("40{") && session.next().starts_with(r#"42["auth""#));
    let event = r#"451-["message",{"_placeholder":true,"num":0}]"#;
    // Java's encoder ends each line after 76 characters, and the last one too.
    let plain = "QUJD".repeat(50);
    let lines = |end: &str| {
        let lines = plain.as_bytes().chunks(76).map(|line| format!("{}{end}", str::from_utf8(line).unwrap()));
        format!("b{}", lines.collect::<String>())
    };
    let expected = format!("b{plain}");
    for written in [expected.clone(), lines("\n"), lines("\r\n"), lines(" "), lines("\t\n")] {
        session.post(format!("{event}\u{1e}{written}")).expect_ok();
        assert_eq!(
            [session.next(), session.next()],
            [event.replace("message", "message-back"), expected.clone()]
        );
    }
    // The alphabet of URLs, no padding, and bits left over, as Node's decoder takes them.
    for (written, expected) in [
        ("b-_8=", "b+/8="),
        ("b-_8", "b+/8="),
        ("bAP_-Hg", "bAP/+Hg=="),
        ("bAQIDBB==", "bAQIDBA=="),
        ("b\n", "b"),
    ] {
        session.post(format!("{event}\u{1e}{written}")).expect_ok();
        assert_eq!(session.next(), event.replace("message", "message-back"));
        assert_eq!(session.next(), expected, "{written:?}");
    }
}

fn an_event_with_an_attachment_may_hold_what_one_without_may(server: &mut Server) {
    let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
    let objects = format!("{}1{}", r#"{"a":"#.repeat(3000), "}".repeat(3000));
    let long = "9".repeat(400);
    let arguments = [
        r#""\ud800 and \udc00""#,
        r#"{"\udfff":"\ud83e"}"#,
        "1e999",
        "-1E+400",
        "123456789012345678901234567890.5e-7",
        &long,
        &deep,
        &objects,
        r#"{"_placeholder":false,"num":99}"#,
        r#"{"_placeholder":true,"_placeholder":1,"num":99}"#,
        r#"{"\u005fplaceholder":true,"num":0e0}"#,
        r#"{"_placeholder":true,"num":99,"num":0.0}"#,
        r#"{"_placeholder" : true , "num" : -0}"#,
        r#"["_placeholder",true,{"num":99,"x":{"_placeholder":"true"}}]"#,
    ];
    let blob = r#"{"_placeholder":true,"num":0}"#;
    for mut client in Engine::both(server, SOCKETIO).map(Engine::connected) {
        for argument in arguments {
            let _on_failure = Named(argument.chars().take(60).collect());
            client.send(&[&format!(r#"42["message",{argument}]"#)]);
            client.expect(&[&format!(r#"42["message-back",{argument}]"#)]);
            client.send(&[&format!(r#"451-["message",{argument},{blob}]"#), BLOBS[0].1]);
            client.expect(&[&format!(r#"451-["message-back",{argument},{blob}]"#), BLOBS[0].1]);
            client.send(&[&format!(r#"451-["message",{blob},[{argument}]]"#), BLOBS[0].1]);
            client.expect(&[&format!(r#"451-["message-back",{blob},[{argument}]]"#), BLOBS[0].1]);
        }
    }
}

fn what_would_break_those_who_hear_it_is_not_passed_on(server: &mut Server) {
    // Clients put attachments into their places by recursion, and some parse by it: one event of these would disconnect all who hear it.
    let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    let blob = r#"{"_placeholder":true,"num":0}"#;
    let mut member = Engine::websocket(server, SOCKETIO).connected();
    for is_polling in [true, false] {
        // One after the other, or they would hear each other.
        let sender =
            if is_polling { Engine::polling(server, SOCKETIO) } else { Engine::websocket(server, SOCKETIO) };
        let mut sender = sender.connected();
        for event in ["to-others", "to-all", "chat message - client"] {
            sender.send(&[&format!(r#"427["{event}",{}]"#, deep(5000))]);
            let answer = sender.next();
            assert!(answer.starts_with(r#"437[{"error":""#) && answer.contains("levels"), "{answer}");
            sender.send(&[&format!(r#"451-["{event}",{},{blob}]"#, deep(5000)), BLOBS[0].1]);
        }
        sender.send(&[&format!(r#"451-["to-others",{},{blob}]"#, deep(500)), BLOBS[0].1]);
        member.expect(&[&format!(r#"451-["to-others",{},{blob}]"#, deep(500)), BLOBS[0].1]);
        // A client of today takes ten attachments, and so does the server that its makers wrote.
        let many = |count: usize| format!(r#"45{count}-["message",{blob}]"#);
        let ten: Vec<&str> = std::iter::repeat_n(BLOBS[0].1, 10).collect();
        sender.send(&[&many(10)]);
        ten.iter().for_each(|blob| sender.send(&[blob]));
        sender.expect(&[&many(10).replace("message", "message-back")]);
        sender.expect(&ten);
        sender.send_the_last(server, &[&many(11)]);
    }
}

fn the_server_asks_and_is_answered(server: &mut Server) {
    let place = r#"{"_placeholder":true,"num":0}"#;
    for client in Engine::both(server, SOCKETIO) {
        let mut client = client.connected();
        client.send(&[r#"42["ask-me","a"]"#, r#"42["ask-me"]"#]);
        client.expect(&[r#"420["question","a"]"#, r#"421["question"]"#]);
        client.send(&[r#"431["first",1]"#, r#"431["again"]"#, &format!(r#"461-0[{place}]"#), BLOBS[0].1]);
        client.expect(&[r#"42["answered","first",1]"#, &format!(r#"451-["answered",{place}]"#), BLOBS[0].1]);
        client.send(&[r#"42["message","the end"]"#]);
        client.expect(&[r#"42["message-back","the end"]"#]);
    }
}

fn an_event_goes_to_me_to_others_or_to_all_whatever_their_transport(server: &mut Server) {
    let mut clients: Vec<Engine> = (0..2).flat_map(|_| Engine::both(server, SOCKETIO)).collect();
    let mut ids: Vec<String> = clients.iter_mut().map(|client| client.connect("", "")).collect();
    // Somebody who is only elsewhere hears nothing of it.
    let mut stranger = Engine::websocket(server, SOCKETIO);
    stranger.connect("/custom,", "");
    // One that polls is asked while its GET is held, the other one comes later.
    if let Engine::Polling(polling) = &mut clients[0] {
        polling.hold();
    }
    let place = r#"{"_placeholder":true,"num":0}"#;
    for sender in 0..clients.len() {
        let all = [format!(r#"42["to-all",{sender}]"#), format!(r#"451-["to-all",{place}]"#)];
        clients[sender].send(&[&all[0], &all[1], BLOBS[0].1]);
        for client in &mut clients {
            client.expect(&[&all[0], &all[1], BLOBS[0].1]);
        }
        let (to_others, to_me) = (format!(r#"42["to-others",{sender}]"#), format!(r#"42["to-me",{sender}]"#));
        clients[sender].send(&[&to_others, &to_me]);
        for (i, client) in clients.iter_mut().enumerate() {
            client.expect(&[if i == sender { &to_me } else { &to_others }]);
        }
        // Everybody may know who is there.
        clients[sender].send(&[r#"421["clients"]"#]);
        let answer = clients[sender].next();
        let answer: serde_json::Value =
            serde_json::from_str(answer.strip_prefix("431").expect("an acknowledgement")).expect("JSON");
        let mut there: Vec<String> = serde_json::from_value(answer[0].clone()).expect("a list of ids");
        there.sort();
        ids.sort();
        assert_eq!(there, ids);
    }
    stranger.send(&[r#"42/custom,["to-all"]"#]);
    stranger.expect(&[r#"42/custom,["to-all"]"#]);
}

fn everybody_hears_several_who_talk_at_once_in_the_same_order(server: &mut Server) {
    const EACH: usize = 10;
    let mut clients: Vec<Engine> = (0..2).flat_map(|_| Engine::both(server, SOCKETIO)).collect();
    clients.iter_mut().for_each(|client| drop(client.connect("", "")));
    // Each message takes the server a while, so that what others have said is there before an answer is.
    for number in 0..EACH {
        for (who, client) in clients.iter_mut().enumerate() {
            client.send(&[&format!(r#"42["to-all",{who},{number}]"#)]);
        }
    }
    let all = EACH * clients.len();
    let heard: Vec<Vec<String>> =
        clients.iter_mut().map(|client| (0..all).map(|_| client.next()).collect()).collect();
    for (who, list) in heard.iter().enumerate() {
        assert_eq!(list, &heard[0], "what {who} hears");
        let mine: Vec<&String> =
            list.iter().filter(|text| text.contains(&format!(r#""to-all",{who},"#))).collect();
        let sent: Vec<String> = (0..EACH).map(|number| format!(r#"42["to-all",{who},{number}]"#)).collect();
        assert_eq!(mine, sent.iter().collect::<Vec<_>>());
    }
}

fn a_room_is_a_topic(server: &mut Server) {
    let mut clients = Engine::both(server, SOCKETIO).map(Engine::connected);
    let mut custom = Engine::websocket(server, SOCKETIO);
    custom.connect("/custom,", "");
    let mut stream = EventStream::open(server, "/events?topic=r%C3%B6om");
    let mut websocket = Client::open(server, "/broadcast?topic=r%C3%B6om");
    let mut poster = Client::connect(server);
    clients.iter_mut().for_each(|client| {
        client.send(&[r#"420["join","röom"]"#, r#"421["join","röom"]"#, r#"422["join",""]"#]);
        client.expect(&["430[]", "431[]", r#"432[{"error":"join takes the name of a room"}]"#]);
    });
    custom.send(&[r#"42/custom,5["join","r\u00f6om"]"#]);
    custom.expect(&["43/custom,5[]"]);
    let mut id = 0;
    let mut everywhere = |clients: &mut [Engine], event: &str, data: &str| {
        id += 1;
        let tail = format!(r#"["{event}","{data}",{{"topic":"röom","id":{id}}}]"#);
        clients.iter_mut().for_each(|client| client.expect(&[&format!("42{tail}")]));
        custom.expect(&[&format!("42/custom,{tail}")]);
        stream.expect([Event { id, event: event.into(), data: data.into() }]);
        websocket.expect_text(data);
        id
    };
    // By whichever mechanism it is published, everyone gets it by its own.
    assert_eq!(
        poster.publish_to("topic=r%C3%B6om&event=news", "posted"),
        everywhere(&mut clients, "news", "posted")
    );
    for sender in 0..2 {
        clients[sender].send(&[r#"427["publish","röom",null,"sent"]"#]);
        let number = clients[sender].next();
        assert_eq!(number, format!("437[{}]", everywhere(&mut clients, "message", "sent")));
        clients[sender].send(&[r#"42["publish","röom","named","too"]"#]);
        everywhere(&mut clients, "named", "too");
    }
    websocket.send(text("said"));
    websocket.expect_text("said");
    stream.expect([Event::message(6, "said")]);
    let said = r#"["message","said",{"topic":"röom","id":6}]"#;
    clients.iter_mut().for_each(|client| client.expect(&[&format!("42{said}")]));
    custom.expect(&[&format!("42/custom,{said}")]);
    // Bytes are an attachment.
    websocket.send(frame(BINARY, BLOBS[1].0));
    let place = r#"{"_placeholder":true,"num":0}"#;
    let bytes = format!(r#"["message",{place},{{"topic":"röom","id":7}}]"#);
    clients.iter_mut().for_each(|client| client.expect(&[&format!("451-{bytes}"), BLOBS[1].1]));
    custom.expect(&[&format!("451-/custom,{bytes}"), BLOBS[1].1]);
    clients[1].send(&[&format!(r#"451-["publish","röom",null,{place}]"#), BLOBS[0].1]);
    assert_eq!(clients[0].next(), bytes.replace(":7", ":8").replacen('[', "451-[", 1));
    clients[0].expect(&[BLOBS[0].1]);
    assert_eq!(poster.ask("/poll?topic=r%C3%B6om&since=7")["events"][0]["base64"], &BLOBS[0].1[1..]);
    clients[1].expect(&[&format!("451-{}", bytes.replace(":7", ":8")), BLOBS[0].1]);
    // What is neither is JSON, as text.
    clients[0].send(&[r#"421["publish","röom",null,{"a":[1]}]"#]);
    let mut next = vec![clients[0].next(), clients[0].next()];
    clients[0].send(&[r#"422["publish","röom"]"#]);
    next.push(clients[0].next());
    assert_eq!(next[0], "431[9]");
    assert_eq!(next[1], r#"42["message","{\"a\":[1]}",{"topic":"röom","id":9}]"#);
    assert!(next[2].starts_with(r#"432[{"error":"#), "{}", next[2]);
    clients[1].expect(&[&next[1]]);
    // Who leaves hears no more, who is gone as little.
    clients[0].send(&[r#"428["leave","röom"]"#]);
    clients[0].expect(&["438[]"]);
    let [mut left, gone] = clients;
    drop(gone);
    poster.publish("r%C3%B6om", "not for all");
    poster.publish("another", "for nobody");
    left.send(&[r#"42["message","the end"]"#]);
    left.expect(&[r#"42["message-back","the end"]"#]);
    assert_eq!(events(&poster.ask("/poll?topic=r%C3%B6om&since=9")), [Event::message(10, "not for all")]);
}

fn all_of_a_namespace_take_part_in_the_chat(server: &mut Server) {
    let mut clients = Engine::both(server, SOCKETIO).map(Engine::connected);
    let mut stream = EventStream::open(server, "/events?topic=chat");
    let event = |id, data: &str| Event { id, event: "chat message - server".into(), data: data.into() };
    for (sender, id) in [(0, 1), (1, 2)] {
        clients[sender].send(&[r#"423["chat message - client","hello"]"#]);
        let mut packets = vec![clients[sender].next(), clients[sender].next()];
        packets.sort();
        assert_eq!(packets, [r#"42["chat message - server","hello"]"#.to_owned(), format!("433[{id}]")]);
        clients[1 - sender].expect(&[r#"42["chat message - server","hello"]"#]);
        stream.expect([event(id, "hello")]);
    }
    Client::connect(server).publish("chat", "posted");
    clients.iter_mut().for_each(|client| client.expect(&[r#"42["chat message - server","posted"]"#]));
    stream.expect([Event::message(3, "posted")]);
}

fn who_does_not_connect_in_time_is_closed(server: &mut Server) {
    let start = Instant::now();
    // Its first packets come with its handshake, so that no time passes between them.
    let begin = |endpoint: &str, packet: &str| {
        let mut client = Client::connect(server);
        let request = upgrade_request(&target(endpoint, "websocket", ""));
        client.send([request.as_bytes(), &text(packet)].concat());
        let mut client = client.upgraded().expect("a WebSocket");
        opening(&String::from_utf8(client.message().1).expect("text"));
        Engine::WebSocket(client)
    };
    let mut there = begin(SOCKETIO, "40");
    let mut nowhere = begin(SOCKETIO, "40/nowhere,");
    let mut bare = begin(BARE, "4hello");
    let mut lazy = Polling::open(server, SOCKETIO);
    nowhere.expect(&[r#"44/nowhere,{"message":"Invalid namespace"}"#]);
    nowhere.expect_end(server);
    assert!(start.elapsed() >= CONNECT_TIMEOUT, "it has its time");
    eventually("the session has ended that polls", || {
        let response = lazy.post("6");
        response.status == 400 && response.json()["code"] == SESSION_UNKNOWN
    });
    Engine::websocket(server, SOCKETIO).expect_end(server);
    // Who has connected stays, even if it leaves again; and the bare engine knows nothing of this.
    assert!(there.next().starts_with("40{"));
    there.send(&["41"]);
    Engine::websocket(server, SOCKETIO).expect_end(server);
    assert_eq!(there.next(), r#"42["auth",{}]"#);
    there.connect("", "");
    bare.send(&["4still here"]);
    bare.expect(&["4hello", "4still here"]);
}

fn who_does_not_poll_is_closed_and_delays_nobody(server: &mut Server) {
    let mut lazy = Engine::polling(server, SOCKETIO).connected();
    let mut clients = Engine::both(server, SOCKETIO).map(Engine::connected);
    let long = "x".repeat(30_000);
    for i in 0..10 {
        let event = format!(r#"42["to-all",{i},"{long}"]"#);
        clients[i % 2].send(&[&event]);
        clients.iter_mut().for_each(|client| client.expect(&[&event]));
    }
    lazy.expect_end(server);
}
