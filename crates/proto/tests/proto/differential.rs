//! The assembler beside tungstenite's: the same messages out of the same frames, and the same decision
//! where a peer breaks the protocol.
//!
//! Where the two differ on purpose, the last tests say how and why, and the random scripts leave out
//! exactly that.

use std::io::{self, Cursor, Read, Write};

use proptest::prelude::*;
use switchboard_proto::websocket::Role;
use switchboard_proto::{App, Kind};
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{self, WebSocketConfig};
use tungstenite::{Error, Message, WebSocket};

use super::frames::{BINARY, CLOSE, Form, Frame, KEY, TEXT, close, masked, plain, read_frames};
use super::pair::Wire;
use super::script::{Script, conversation, cuts, encode, from_client, violation};
use super::splitting::{Heard, hear};

/// Above the control frames of the scripts, below the longest of their messages: tungstenite looks at the size
/// of a frame before anything else.
const LIMIT: usize = 65_535;

/// A stream that ends after `input`.
struct Memory {
    input: Cursor<Vec<u8>>,
    output: Vec<u8>,
}

impl Read for Memory {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.input.read(buffer)
    }
}

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.output.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn theirs(role: Role, bytes: Vec<u8>) -> WebSocket<Memory> {
    let stream = Memory { input: Cursor::new(bytes), output: Vec::new() };
    let role = match role {
        Role::Server => protocol::Role::Server,
        Role::Client => protocol::Role::Client,
    };
    let config = WebSocketConfig::default().max_message_size(Some(LIMIT)).max_frame_size(Some(LIMIT));
    WebSocket::from_raw_socket(stream, role, Some(config))
}

/// What tungstenite hears, and the close code with which it would refuse.
fn hear_theirs(role: Role, bytes: Vec<u8>) -> (Vec<Heard>, Option<u16>) {
    let mut socket = theirs(role, bytes);
    let mut heard = Vec::new();
    loop {
        heard.push(match socket.read() {
            Ok(Message::Text(text)) => Heard::Message(Kind::Text, text.as_bytes().to_vec()),
            Ok(Message::Binary(bytes)) => Heard::Message(Kind::Binary, bytes.to_vec()),
            Ok(Message::Ping(payload)) => Heard::Ping(payload.to_vec()),
            Ok(Message::Pong(_)) => Heard::Pong,
            Ok(Message::Close(frame)) => {
                // It reports a code that must not be sent as if the peer had sent 1002 and this reason.
                if frame.as_ref().is_some_and(|f| f.code == CloseCode::Protocol && f.reason == FORBIDDEN) {
                    return (heard, Some(1002));
                }
                heard.push(Heard::Close(frame.map(|frame| frame.code.into())));
                return (heard, None);
            }
            Ok(Message::Frame(_)) => unreachable!("read never returns one"),
            Err(error) => return (heard, refusal(&error)),
        });
    }
}

const FORBIDDEN: &str = "Protocol violation";

fn refusal(error: &Error) -> Option<u16> {
    match error {
        Error::Protocol(tungstenite::error::ProtocolError::ResetWithoutClosingHandshake) => None,
        Error::Protocol(_) => Some(1002),
        Error::Utf8(_) => Some(1007),
        Error::Capacity(_) => Some(1009),
        other => panic!("{other}"),
    }
}

fn hear_ours(role: Role, pieces: &[&[u8]]) -> (Vec<Heard>, Option<u16>) {
    let (heard, violation) = hear(role, LIMIT, pieces);
    (heard, violation.map(|violation| violation.close_code()))
}

