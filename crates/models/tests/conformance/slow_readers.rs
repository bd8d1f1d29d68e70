//! Subscribers that do not read: they delay nobody, and are closed with 1013 when too much waits for them.

use std::time::{Duration, Instant};

use crate::backpressure::write_until_held;
use crate::client::{Client, close_code};
use crate::frames::{BINARY, CLOSE, TEXT, frame, pattern, text};
use crate::server::Server;
use crate::{Case, case};

pub(crate) const CASES: &[Case] = &[
    case!(Broadcast, a_slow_reader_does_not_delay_the_others)
        .with(|settings| settings.app.max_unsent_bytes = 256 << 10),
    case!(Broadcast, a_slow_reader_that_leaves_does_not_delay_the_others)
        .with(|settings| settings.app.max_unsent_bytes = 256 << 10),
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
        std::io::Write::write_all(&mut voice, &text("the end")).unwrap();
        let heard = readers.map(|reader| reader.join().expect("it read to the end"));
        assert!(heard[0] > 0 && heard[1] > 0);
    });
}
