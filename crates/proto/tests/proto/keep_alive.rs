//! Many requests on one connection: in their order, in their time, and not more than can be held.

use switchboard_proto::{App, CloseReason, Kind, LINGER, Session};

use super::frames::{TEXT, masked, plain};
use super::pair::{TICK, Wire, secs, upgrade};

fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n")
}

fn post(body: &str) -> String {
    format!("POST /publish?topic=t HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// The status codes of these answers, which hold no others in their bodies.
fn statuses(answers: &str) -> Vec<&str> {
    answers.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect()
}

fn short() -> App {
    App { handshake_timeout: secs(10), keep_alive: secs(60), ..App::default() }
}

#[test]
fn a_connection_between_two_requests_is_ended_after_the_patience_for_that() {
    let mut wire = Wire::new(short());
    for _ in 0..5 {
        assert_eq!(statuses(&wire.ask(get("/"))), ["200"]);
        wire.wait(secs(60) - TICK);
        assert!(!wire.is_closed());
    }
    // Empty lines begin no request.
    wire.send(b"\r\n\n\r\n");
    wire.wait(TICK);
    assert!(wire.is_closed());
    assert_eq!(wire.take_text(), "", "nothing was asked");
}

#[test]
fn every_request_has_its_time_from_its_first_byte_on() {
    let mut wire = Wire::new(short());
    for begun in ["G", "GET / HTTP/1.1\r\nHost: h\r\n"] {
        assert_eq!(statuses(&wire.ask(get("/"))), ["200"]);
        wire.wait(secs(50));
        wire.send(begun.as_bytes());
        wire.wait(secs(10) - TICK);
        assert_eq!(statuses(&wire.ask(&get("/")[begun.len().min(27)..])), ["200"], "{begun}");
    }
    // One drop after the other gains no time.
    wire.wait(secs(50));
    for byte in &b"GET / HTTP"[..] {
        assert_eq!(wire.take_text(), "");
        wire.send(&[*byte]);
        wire.wait(secs(1));
    }
    assert_eq!(statuses(&wire.take_text()), ["408"]);
    wire.assert_drains();
}

#[test]
fn a_body_has_time_as_long_as_enough_of_it_comes() {
    let mut wire = Wire::new(short());
    // 2 KiB a second: slow, and twice as much as is asked for.
    let body = "x".repeat(200 << 10);
    let head = post(&body).len() - body.len();
    wire.send(&post(&body).as_bytes()[..head]);
    for part in body.as_bytes().chunks(2 << 10) {
        assert_eq!(wire.take_text(), "");
        wire.wait(secs(1));
        wire.send(part);
    }
    assert_eq!(statuses(&wire.take_text()), ["202"]);
}

#[test]
fn a_body_that_trickles_is_answered_408_however_much_has_come_before() {
    for before in [0, 1, 9000, 500_000] {
        for is_chunked in [false, true] {
            let mut wire = Wire::new(short());
            let framing = if is_chunked { "Transfer-Encoding: chunked" } else { "Content-Length: 1000000" };
            wire.send(format!("POST /publish?topic=t HTTP/1.1\r\nHost: h\r\n{framing}\r\n\r\n").as_bytes());
            let part = |bytes: usize| match is_chunked {
                true => format!("{bytes:x}\r\n{}\r\n", "x".repeat(bytes)),
                false => "x".repeat(bytes),
            };
            if before > 0 {
                wire.send(part(before).as_bytes());
            }
            // What has come quickly buys one more period at the most.
            let periods = if before > 10 << 10 { 2 } else { 1 };
            for _ in 1..10 * periods {
                wire.wait(secs(1));
                wire.send(part(1).as_bytes());
                assert_eq!(wire.take_text(), "");
            }
            wire.wait(secs(1));
            assert_eq!(statuses(&wire.take_text()), ["408"], "{before}");
            wire.assert_drains();
        }
    }
}

#[test]
fn a_long_answer_may_take_its_time_as_long_as_it_is_taken() {
    let last = "GET /poll?topic=t&since=0 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    for (request, patience) in [(get("/poll?topic=t&since=0"), secs(60)), (last.into(), LINGER)] {
        let mut wire = Wire::new(short());
        wire.publish("t", None, Kind::Text, &[b'x'; 10_000]);
        wire.send(request.as_bytes());
        for _ in 0..9 {
            assert_eq!(wire.take_some(1000).len(), 1000);
            wire.wait(patience - TICK);
        }
        assert!(!wire.is_closed());
        // One patience in which something was taken last, and one in which nothing was.
        wire.wait(patience * 2);
        assert!(wire.is_closed());
    }
}

#[test]
fn requests_behind_one_that_waits_are_answered_behind_it() {
    let mut wire = Wire::new(App::default());
    let requests =
        [get("/nothing"), get("/longpoll?topic=t"), get("/poll?topic=t"), post("x"), get("/nothing")];
    assert_eq!(statuses(&wire.ask(requests.concat())), ["404"]);
    wire.send(get("/echo").as_bytes());
    assert_eq!(wire.take_text(), "");
    wire.publish("t", None, Kind::Text, b"now");
    assert_eq!(statuses(&wire.take_text()), ["200", "200", "202", "404", "426"]);
}

#[test]
fn frames_behind_a_request_that_waits_are_read_when_their_time_comes() {
    let mut wire = Wire::new(App::default());
    wire.send(get("/longpoll?topic=t").as_bytes());
    wire.send(&[upgrade("/echo"), masked(TEXT, "one")].concat());
    wire.send(&masked(TEXT, "two"));
    wire.publish("t", None, Kind::Text, b"now");
    let output = wire.take();
    assert!(output.ends_with(&[plain(TEXT, "one"), plain(TEXT, "two")].concat()));
}

#[test]
fn what_stands_behind_a_request_that_is_held_has_a_limit() {
    let mut wire = Wire::new(App::default());
    wire.send(get("/longpoll?topic=t").as_bytes());
    let mebibyte = vec![b'x'; 1 << 20];
    wire.send(&mebibyte);
    assert_eq!(wire.take_text(), "");
    let answer = wire.ask("x");
    assert_eq!(statuses(&answer), ["503"]);
    assert!(answer.contains("\r\nConnection: close\r\n"), "{answer}");
    assert!(!wire.subscribed);
    wire.assert_drains();
}

#[test]
fn what_is_held_when_the_server_ends_is_told_so_in_its_own_words() {
    let mut wire = Wire::new(App::default());
    let opening = wire.ask(get("/socket.io/?EIO=4&transport=polling"));
    let sid = super::engine::sid_of(&opening);
    for (target, expected) in [
        (format!("/socket.io/?EIO=4&transport=polling&sid={sid}"), "200"),
        ("/longpoll?topic=t".to_owned(), "503"),
    ] {
        wire.send(get(&target).as_bytes());
        assert_eq!(wire.take_text(), "");
        let session = Session::server(&App::default().into(), wire.now);
        wire.session.close(CloseReason::GoingAway, wire.now);
        // A poll of Engine.IO is answered by its session, which the exchange ends.
        wire.close_exchange();
        let answer = wire.take_text();
        assert_eq!(statuses(&answer), [expected]);
        assert!(answer.contains("\r\nConnection: close\r\n"), "{answer}");
        // The packet that closes a session: its client does not take it for an error.
        assert_eq!(answer.ends_with("\r\n\r\n1"), expected == "200", "{answer}");
        wire.assert_drains();
        wire = Wire { session, finished: 0, ..wire };
    }
}

#[test]
fn answers_that_nobody_reads_stop_the_reading_and_the_answering() {
    let mut wire = Wire::new(App { max_unsent_bytes: 200_000, ..App::default() });
    while wire.session.wants().read {
        assert!(wire.session.output().len() < 100_000, "it goes on reading");
        wire.send(get("/").as_bytes());
    }
    // What is on its way all the same is answered when there is room for it.
    wire.send(get("/").repeat(2000).as_bytes());
    let held = wire.session.output().len();
    assert!(held < 100_000, "{held} bytes for a client that reads nothing");
    assert!(!wire.session.wants().read);
    let answers = wire.take_text();
    let statuses = statuses(&answers);
    assert!(statuses.len() > 2000 && statuses.iter().all(|status| *status == "200"));
    assert!(wire.session.wants().read);
    assert_eq!(wire.ask(get("/nothing")).matches("404").count(), 1);
}

#[test]
fn pipelined_requests_with_large_answers_are_all_answered() {
    let mut wire = Wire::new(App::default());
    wire.publish("t", None, Kind::Text, &vec![b'x'; 2_000_000]);
    // Whether the peer has ended by then or not.
    for has_ended in [false, true] {
        wire.send(get("/poll?topic=t&since=0").repeat(5).as_bytes());
        assert!(wire.session.output().len() < 3_000_000, "one at a time");
        if has_ended {
            wire.end();
        }
        let mut answers = String::new();
        while !wire.session.output().is_empty() {
            answers += std::str::from_utf8(&wire.take_some(10_000)).unwrap();
        }
        assert_eq!(statuses(&answers), ["200"; 5]);
        assert_eq!(wire.is_closed(), has_ended);
    }
}

#[test]
fn whoever_sends_no_more_gets_what_it_is_owed_and_is_not_kept_waiting() {
    // The page is still to be taken when the end comes.
    let mut wire = Wire::new(App::default());
    wire.send((get("/") + &get("/longpoll?topic=t")).as_bytes());
    wire.end();
    assert!(!wire.is_closed() && !wire.subscribed);
    assert_eq!(statuses(&wire.take_text()), ["200"]);
    assert!(wire.is_closed());
    // The end comes before the answer of an exchange that is elsewhere, with a request behind it that would be held.
    for (behind, expected) in [("/longpoll?topic=t", vec!["202"]), ("/nothing", vec!["202", "404"])] {
        let mut wire = Wire::new(App::default());
        wire.session.receive(&mut (post("x") + &get(behind)).into_bytes(), wire.now);
        wire.session.receive_eof(wire.now);
        assert!(!wire.is_closed(), "the answer is still to come");
        wire.pass_on();
        assert_eq!(statuses(&wire.take_text()), expected);
        assert!(wire.is_closed() && !wire.subscribed, "{behind}");
    }
    // A stream has nothing that is owed but what is written already.
    let mut wire = Wire::new(App::default());
    assert_eq!(statuses(&wire.ask(get("/events?topic=t"))), ["200"]);
    wire.end();
    assert!(wire.is_closed() && !wire.subscribed);
}

#[test]
fn a_server_that_goes_away_answers_who_has_asked_and_leaves_the_others() {
    let mut idle = Wire::new(App::default());
    idle.ask(get("/"));
    idle.session.close(CloseReason::GoingAway, idle.now);
    assert!(idle.is_closed());

    let mut unread = Wire::new(App::default());
    unread.send(get("/").as_bytes());
    unread.session.close(CloseReason::GoingAway, unread.now);
    assert_eq!(statuses(&unread.take_text()), ["200"]);
    assert!(unread.is_closed());

    let mut held = Wire::new(App::default());
    held.send(get("/longpoll?topic=t").as_bytes());
    held.session.close(CloseReason::GoingAway, held.now);
    held.pass_on();
    let answer = held.take_text();
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("\r\nRetry-After: 1\r\n"), "{answer}");
    assert!(!held.subscribed);
    held.assert_drains();

    let mut stream = Wire::new(App::default());
    stream.ask(get("/events?topic=t"));
    stream.publish("t", None, Kind::Text, b"the last");
    stream.session.close(CloseReason::GoingAway, stream.now);
    stream.pass_on();
    assert_eq!(stream.take_text(), "id: 1\ndata: the last\n\n");
    assert!(stream.is_closed() && !stream.subscribed);
}

#[test]
fn behind_a_request_that_is_about_to_be_answered_reading_stops() {
    let mut wire = Wire::new(App::default());
    let requests = post(&"x".repeat(1000)).repeat(100);
    let mut pieces = requests.as_bytes().chunks(10_000);
    let mut sent = 0;
    // The exchange is elsewhere: nothing is answered yet.
    while wire.session.wants().read {
        let piece = pieces.next().expect("it stops before all is read");
        wire.session.receive(&mut piece.to_vec(), wire.now);
        sent += piece.len();
    }
    assert!(sent < 100_000 && !wire.is_closed());
    wire.pass_on();
    assert!(wire.session.wants().read);
    pieces.for_each(|piece| wire.send(piece));
    assert_eq!(statuses(&wire.take_text()), ["202"; 100]);
}
