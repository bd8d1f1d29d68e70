//! What a user of the server sees, from the first byte to the last.

use bytes::Bytes;
use switchboard_proto::{App, CloseReason, Counts, Format, Kind, Outgoing, Session};

use super::frames::{BINARY, CLOSE, CONTINUE, FIN, PING, PONG, TEXT, close, masked, plain, read_frames};
use super::pair::{Heard, Pair, Wire, settle_all, upgrade};

#[test]
fn an_echo_returns_text_as_text_and_bytes_as_bytes() {
    let mut pair = Pair::new(App::default(), "/echo");
    pair.settle();
    assert_eq!(pair.take_heard(), [Heard::Upgraded]);

    for length in [0, 1, 125, 126, 4095, 4096, 65_535, 65_536, 300_000] {
        let bytes: Vec<u8> = (0..length).map(|i| i as u8).collect();
        pair.say(Kind::Binary, &bytes);
        pair.say(Kind::Text, "ü".repeat(length / 2).as_bytes());
        pair.settle();
        assert_eq!(pair.take_heard(), [Heard::Binary(bytes), Heard::Text("ü".repeat(length / 2))]);
    }
}

#[test]
fn a_long_message_that_came_in_pieces_is_returned_without_another_copy() {
    let mut wire = Wire::open(App::default(), "/echo");
    let frame = masked(BINARY, [7; 50_000]);
    wire.send(&frame[..30_000]);
    wire.send(&frame[30_000..]);
    wire.send(&masked(BINARY, [8; 10]));
    let mut slices = [std::io::IoSlice::new(&[]); 4];
    assert_eq!(
        wire.session.output().slices(&mut slices),
        2,
        "a whole frame by reference, and behind it a copy"
    );
    assert_eq!(*slices[0], plain(BINARY, [7; 50_000]));
    assert_eq!(*slices[1], plain(BINARY, [8; 10]));
}

#[test]
fn frames_sent_right_behind_the_request_are_answered_too() {
    let mut wire = Wire::new(App::default());
    wire.send(&[upgrade("/echo"), masked(TEXT, "early"), masked(PING, "bird")].concat());
    let output = wire.take();
    let expected = [plain(TEXT, "early"), plain(PONG, "bird")].concat();
    assert!(output.starts_with(b"HTTP/1.1 101 ") && output.ends_with(&[b"\r\n\r\n", &expected[..]].concat()));
}

#[test]
fn control_frames_between_fragments_are_answered_before_the_message_is_whole() {
    let mut wire = Wire::open(App::default(), "/echo");
    wire.send(&masked(TEXT & !FIN, "one "));
    wire.send(&masked(PING, "still there?"));
    assert_eq!(wire.take(), plain(PONG, "still there?"));
    wire.send(&masked(PONG, "unasked"));
    wire.send(&masked(CONTINUE & !FIN, ""));
    assert_eq!(wire.take(), b"");
    wire.send(&masked(CONTINUE, "two"));
    assert_eq!(wire.take(), plain(TEXT, "one two"));
}

#[test]
fn a_broadcast_reaches_everyone_subscribed_its_sender_included_once_and_in_order() {
    let mut pairs = [
        Pair::new(App::default(), "/broadcast"),
        Pair::new(App::default(), "/broadcast"),
        Pair::new(App::default(), "/echo"),
    ];
    settle_all(&mut pairs);
    assert_eq!(pairs.each_ref().map(|pair| pair.wire.subscribed), [true, true, false]);
    for pair in &mut pairs {
        assert_eq!(pair.take_heard(), [Heard::Upgraded]);
    }
    pairs[0].say(Kind::Text, b"one");
    pairs[0].say(Kind::Binary, &[7; 5000]);
    settle_all(&mut pairs);
    pairs[1].say(Kind::Text, b"three");
    settle_all(&mut pairs);

    let expected = [Heard::Text("one".into()), Heard::Binary(vec![7; 5000]), Heard::Text("three".into())];
    assert_eq!(pairs[0].take_heard(), expected);
    assert_eq!(pairs[1].take_heard(), expected);
    assert_eq!(pairs[2].take_heard(), [], "an echo is no subscriber");
    assert_eq!(
        pairs[0].wire.session.counts(),
        Counts { messages: 2, bytes: 5003, is_dropped: false, is_refused: false }
    );
}

