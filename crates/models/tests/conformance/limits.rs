//! Limits that hold over all clients: topics, memory, and how long something may be held for little.

use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use switchboard_models::{Budget, Family, Mechanism, Model, Workers};

use crate::client::{Client, close_code, eventually};
use crate::engine_client::{self, Engine};
use crate::events::{EventStream, events, post};
use crate::frames::{BINARY, CLOSE, frame, pattern, text};
use crate::http::get;
use crate::server::Server;
use crate::{Case, case};

pub(crate) const CASES: &[Case] = &[
    case!(Poll, the_least_recently_used_topic_is_forgotten_and_goes_on_above_it)
        .with(|settings| settings.app.max_topics = 3),
    case!(EventStream, a_topic_with_subscribers_is_not_forgotten_however_they_leave)
        .with(|settings| settings.app.max_topics = 3),
    case!(LongPoll, a_topic_that_is_waited_for_is_not_forgotten).with(|settings| settings.app.max_topics = 1),
    case!(SocketIo, a_topic_whose_room_somebody_is_in_is_not_forgotten)
        .with(|settings| settings.app.max_topics = 1),
    case!(EventStream, the_subscribers_of_a_process_that_is_killed_are_gone)
        .only(|model| model.family == Family::Process)
        .with(|settings| settings.app.max_topics = 1),
    case!(Broadcast, ten_thousand_topics_of_others_do_not_end_the_default_one)
        .with(|settings| settings.app.max_topics = 100),
    case!(SocketIo, an_address_has_as_many_connections_sessions_and_codes_as_it_may)
        .only(|model| model.family != Family::Process || model.workers != Workers::OnePerCore)
        .with(|settings| settings.app.max_per_address = Some(4)),
    case!(Http, bodies_that_do_not_end_are_held_as_far_as_the_memory_goes).together().with(|settings| {
        settings.app.memory = Budget::new(MEMORY);
        settings.app.handshake_timeout = Duration::from_secs(30);
    }),
    case!(Echo, messages_that_do_not_end_are_held_as_far_as_the_memory_goes)
        .together()
        .only(has_a_budget)
        .with(|settings| settings.app.memory = Budget::new(MEMORY)),
    case!(Echo, echoes_that_nobody_reads_are_held_as_far_as_the_memory_goes)
        .together()
        .only(has_a_budget)
        .with(|settings| settings.app.memory = Budget::new(MEMORY / 4)),
    case!(Poll, pipelined_requests_with_large_answers_are_all_answered),
    case!(Poll, pipelined_requests_with_large_answers_are_all_answered_behind_an_end),
    case!(EventStream, replays_that_nobody_reads_take_little_memory).with(|settings| {
        settings.app.history_events = 10_000;
    }),
    case!(EventStream, a_long_replay_is_whole_however_slowly_it_is_read),
    case!(Http, a_body_that_trickles_is_answered_408)
        .with(|settings| settings.app.handshake_timeout = Duration::from_millis(500)),
    case!(SocketIo, one_body_for_many_sessions_delays_nobody_and_fills_no_memory)
        .with(|settings| settings.app.memory = Budget::new(MEMORY)),
];

const MEMORY: usize = 8 << 20;

/// The control has no session, and says so.
fn has_a_budget(model: &Model) -> bool {
    model.serves.contains(&Mechanism::Http)
}

fn an_address_has_as_many_connections_sessions_and_codes_as_it_may(server: &mut Server) {
    let mut clients: Vec<Client> = (0..4).map(|_| Client::open(server, "/echo")).collect();
    let refused = Client::try_open(server, "/echo").err().expect("there are four");
    assert_eq!((refused.status, refused.header("Switchboard-Refused")), (503, Some("per-address")));
    assert!(refused.body.contains("--max-per-address"), "{refused:?}");
    clients.iter_mut().for_each(|client| client.echo("not disturbed"));
    clients.truncate(3);
    let mut client = None;
    eventually("the place of one that has left is free", || {
        let mut new = Client::connect(server);
        new.send(get("/about.json"));
        let is_served = new.response().status == 200;
        client = is_served.then_some(new);
        is_served
    });
    drop(clients);
    // Of sessions and codes as many, over this one connection.
    let mut client = client.expect("it is served");
    let mut statuses = |request: &[u8]| {
        let mut ask = || {
            client.send(request);
            client.response().status
        };
        (0..6).map(|_| ask()).collect::<Vec<_>>()
    };
    let handshake = get(&engine_client::target("/engine.io/", "polling", ""));
    assert_eq!(statuses(handshake.as_bytes()), [200, 200, 200, 200, 503, 503]);
    assert_eq!(statuses(&engine_client::post("/login/codes", "")), [201, 201, 201, 201, 503, 503]);
}

