//! Subscribers that do not read: they delay nobody, cost no more memory than is set, and are closed with 1013 when too much waits for them.

use std::io::Write;
use std::time::{Duration, Instant};

use crate::backpressure::write_until_held;
use crate::client::{Client, close_code};
use crate::events::post;
use crate::frames::{BINARY, CLOSE, TEXT, frame, pattern, text};
use crate::http::get;
use crate::server::Server;
use crate::{Case, case};

pub(crate) const CASES: &[Case] = &[
    case!(Broadcast, a_slow_reader_does_not_delay_the_others)
        .with(|settings| settings.app.max_unsent_bytes = 256 << 10),
    case!(Broadcast, a_slow_reader_that_leaves_does_not_delay_the_others)
        .with(|settings| settings.app.max_unsent_bytes = 256 << 10),
    case!(EventStream, a_publisher_that_is_faster_than_all_others_fills_no_memory).with(|settings| {
        settings.app.max_unsent_bytes = 1 << 20;
        settings.app.history_bytes = 8 << 20;
    }),
    case!(Broadcast, a_reader_within_the_limit_misses_nothing),
    case!(Broadcast, a_sender_that_does_not_read_delays_nobody),
];

const MESSAGE_BYTES: usize = 32 << 10;

/// 24 MiB: more than the socket buffers between the server and a client that does not read can hold.
const MESSAGES: usize = 768;

/// A close that expects no answer waits so long at least for its client to read.
const LEAST_PATIENCE: Duration = Duration::from_secs(1);

fn payload(i: usize) -> Vec<u8> {
    [&i.to_be_bytes()[..], &pattern(MESSAGE_BYTES)].concat()
}

fn a_slow_reader_does_not_delay_the_others(server: &mut Server) {
    let mut slow = Client::connect_narrow(server).upgrade("/broadcast");
    let mut sender = Client::open(server, "/broadcast");
    let mut other = Client::open(server, "/broadcast");
    let start = Instant::now();
    // Each message is read by the others before the next is sent, so nothing ever waits for the slow one.
    for i in 0..MESSAGES {
        sender.send(frame(BINARY, payload(i)));
        sender.expect(BINARY, payload(i));
        other.expect(BINARY, payload(i));
    }
    // What the slow one gets is the beginning, in order.
    let mut read = 0;
    let code = loop {
        let Ok(header) = slow.try_take(2) else { break None };
        if header[0] & 0x0f == CLOSE {
            let payload = slow.take(usize::from(header[1]));
            break close_code(&crate::client::Frame { is_final: true, opcode: CLOSE, payload });
        }
        // Its header goes on with two bytes of length.
        let Ok(message) = slow.try_take(2 + payload(0).len()) else { break None };
        assert!(message[2..] == payload(read), "message {read} is not the one that was sent");
        read += 1;
    };
    assert!(read < MESSAGES, "it missed nothing: then it was not slow, or the server held everything");
    match code {
        Some(code) => assert_eq!(code, 1013),
        // The server may lose its patience, but not at once.
        None => assert!(start.elapsed() > LEAST_PATIENCE, "it could have been told 1013, and was not"),
    }
    sender.send(text("the end"));
    sender.expect_text("the end");
    other.expect_text("the end");
    sender.leave();
    other.leave();
    drop(slow);
    assert_eq!(server.stop().dropped, 1);
}

fn a_slow_reader_that_leaves_does_not_delay_the_others(server: &mut Server) {
    let mut sender = Client::open(server, "/broadcast");
    let mut slow: Vec<Client> =
        (0..2).map(|_| Client::connect_narrow(server).upgrade("/broadcast")).collect();
    for i in 0..MESSAGES {
        sender.send(frame(BINARY, payload(i)));
        sender.expect(BINARY, payload(i));
        // One goes when it is behind but tolerated, the other when it is not.
        if i == 8 || i == MESSAGES / 2 {
            slow.pop().expect("there were two").reset();
        }
    }
    sender.leave();
}

/// What a server may take in addition when it is flooded: what it is allowed to hold, and what its allocator makes of that.
const A_LITTLE: u64 = 48 << 20;

fn a_publisher_that_is_faster_than_all_others_fills_no_memory(server: &mut Server) {
    let targets = ["/events?topic=0", "/events?topic=1&since=0", "/longpoll?topic=2"];
    let mut slow: Vec<Client> = targets
        .iter()
        .map(|target| {
            let mut client = Client::connect_narrow(server);
            client.send(get(target));
            client
        })
        .collect();
    slow.push(Client::connect_narrow(server).upgrade("/broadcast?topic=3"));
    let mut publisher = Client::connect(server);
    publisher.publish("0", "so that everything is there");
    let before = server.resident_bytes();
    // 150 MiB, one behind the other; and topics with one event each.
    let long = "x".repeat(1 << 20);
    let mut writer = publisher.stream.try_clone().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for i in 0..150 {
                writer.write_all(&post(&format!("topic={}", i % 5), "", long.as_bytes())).unwrap();
            }
            let many = (0..5000).flat_map(|i| post(&format!("topic=more-{i}"), "", b"x"));
            writer.write_all(&many.collect::<Vec<u8>>()).unwrap();
        });
        (0..5150).for_each(|_| assert_eq!(publisher.response().status, 202));
    });
    let more = server.resident_bytes().saturating_sub(before);
    assert!(more < A_LITTLE, "the server holds {} KiB more than before", more >> 10);
    // What is not held any more is missed, and said to be.
    let answer = publisher.ask("/poll?topic=4&since=0");
    assert_eq!((answer["newest"].as_u64(), answer["missed"].as_u64().is_some()), (Some(30), true));
    drop(slow);
}

fn a_reader_within_the_limit_misses_nothing(server: &mut Server) {
    let mut late = Client::open(server, "/broadcast");
    let mut sender = Client::open(server, "/broadcast");
    // 3 MiB, and 4 MiB may wait.
    for i in 0..96 {
        sender.send(frame(BINARY, payload(i)));
        sender.expect(BINARY, payload(i));
    }
    (0..96).for_each(|i| late.expect(BINARY, payload(i)));
    late.leave();
    sender.leave();
    assert_eq!(server.stop().dropped, 0);
}

fn a_sender_that_does_not_read_delays_nobody(server: &mut Server) {
    let mut sender = Client::connect_narrow(server).upgrade("/broadcast");
    let mut one = Client::open(server, "/broadcast");
    let mut other = Client::open(server, "/broadcast");
    let mut voice = one.stream.try_clone().unwrap();
    let read_to_the_end = |client: &mut Client| {
        for i in 0.. {
            let (opcode, message) = client.message();
            if opcode == TEXT {
                assert_eq!(message, b"the end");
                return i;
            }
            assert!(message == payload(i), "message {i} is not the one that was sent");
        }
        0
    };
    std::thread::scope(|scope| {
        let readers = [&mut one, &mut other].map(|client| scope.spawn(|| read_to_the_end(client)));
        write_until_held(&mut sender, |i| frame(BINARY, payload(i)));
        voice.write_all(&text("the end")).unwrap();
        let heard = readers.map(|reader| reader.join().expect("it read to the end"));
        assert!(heard[0] > 0 && heard[1] > 0);
    });
}