#[test]
fn nothing_is_delivered_before_the_handshake_or_after_the_close() {
    let message = Outgoing::new("broadcast".into(), 1, None, Kind::Text, Bytes::from_static(b"news"));
    let mut wire = Wire::new(App::default());
    wire.session.deliver(&message, wire.now);
    assert_eq!(wire.take(), b"");

    let mut wire = Wire::open(App::default(), "/broadcast");
    wire.session.deliver(&message, wire.now);
    wire.session.close(CloseReason::GoingAway, wire.now);
    wire.session.deliver(&message, wire.now);
    let frames = wire.take_frames();
    assert_eq!(frames[0], (TEXT, b"news".to_vec()));
    assert_eq!(frames[1].0, CLOSE);
    assert_eq!(frames.len(), 2, "a close frame is the last frame");
}

#[test]
fn a_message_for_many_is_encoded_once_and_long_ones_are_shared() {
    let message = Outgoing::new("broadcast".into(), 1, None, Kind::Binary, Bytes::from(vec![1; 10_000]));
    let mut addresses = Vec::new();
    for _ in 0..3 {
        let mut wire = Wire::open(App::default(), "/broadcast");
        wire.session.deliver(&message, wire.now);
        addresses.push(wire.session.output().single().unwrap().as_ptr());
        assert_eq!(read_frames(&wire.take()), [(BINARY, vec![1; 10_000])]);
    }
    assert_eq!(addresses, [message.encoded(Format::WebSocket).as_ptr(); 3]);
}

#[test]
fn a_subscriber_that_does_not_read_is_closed_with_1013_and_counted() {
    let app = App { max_unsent_bytes: 10_000, ..App::default() };
    let mut wire = Wire::open(app, "/broadcast");
    let message = Outgoing::new("broadcast".into(), 1, None, Kind::Binary, Bytes::from(vec![0; 996]));
    let frame_bytes = message.encoded(Format::WebSocket).len();
    assert_eq!(frame_bytes, 1000);
    for _ in 0..10 {
        wire.session.deliver(&message, wire.now);
    }
    assert_eq!(wire.session.output().len(), 10_000, "exactly the limit is allowed");
    assert!(!wire.session.counts().is_dropped);

    for _ in 0..3 {
        wire.session.deliver(&message, wire.now);
    }
    assert!(wire.session.counts().is_dropped, "counted once, however much more was published");
    assert!(wire.session.output().len() < 10_200);
    let frames = wire.take_frames();
    assert_eq!(frames.len(), 11, "what was promised is sent, and no more");
    assert_eq!(frames[10].0, CLOSE);
    assert_eq!(frames[10].1[..2], 1013_u16.to_be_bytes());
    wire.assert_drains();
}

#[test]
fn one_message_above_the_limit_does_not_drop_a_subscriber_that_keeps_up() {
    let app = App { max_unsent_bytes: 10_000, ..App::default() };
    let mut wire = Wire::open(app, "/broadcast");
    let big = Outgoing::new("broadcast".into(), 1, None, Kind::Binary, Bytes::from(vec![0; 50_000]));
    for _ in 0..3 {
        wire.session.deliver(&big, wire.now);
        assert_eq!(wire.take_frames(), [(BINARY, vec![0; 50_000])]);
    }
    assert!(!wire.session.counts().is_dropped);
    // The same twice without reading is too much.
    wire.session.deliver(&big, wire.now);
    wire.session.deliver(&big, wire.now);
    assert!(wire.session.counts().is_dropped);
}