/// Whether an event can be published on a topic; if not, the refusal says why.
fn publishes(client: &mut Client, topic: &str) -> bool {
    client.send(post(&format!("topic={topic}"), "", b"x"));
    let response = client.response();
    if response.status == 202 {
        return true;
    }
    assert_eq!((response.status, response.header("Switchboard-Refused")), (503, Some("topics")));
    assert!(response.body.contains("--max-topics") && !response.says_close(), "{response:?}");
    false
}

fn the_least_recently_used_topic_is_forgotten_and_goes_on_above_it(server: &mut Server) {
    let mut client = Client::connect(server);
    for topic in ["a", "b", "c"] {
        // To ask for it makes no topic.
        client.ask("/poll?topic=nothing&since=0");
        assert_eq!(client.publish(topic, "x"), 1);
    }
    assert_eq!(client.publish("b", "x"), 2);
    assert_eq!(client.publish("a", "x"), 2);
    // One that has not been there may be one that has been.
    assert_eq!(client.publish("d", "x"), 2);
    assert_eq!(client.publish("c", "x"), 3);
    // So `c` and then `b` went. Whoever had something of it is told, and is not taken for a client of another server.
    let answer = client.ask("/poll?topic=b&since=1");
    assert_eq!(
        (&answer["missed"], &answer["newest"], &answer["restarted"]),
        (&1.into(), &2.into(), &().into())
    );
    assert_eq!(client.publish("b", "again"), 3);
    let answer = client.ask("/poll?topic=b&since=2");
    assert_eq!((events(&answer).len(), &answer["missed"]), (1, &().into()));
    let answer = client.ask("/poll?topic=b&since=1");
    assert_eq!((events(&answer).len(), &answer["missed"]), (1, &1.into()));
    assert!(publishes(&mut client, "e"));
}

fn a_topic_with_subscribers_is_not_forgotten_however_they_leave(server: &mut Server) {
    let mut client = Client::connect(server);
    for leave in [Client::half_close as fn(&Client), |_| {}] {
        let stream = EventStream::open(server, "/events?topic=stream");
        // It may not have been published on yet.
        let mut socket = Client::open(server, "/broadcast?topic=socket");
        let mut other = EventStream::open(server, "/events?topic=other");
        for topic in ["other", "stream", "socket"] {
            assert!(publishes(&mut client, topic));
        }
        other.next();
        assert!(!publishes(&mut client, "new"));
        assert!(publishes(&mut client, "other"));
        socket.message();
        leave(&socket);
        socket.reset();
        eventually("the topic of one that has gone is forgotten", || publishes(&mut client, "new"));
        drop(stream);
        eventually("and that of the next", || {
            publishes(&mut client, "newer") && publishes(&mut client, "new")
        });
        other.next();
        drop(other);
        eventually("and all of them", || {
            ["one", "two", "three"].iter().all(|topic| publishes(&mut client, topic))
        });
    }
}

fn a_topic_that_is_waited_for_is_not_forgotten(server: &mut Server) {
    let mut client = Client::connect(server);
    let mut waiting = Client::connect(server);
    for round in 0..3 {
        eventually("it is waited for", || {
            client.publish("a", "x");
            let since = client.ask("/poll?topic=a")["newest"].clone();
            waiting.send(get(&format!("/longpoll?topic=a&since={since}")));
            let is_waited_for = !publishes(&mut client, &format!("not-{round}"));
            if !is_waited_for {
                // It had not been read yet, and the topic is forgotten. The next event answers it in any case.
                client.publish("a", "y");
                waiting.response();
            }
            is_waited_for
        });
        assert!(publishes(&mut client, "a"));
        assert_eq!(events(&waiting.response().json()).len(), 1);
        eventually("nobody waits any more", || publishes(&mut client, &format!("new-{round}")));
    }
    drop(waiting);
}

