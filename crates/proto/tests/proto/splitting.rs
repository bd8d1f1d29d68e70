//! However the network cuts a stream, the same is heard and the same is answered.

use proptest::prelude::*;
use switchboard_proto::websocket::{Assembler, Incoming, Role, Violation};
use switchboard_proto::{App, Counts, Kind, Wants};

use super::pair::{Wire, upgrade};
use super::script::{Cuts, conversation, cuts, encode, from_client, long_length, violation};

/// Above most of the messages in the scripts, below some.
const LIMIT: usize = 65_536;

/// What an assembler hands out, kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Heard {
    Message(Kind, Vec<u8>),
    Ping(Vec<u8>),
    Pong,
    Close(Option<u16>),
}

/// Everything heard up to the close frame, and the violation if one comes before it.
pub(crate) fn hear(role: Role, limit: usize, pieces: &[&[u8]]) -> (Vec<Heard>, Option<Violation>) {
    let mut assembler = Assembler::new(role, limit);
    let mut heard = Vec::new();
    for piece in pieces {
        let mut piece = piece.to_vec();
        let mut input = &mut piece[..];
        loop {
            heard.push(match assembler.next(&mut input) {
                Ok(None) => break,
                Ok(Some(Incoming::Message(kind, payload))) => Heard::Message(kind, payload.to_vec()),
                Ok(Some(Incoming::Ping(payload))) => Heard::Ping(payload.to_vec()),
                Ok(Some(Incoming::Pong)) => Heard::Pong,
                Ok(Some(Incoming::Close(code))) => {
                    heard.push(Heard::Close(code));
                    return (heard, None);
                }
                Err(violation) => return (heard, Some(violation)),
            });
        }
        assert!(input.is_empty(), "None, with input left");
    }
    (heard, None)
}

fn wrong() -> BoxedStrategy<super::script::Script> {
    prop_oneof![4 => violation(), 1 => long_length()].boxed()
}

proptest! {
    #[test]
    fn an_assembler_hears_the_same_however_its_input_is_cut(
        client in from_client(wrong()),
        server in conversation(wrong()),
        cuts in cuts(),
        noise: Vec<u8>,
    ) {
        for (role, script) in [(Role::Server, client), (Role::Client, server)] {
            let mut bytes = encode(&script);
            bytes.extend_from_slice(&noise);
            let at_once = hear(role, LIMIT, &[&bytes]);
            prop_assert_eq!(hear(role, LIMIT, &cuts.pieces(&bytes)), at_once);
        }
    }

    #[test]
    fn a_session_answers_the_same_however_its_input_is_cut(
        head in head(),
        script in from_client(wrong()),
        cuts in cuts(),
        take in 1..100_000_usize,
    ) {
        let bytes = [head.into_bytes(), encode(&script)].concat();
        let at_once = converse(&Cuts::At(vec![]), &bytes, usize::MAX);
        let in_pieces = converse(&cuts, &bytes, take);
        prop_assert_eq!(in_pieces, at_once);
    }

    #[test]
    fn arbitrary_bytes_are_survived(bytes: Vec<u8>, cuts in cuts()) {
        converse(&cuts, &bytes, 1000);
        for role in [Role::Server, Role::Client] {
            let at_once = hear(role, LIMIT, &[&bytes]);
            prop_assert_eq!(hear(role, LIMIT, &cuts.pieces(&bytes)), at_once);
        }
    }
}

#[test]
fn every_single_cut_of_a_conversation_is_harmless() {
    use super::frames::{BINARY, CLOSE, CONTINUE, FIN, PING, TEXT, close, masked};
    let bytes = [
        upgrade("/broadcast"),
        masked(TEXT & !FIN, "gr\u{FC}\u{DF}".as_bytes()),
        masked(PING, "between"),
        masked(CONTINUE, "dich"),
        masked(BINARY, [9; 200]),
        masked(CLOSE, close(1000, "bye")),
    ]
    .concat();
    let run = |pieces: &[&[u8]]| {
        let mut wire = Wire::new(App::default());
        pieces.iter().for_each(|piece| wire.send(piece));
        let published: Vec<_> = wire.published.iter().map(|message| message.data().clone()).collect();
        (wire.take(), published)
    };
    let at_once = run(&[&bytes]);
    assert_eq!(at_once.1.len(), 2);
    for cut in 0..=bytes.len() {
        assert_eq!(run(&[&bytes[..cut], &bytes[cut..]]), at_once, "cut at {cut}");
    }
}

/// All that a session did.
#[derive(Debug, PartialEq)]
struct Told {
    output: Vec<u8>,
    subscribed: bool,
    published: Vec<(Kind, Vec<u8>)>,
    counts: Counts,
    wants: Wants,
    finished: u32,
}

fn converse(cuts: &Cuts, bytes: &[u8], take: usize) -> Told {
    let mut wire = Wire::new(App { max_message_bytes: LIMIT, ..App::default() });
    let mut output = Vec::new();
    for piece in cuts.pieces(bytes) {
        wire.send(piece);
        output.extend(wire.take_some(take));
    }
    output.extend(wire.take());
    Told {
        output,
        subscribed: wire.subscribed,
        published: wire.published.iter().map(|m| (m.kind(), m.data().to_vec())).collect(),
        counts: wire.session.counts(),
        wants: wire.session.wants(),
        finished: wire.finished,
    }
}

/// Heads that end in an empty line, right and wrong. (One that is wrong before its first line ends is
/// answered when the line ends, or at once if it came in one read: that much depends on the cut.)
fn head() -> impl Strategy<Value = String> {
    let upgrade = |path: &str| String::from_utf8(upgrade(path)).expect("ASCII");
    let (echo, broadcast) = (upgrade("/echo"), upgrade("/broadcast"));
    let request = echo.clone();
    let long = move |n: usize, wrong: &str| {
        let padding = "x".repeat(n);
        request.replace("\r\n\r\n", &format!("\r\nPadding: {padding}\r\n{wrong}\r\n"))
    };
    let line = prop_oneof![
        Just("GET / HTTP/1.1".to_owned()),
        Just("Host: h".to_owned()),
        Just(" folded".to_owned()),
        Just("Content-Length: 3".to_owned()),
        Just("no colon".to_owned()),
        Just("Nul: \0".to_owned()),
        Just("X: ".to_owned() + &"y".repeat(8000)),
        "[ -~]{0,30}",
    ];
    prop_oneof![
        4 => Just(echo),
        4 => Just(broadcast),
        1 => (16_000..16_600_usize).prop_map({
            let long = long.clone();
            move |n| long(n, "")
        }),
        1 => Just(long(20_000, "no colon\r\n")),
        1 => (0..200_usize).prop_map(|n| format!("GET / HTTP/1.1\r\n{}\r\n", "Host: h\r\n".repeat(n))),
        2 => proptest::collection::vec(line, 1..8).prop_map(|lines| lines.join("\r\n") + "\r\n\r\n"),
    ]
}