#[test]
fn an_echo_that_is_not_read_is_not_dropped_but_stops_being_read() {
    let mut pair = Pair::new(App { max_unsent_bytes: 10_000, ..App::default() }, "/echo");
    pair.settle();
    pair.reads = false;
    let message = vec![b'x'; 16_000];
    let mut rounds = 0;
    while pair.wire.session.wants().read {
        pair.say(Kind::Binary, &message);
        pair.settle();
        rounds += 1;
        assert!(rounds < 100, "a peer that does not read is read from for ever");
    }
    let unsent = pair.wire.session.output().len();
    assert!(unsent < 2 * 65_536 && pair.wire.session.wants().write, "{unsent}");
    assert!(!pair.wire.session.counts().is_dropped);

    // One more waits in the socket, until the peer reads.
    pair.say(Kind::Binary, b"last");
    pair.settle();
    assert!(!pair.client.output().is_empty());
    pair.reads = true;
    pair.settle();
    assert_eq!(pair.heard.len(), 1 + rounds + 1);
    assert_eq!(pair.heard.last(), Some(&Heard::Binary(b"last".to_vec())));
    assert!(pair.wire.session.wants().read);
}

#[test]
fn reading_begins_again_when_the_peer_took_enough_not_only_when_it_took_all() {
    let mut wire = Wire::open(App::default(), "/echo");
    wire.send(&masked(BINARY, vec![0; 70_000]));
    assert!(!wire.session.wants().read);
    wire.take_some(10_000);
    assert!(wire.session.wants().read && wire.session.wants().write);
}

#[test]
fn after_the_close_handshake_the_connection_ends_at_once() {
    for (payload, answer) in [
        (close(1000, "bye"), 1000_u16.to_be_bytes().to_vec()),
        (close(4711, ""), 4711_u16.to_be_bytes().to_vec()),
        (vec![], vec![]),
    ] {
        let mut wire = Wire::open(App::default(), "/echo");
        wire.send(&[masked(TEXT, "before"), masked(CLOSE, payload), masked(TEXT, "after")].concat());
        assert!(!wire.session.wants().read && wire.session.wants().write);
        assert_eq!(wire.take(), [plain(TEXT, "before"), plain(CLOSE, answer)].concat());
        assert!(wire.is_closed());
        assert_eq!(wire.finished, 0, "no half-close: the socket is closed whole");
    }
}

#[test]
fn a_client_that_says_goodbye_is_answered_with_its_own_code() {
    let mut pair = Pair::new(App::default(), "/echo");
    pair.settle();
    pair.say(Kind::Text, b"last words");
    pair.client.close(Some(1001));
    pair.settle();
    assert_eq!(
        pair.take_heard(),
        [Heard::Upgraded, Heard::Text("last words".into()), Heard::Closed(Some(1001))]
    );
    assert!(pair.wire.is_closed());
}

#[test]
fn a_server_that_goes_away_waits_for_the_answer_and_ignores_the_rest() {
    let mut wire = Wire::open(App::default(), "/echo");
    wire.session.close(CloseReason::GoingAway, wire.now);
    // Twice says no more than once.
    wire.session.close(CloseReason::GoingAway, wire.now);
    let frames = wire.take_frames();
    assert_eq!(frames.len(), 1);
    assert_eq!((frames[0].0, &frames[0].1[..2]), (CLOSE, &1001_u16.to_be_bytes()[..]));

    wire.send(&[masked(TEXT, "did not know yet"), masked(PING, "")].concat());
    assert_eq!(wire.take(), b"", "nothing follows a close frame");
    assert_eq!(wire.session.counts().messages, 0);
    assert!(wire.session.wants().read);
    wire.send(&masked(CLOSE, close(1001, "")));
    assert_eq!(wire.take(), b"", "a close is answered by one close");
    assert!(wire.is_closed());
}

#[test]
fn a_server_that_goes_away_tells_who_is_still_in_the_handshake() {
    let mut wire = Wire::new(App::default());
    wire.session.close(CloseReason::GoingAway, wire.now);
    assert!(wire.is_closed(), "who said nothing is owed nothing");

    let mut wire = Wire::new(App::default());
    wire.send(b"GET /echo HTTP/1.1\r\n");
    wire.session.close(CloseReason::GoingAway, wire.now);
    assert!(wire.take().starts_with(b"HTTP/1.1 503 Service Unavailable\r\n"));
    wire.assert_drains();
}