fn a_topic_whose_room_somebody_is_in_is_not_forgotten(server: &mut Server) {
    let mut client = Client::connect(server);
    for round in 0..2 {
        for mut engine in Engine::both(server, "/socket.io/") {
            engine.connect("", "");
            engine.send(&[r#"421["join","a"]"#]);
            engine.expect(&["431[]"]);
            assert!(publishes(&mut client, "a"));
            assert!(engine.next().starts_with("42"), "who is in the room hears it");
            assert!(!publishes(&mut client, &format!("not-{round}")));
            // One leaves the room, the next all of the session.
            if round == 0 {
                engine.send(&[r#"422["leave","a"]"#]);
            } else {
                engine.send(&["1"]);
                engine.expect_end(server);
            }
            eventually("the room is empty", || publishes(&mut client, "other"));
        }
    }
}

fn the_subscribers_of_a_process_that_is_killed_are_gone(server: &mut Server) {
    let before = server.children();
    let mut stream = EventStream::open(server, "/events?topic=a");
    let mut socket = Client::open(server, "/broadcast?topic=a");
    let mut client = Client::connect(server);
    assert!(publishes(&mut client, "a"));
    stream.next();
    socket.message();
    assert!(!publishes(&mut client, "new"));
    drop(client);
    let is_worker = server.model.workers == Workers::OnePerCore;
    for child in server.children().into_iter().filter(|child| is_worker || !before.contains(child)) {
        // One may have ended by itself.
        let _ = kill(child, Signal::SIGKILL);
    }
    eventually("nobody has subscribed any more", || publishes(&mut Client::connect(server), "new"));
}

fn ten_thousand_topics_of_others_do_not_end_the_default_one(server: &mut Server) {
    let mut client = Client::connect(server);
    for batch in 0..100 {
        let requests: Vec<u8> =
            (0..100).flat_map(|i| post(&format!("topic=t{batch}-{i}"), "", b"x")).collect();
        client.send(requests);
        (0..100).for_each(|_| assert_eq!(client.response().status, 202));
    }
    let mut socket = Client::open(server, "/broadcast");
    socket.echo("there is always a place for this");
}

/// Whether a client has been sent something, or its connection's end.
fn has_answer(client: &Client) -> bool {
    client.stream.set_nonblocking(true).expect("a socket can be set");
    let peeked = client.stream.peek(&mut [0]);
    client.stream.set_nonblocking(false).expect("a socket can be set");
    peeked.map_or_else(|error| error.kind() != ErrorKind::WouldBlock, |_| true)
}

/// Sends as much of this as a server takes that may not want it.
fn push(client: &mut Client, bytes: &[u8]) {
    client.stream.set_nonblocking(true).expect("a socket can be set");
    let patience = Instant::now() + Duration::from_secs(1);
    let mut sent = 0;
    while sent < bytes.len() && Instant::now() < patience {
        match client.stream.write(&bytes[sent..]) {
            Ok(written) => sent += written,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                std::thread::sleep(Duration::from_millis(1))
            }
            Err(_) => break,
        }
    }
    client.stream.set_nonblocking(false).expect("a socket can be set");
}

/// Has three times as many clients as there is memory for hold a mebibyte each, until some are refused; checks that no more is held than may be, and that
/// others are served. Returns one that was refused.
fn hold_until_refused(server: &mut Server, begin: impl Fn(&Server) -> Client) -> Client {
    const EACH: usize = 1 << 20;
    let before = server.resident_bytes();
    let mut clients: Vec<Client> = (0..3 * MEMORY / EACH).map(|_| begin(server)).collect();
    // In turns, as clients do.
    for _ in 0..8 {
        clients.iter_mut().for_each(|client| push(client, &[b'x'; EACH / 8]));
    }
    let is_full = |clients: &[Client]| clients.iter().filter(|client| has_answer(client)).count() >= 12;
    eventually("some are refused", || is_full(&clients));
    // A thread or a process each.
    let more = server.resident_bytes().saturating_sub(before);
    let each = if server.model.family == Family::Process { 4 << 20 } else { 256 << 10 };
    let limit = 2 * MEMORY as u64 + clients.len() as u64 * each;
    assert!(more < limit, "{more} bytes held for {} clients", clients.len());
    // Others go on, with what is short.
    let mut other = Client::connect(server);
    other.send(get("/poll?topic=t"));
    assert_eq!(other.response().status, 200);
    Client::open(server, "/echo").echo("short");
    let refused = clients.iter().position(has_answer).expect("some are");
    clients.swap_remove(refused)
}

fn bodies_that_do_not_end_are_held_as_far_as_the_memory_goes(server: &mut Server) {
    let begin = |server: &Server| {
        let mut client = Client::connect(server);
        client.send("POST /publish?topic=t HTTP/1.1\r\nHost: h\r\nContent-Length: 10000000\r\n\r\n");
        client
    };
    let mut refused = hold_until_refused(server, begin);
    let response = refused.response();
    assert_eq!((response.status, response.header("Switchboard-Refused")), (503, Some("memory")));
    assert!(response.body.contains("--max-memory"), "{response:?}");
}

fn messages_that_do_not_end_are_held_as_far_as_the_memory_goes(server: &mut Server) {
    let begin = |server: &Server| {
        let mut client = Client::open(server, "/echo");
        // A frame of ten million bytes, masked by zeros.
        client.send(b"\x82\xFF\0\0\0\0\0\x98\x96\x80\0\0\0\0");
        client
    };
    let mut refused = hold_until_refused(server, begin);
    let close = refused.frame();
    assert_eq!((close.opcode, close_code(&close)), (CLOSE, Some(1013)));
    assert!(String::from_utf8_lossy(&close.payload).contains("--max-memory"));
}

fn echoes_that_nobody_reads_are_held_as_far_as_the_memory_goes(server: &mut Server) {
    let before = server.resident_bytes();
    let message = frame(BINARY, pattern(1 << 20));
    let mut clients: Vec<Client> = (0..24).map(|_| Client::connect_narrow(server).upgrade("/echo")).collect();
    // What the kernel takes of the answers is not the server's.
    for _ in 0..6 {
        clients.iter_mut().for_each(|client| push(client, &message));
    }
    let more = server.resident_bytes().saturating_sub(before);
    let each = if server.model.family == Family::Process { 4 << 20 } else { 512 << 10 };
    assert!(more < MEMORY as u64 + clients.len() as u64 * each, "{more} bytes held for {}", clients.len());
    Client::open(server, "/echo").echo("short");
}

const LARGE: usize = 2_000_000;

fn pipeline(server: &mut Server, has_ended: bool) {
    let mut client = Client::connect(server);
    client.publish("t", pattern(LARGE).iter().map(|byte| byte % 64 + 32).collect::<Vec<u8>>());
    client.send(get("/poll?topic=t&since=0").repeat(5));
    if has_ended {
        client.half_close();
    }
    for _ in 0..5 {
        let response = client.response();
        assert_eq!((response.status, events(&response.json()).len()), (200, 1));
    }
    match has_ended {
        true => client.expect_end(),
        false => drop(client.ask("/poll?topic=t")),
    }
}

fn pipelined_requests_with_large_answers_are_all_answered(server: &mut Server) {
    pipeline(server, false);
}

fn pipelined_requests_with_large_answers_are_all_answered_behind_an_end(server: &mut Server) {
    pipeline(server, true);
}

/// Fills the history of the topic `t`.
fn fill(server: &Server, count: usize, size: usize) {
    let mut publisher = Client::connect(server);
    for batch in 0..count / 50 {
        let number = |i| format!("{:06}{}", batch * 50 + i, "x".repeat(size));
        let requests: Vec<u8> = (0..50).flat_map(|i| post("topic=t", "", number(i).as_bytes())).collect();
        publisher.send(requests);
        (0..50).for_each(|_| assert_eq!(publisher.response().status, 202));
    }
}

fn replays_that_nobody_reads_take_little_memory(server: &mut Server) {
    // 10 MB of small events, which are copied for each.
    fill(server, 10_000, 1000);
    let before = server.resident_bytes();
    let clients: Vec<Client> = (0..20)
        .map(|i| {
            let mut client = Client::connect_narrow(server);
            match i % 2 {
                0 => client.send(get("/events?topic=t&since=0")),
                _ => client = client.upgrade("/broadcast?topic=t&since=0"),
            }
            client.take(100);
            client
        })
        .collect();
    let more = server.resident_bytes().saturating_sub(before);
    // A child of `fork` has the pages of its parent's history as well, until either of them writes there.
    let each = match server.model.family == Family::Process {
        true => before + (4 << 20),
        false => 1 << 20,
    };
    assert!(more < clients.len() as u64 * each + (8 << 20), "{more} bytes held for {}", clients.len());
}

fn a_long_replay_is_whole_however_slowly_it_is_read(server: &mut Server) {
    fill(server, 500, 10_000);
    let mut stream = Client::connect_narrow(server);
    stream.send(get("/events?topic=t&since=0"));
    let mut stream = EventStream::begun(stream);
    let mut socket = Client::connect_narrow(server).upgrade("/broadcast?topic=t&since=0");
    let mut publisher = Client::connect(server);
    for i in 0..600 {
        // Others go on publishing while it is replayed.
        if i < 100 {
            publisher.publish("t", format!("{:06}", 500 + i));
        }
        assert_eq!(stream.next().data[..6], format!("{i:06}"));
        assert_eq!(socket.message().1[..6], *format!("{i:06}").as_bytes());
    }
    publisher.publish("t", "the last");
    assert_eq!(stream.next().data, "the last");
    socket.expect_text("the last");
}

fn a_body_that_trickles_is_answered_408(server: &mut Server) {
    for framing in ["Content-Length: 1000000", "Transfer-Encoding: chunked"] {
        let mut client = Client::connect(server);
        client.send(format!("POST /publish?topic=t HTTP/1.1\r\nHost: h\r\n{framing}\r\n\r\n"));
        if framing.contains("chunked") {
            client.send("f4240\r\n");
        }
        client.send(vec![b'x'; 100_000]);
        client.stream.set_read_timeout(Some(Duration::from_millis(50))).expect("a socket can be set");
        let mut first = [0; 1];
        eventually("it is answered", || {
            // It may have been answered by now.
            let _ = client.stream.write(b"x");
            matches!(client.stream.peek(&mut first), Ok(1))
        });
        client.stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket can be set");
        let mut answer = [0; 12];
        client.stream.read_exact(&mut answer).expect("an answer");
        assert_eq!(&answer, b"HTTP/1.1 408");
    }
}

fn one_body_for_many_sessions_delays_nobody_and_fills_no_memory(server: &mut Server) {
    const SESSIONS: usize = 300;
    let before = server.resident_bytes();
    let mut client = Client::connect(server);
    let open = engine_client::target("/socket.io/", "polling", "");
    for _ in 0..SESSIONS {
        client.send(get(&open));
        let packet = client.response().packets().remove(0);
        let sid = engine_client::opening(&packet)["sid"].as_str().expect("an id").to_owned();
        client.send(engine_client::post(&engine_client::target("/socket.io/", "polling", &sid), "40"));
        client.response().expect_ok();
    }
    let mut sender = Engine::polling(server, "/socket.io/");
    sender.connect("", "");
    let Engine::Polling(polling) = &sender else { panic!("it polls") };
    let body = vec![r#"42["to-others"]"#; 14_000].join("\x1e");
    let target = polling.target();
    let mut poster = Client::connect(server);
    poster.send(engine_client::post(&target, &body));
    // Somebody else is served meanwhile.
    let mut other = Client::open(server, "/echo");
    (0..20).for_each(|_| other.echo("hello"));
    other.send(text("bye"));
    assert_eq!(poster.response().status, 200);
    let more = server.resident_bytes().saturating_sub(before);
    assert!(more < 40 << 20, "{more} bytes held");
}
