//! Messages in several frames (RFC 6455, section 5.4).

use crate::client::{Client, PACES, at_each_pace};
use crate::frames::{BINARY, CONTINUATION, PING, PONG, TEXT, close, fragment, frame, pattern, prose, text};
use crate::server::Server;
use crate::{Case, case};

pub(crate) const CASES: &[Case] = &[
    case!(Echo, a_message_in_fragments_comes_back_whole),
    case!(Echo, a_message_may_have_very_many_fragments),
    case!(Echo, control_frames_may_stand_between_fragments),
    case!(Http, a_close_may_stand_between_fragments),
    case!(Http, a_continuation_of_nothing_is_a_protocol_error),
    case!(Http, a_message_inside_another_is_a_protocol_error),
];

/// A message cut into frames of so many payload bytes.
fn in_fragments(opcode: u8, payload: &[u8], each: usize) -> Vec<Vec<u8>> {
    let mut frames: Vec<Vec<u8>> = payload
        .chunks(each)
        .enumerate()
        .map(|(i, part)| fragment(if i == 0 { opcode } else { CONTINUATION }, part))
        .collect();
    frames.last_mut().expect("a payload")[0] |= 0x80;
    frames
}

fn a_message_in_fragments_comes_back_whole(server: &mut Server) {
    let mut client = Client::open(server, "/echo");
    for pace in PACES {
        for each in [1, 2, 3, 125, 126, 999] {
            client.send_at(pace, in_fragments(BINARY, &pattern(1000), each).concat());
            client.expect(BINARY, pattern(1000));
            client.send_at(pace, in_fragments(TEXT, prose(1000).as_bytes(), each).concat());
            client.expect(TEXT, prose(1000));
        }
        // Empty ones count as well: first, in between, last, and nothing else.
        let middle = [fragment(TEXT, ""), fragment(CONTINUATION, "mid"), fragment(CONTINUATION, "")];
        client.send_at(pace, [middle.concat(), frame(CONTINUATION, "dle")].concat());
        client.expect_text("middle");
        client.send_at(
            pace,
            [fragment(TEXT, ""), fragment(CONTINUATION, ""), frame(CONTINUATION, "")].concat(),
        );
        client.expect_text("");
    }
    // A large one, and the next message is not touched by it.
    client.send(in_fragments(BINARY, &pattern(1 << 20), 65_536).concat());
    client.send(text("next"));
    client.expect(BINARY, pattern(1 << 20));
    client.expect_text("next");
}

fn a_message_may_have_very_many_fragments(server: &mut Server) {
    let mut client = Client::open(server, "/echo");
    client.send(in_fragments(BINARY, &pattern(100_000), 1).concat());
    client.expect(BINARY, pattern(100_000));
}

fn control_frames_may_stand_between_fragments(server: &mut Server) {
    let mut client = Client::open(server, "/echo");
    for pace in PACES {
        let frames = [
            fragment(TEXT, "one "),
            frame(PING, "ping"),
            fragment(CONTINUATION, "mess"),
            frame(PONG, "nobody asked"),
            frame(PING, ""),
            frame(CONTINUATION, "age"),
        ];
        client.send_at(pace, frames.concat());
        client.expect(PONG, "ping");
        client.expect(PONG, "");
        client.expect_text("one message");
    }
    // The ping is answered before the message is finished: nobody waits for its end.
    client.send(fragment(BINARY, "half"));
    client.ping(b"now");
    client.send(frame(CONTINUATION, " and half"));
    client.expect(BINARY, "half and half");
}

fn a_close_may_stand_between_fragments(server: &mut Server) {
    let frames = [fragment(TEXT, "never finished"), close(1000, "enough")];
    at_each_pace(&[("close inside a message", frames.concat())], |pace, bytes| {
        let mut client = Client::open(server, "/echo");
        client.send_at(pace, bytes);
        client.expect_close(1000);
    });
}

fn a_continuation_of_nothing_is_a_protocol_error(server: &mut Server) {
    let inputs = [
        ("a last one", frame(CONTINUATION, "of nothing")),
        ("one that goes on", fragment(CONTINUATION, "of nothing")),
        ("an empty one", frame(CONTINUATION, "")),
    ];
    at_each_pace(&inputs, |pace, bytes| {
        let mut client = Client::open(server, "/echo");
        client.send_at(pace, bytes);
        client.expect_close(1002);
        // Also where a message came before it, whole or in fragments.
        for before in [text("whole"), [fragment(TEXT, "wh"), frame(CONTINUATION, "ole")].concat()] {
            let mut client = Client::open(server, "/echo");
            client.send_at(pace, [&before, &bytes[..]].concat());
            client.expect_text("whole");
            client.expect_close(1002);
        }
    });
}

fn a_message_inside_another_is_a_protocol_error(server: &mut Server) {
    let inputs = [
        ("text in text", [fragment(TEXT, "a"), text("b")].concat()),
        ("binary in text", [fragment(TEXT, "a"), frame(BINARY, "b")].concat()),
        ("a fragment in binary", [fragment(BINARY, "a"), fragment(BINARY, "b")].concat()),
        ("after an empty fragment", [fragment(TEXT, ""), text("")].concat()),
        ("after a ping", [fragment(TEXT, "a"), frame(crate::frames::PONG, ""), text("b")].concat()),
        ("later on", [fragment(TEXT, "a"), fragment(CONTINUATION, "b"), text("c")].concat()),
    ];
    at_each_pace(&inputs, |pace, bytes| {
        let mut client = Client::open(server, "/echo");
        client.send_at(pace, bytes);
        client.expect_close(1002);
    });
}