#[test]
fn a_half_closed_client_still_gets_its_answer() {
    let mut wire = Wire::open(App::default(), "/echo");
    wire.send(&masked(TEXT, "question"));
    wire.session.receive_eof(wire.now);
    assert_eq!((wire.session.wants().read, wire.session.wants().write), (false, true));
    assert_eq!(wire.take(), plain(TEXT, "question"));
    assert!(wire.is_closed());

    let mut wire = Wire::new(App::default());
    wire.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    wire.session.receive_eof(wire.now);
    assert!(wire.take().ends_with(b"</html>\n"));
    assert!(wire.is_closed());
}

#[test]
fn a_peer_that_just_goes_is_let_go() {
    for sent in [&b""[..], b"GET /echo HT", &upgrade("/echo")] {
        let mut wire = Wire::new(App::default());
        wire.send(sent);
        wire.take();
        wire.session.receive_eof(wire.now);
        assert!(wire.is_closed());
    }
}

#[test]
fn a_violation_is_named_and_the_connection_drains() {
    let cases: &[(&str, Vec<u8>, u16)] = &[
        ("not masked", plain(TEXT, "x"), 1002),
        ("reserved bit", masked(TEXT | 0x40, "x"), 1002),
        ("reserved opcode", masked(0x83, "x"), 1002),
        ("reserved control opcode", masked(0x8B, ""), 1002),
        ("continuation of nothing", masked(CONTINUE, "x"), 1002),
        ("new message inside another", [masked(TEXT & !FIN, "x"), masked(TEXT, "y")].concat(), 1002),
        ("ping in fragments", masked(PING & !FIN, ""), 1002),
        ("ping too long", masked(PING, [0; 126]), 1002),
        ("close with half a code", masked(CLOSE, [3]), 1002),
        ("close code never sent", masked(CLOSE, close(1006, "")), 1002),
        ("close reason not UTF-8", masked(CLOSE, [3, 232, 0xFF]), 1007),
        ("text not UTF-8", masked(TEXT, [b'a', 0xC0, 0xAF]), 1007),
        ("too big", masked(BINARY, vec![0; 1001]), 1009),
        ("too big together", [masked(BINARY & !FIN, [0; 501]), masked(CONTINUE, [0; 500])].concat(), 1009),
    ];
    for (name, bytes, code) in cases {
        let app = App { max_message_bytes: 1000, ..App::default() };
        let mut wire = Wire::open(app, "/echo");
        wire.send(&masked(TEXT, "good"));
        wire.send(&[&bytes[..], &masked(TEXT, "never answered")].concat());
        let frames = wire.take_frames();
        assert_eq!(frames.len(), 2, "{name}: {frames:?}");
        assert_eq!(frames[0], (TEXT, b"good".to_vec()), "{name}");
        assert_eq!((frames[1].0, &frames[1].1[..2]), (CLOSE, &code.to_be_bytes()[..]), "{name}");
        let reason = std::str::from_utf8(&frames[1].1[2..]).unwrap();
        assert!(!reason.is_empty(), "{name}: a reason says more than a number");
        wire.assert_drains();
    }
}

#[test]
fn the_longest_message_allowed_is_echoed() {
    let mut wire = Wire::open(App { max_message_bytes: 1000, ..App::default() }, "/echo");
    wire.send(&masked(BINARY, [7; 1000]));
    wire.send(&[masked(BINARY & !FIN, [7; 500]), masked(CONTINUE, [7; 500])].concat());
    assert_eq!(wire.take_frames(), vec![(BINARY, vec![7; 1000]); 2]);
}

#[test]
fn a_violation_after_our_close_frame_gets_no_second_one() {
    let mut wire = Wire::open(App::default(), "/echo");
    wire.session.close(CloseReason::GoingAway, wire.now);
    wire.take();
    wire.send(&plain(TEXT, "not masked"));
    assert_eq!(wire.take(), b"");
    wire.assert_drains();
}

#[test]
fn a_session_is_small() {
    // Memory per idle connection is at most 512 bytes, of which the table around a session needs some.
    assert!(size_of::<Session>() <= 320, "{} bytes", size_of::<Session>());
}