/// Whether a script holds what the two are known to differ in: a close frame with 1014.
fn is_disputed(script: &Script) -> bool {
    script.iter().any(|frame| frame.first == CLOSE && frame.payload.starts_with(&1014_u16.to_be_bytes()))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn a_server_hears_what_tungstenite_hears(script in from_client(violation()), cuts in cuts()) {
        prop_assume!(!is_disputed(&script));
        let bytes = encode(&script);
        prop_assert_eq!(hear_ours(Role::Server, &cuts.pieces(&bytes)), hear_theirs(Role::Server, bytes));
    }

    #[test]
    fn a_client_hears_what_tungstenite_hears(script in conversation(violation()), cuts in cuts()) {
        prop_assume!(!is_disputed(&script));
        let bytes = encode(&script);
        prop_assert_eq!(hear_ours(Role::Client, &cuts.pieces(&bytes)), hear_theirs(Role::Client, bytes));
    }

    #[test]
    fn an_echo_answers_what_an_echo_by_tungstenite_answers(script in from_client(violation())) {
        prop_assume!(!is_disputed(&script));
        let bytes = encode(&script);
        let mut wire = Wire::open(App { max_message_bytes: LIMIT, ..App::default() }, "/echo");
        wire.send(&bytes);
        let mut socket = theirs(Role::Server, bytes);
        loop {
            match socket.read() {
                Ok(message @ (Message::Text(_) | Message::Binary(_))) => socket.send(message).unwrap(),
                Ok(_) => {}
                Err(_) => break,
            }
        }
        // A close frame differs in its reason, and tungstenite leaves to its caller to send one at a violation.
        let without_close = |bytes: &[u8]| {
            let mut frames = read_frames(bytes);
            frames.retain(|(first, _)| *first != CLOSE);
            frames
        };
        prop_assert_eq!(without_close(&wire.take()), without_close(&socket.get_ref().output));
    }
}

#[test]
fn the_scripts_reach_every_decision() {
    // A comparison of two that both refuse everything would prove nothing.
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let strategy = from_client(violation());
    let mut seen = std::collections::BTreeMap::new();
    for _ in 0..2000 {
        let bytes = encode(&strategy.new_tree(&mut runner).unwrap().current());
        let (heard, refused) = hear_ours(Role::Server, &[&bytes]);
        *seen.entry(refused).or_insert(0) += 1;
        if refused.is_none() && heard.iter().any(|heard| matches!(heard, Heard::Close(Some(_)))) {
            *seen.entry(Some(0)).or_insert(0) += 1;
        }
    }
    for decision in [None, Some(0), Some(1002), Some(1007), Some(1009)] {
        assert!(seen.get(&decision).is_some_and(|count| *count >= 10), "{decision:?} of {seen:?}");
    }
}

#[test]
fn stricter_a_length_must_be_in_its_shortest_form() {
    // Section 5.2: "the minimal number of bytes MUST be used". tungstenite does not mind.
    for (length, form) in [(5, Form::Word), (5, Form::Long), (125, Form::Word), (65_535, Form::Long)] {
        let mut bytes = Vec::new();
        Frame { first: BINARY, mask: Some(KEY), form, payload: vec![1; length] }.encode(&mut bytes);
        assert_eq!(hear_ours(Role::Server, &[&bytes]), (vec![], Some(1002)));
        let heard = vec![Heard::Message(Kind::Binary, vec![1; length])];
        assert_eq!(hear_theirs(Role::Server, bytes), (heard, None));
    }
}

#[test]
fn looser_a_close_code_registered_since_is_accepted() {
    // 1014, Bad Gateway, is in the registry of section 11.7; tungstenite's list is older.
    let bytes = masked(CLOSE, close(1014, ""));
    assert_eq!(hear_ours(Role::Server, &[&bytes]), (vec![Heard::Close(Some(1014))], None));
    assert_eq!(hear_theirs(Role::Server, bytes), (vec![], Some(1002)));
}

#[test]
fn earlier_what_a_header_shows_is_not_waited_for() {
    // tungstenite decides when the frame is whole; so the scripts hold whole frames only.
    for (bytes, code) in [(plain(TEXT, "not masked"), 1002), (masked(0xC1, "reserved bit"), 1002)] {
        let start = &bytes[..bytes.len() - 1];
        assert_eq!(hear_ours(Role::Server, &[start]), (vec![], Some(code)));
        assert_eq!(hear_theirs(Role::Server, start.to_vec()), (vec![], None));
        assert_eq!(hear_theirs(Role::Server, bytes), (vec![], Some(code)));
    }
    // So is a byte that no text can hold.
    let text = masked(TEXT, [b"\xFF", &[b'.'; 50][..]].concat());
    assert_eq!(hear_ours(Role::Server, &[&text[..10]]), (vec![], Some(1007)));
    assert_eq!(hear_theirs(Role::Server, text[..10].to_vec()), (vec![], None));
}

#[test]
fn of_two_faults_in_one_frame_each_may_name_another() {
    // A frame both too big and not masked: refused by both, with the fault that each sees first.
    let bytes = plain(BINARY, vec![0; LIMIT + 1]);
    assert_eq!(hear_ours(Role::Server, &[&bytes]), (vec![], Some(1002)));
    assert_eq!(hear_theirs(Role::Server, bytes), (vec![], Some(1009)));
}
