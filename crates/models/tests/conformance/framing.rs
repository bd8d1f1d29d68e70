//! Frames that must not be (RFC 6455, sections 5.1 to 5.5): each ends the connection with 1002.

use std::io::{ErrorKind, Write};

use crate::client::{Client, Pace, at_each_pace};
use crate::frames::{
    BINARY, CLOSE, CONTINUATION, FINAL, KEY, PING, PONG, TEXT, frame, header_16, header_64, masked, text,
    unmasked,
};
use crate::server::Server;
use crate::{Case, case};

pub(crate) const CASES: &[Case] = &[
    case!(Http, a_frame_that_is_not_masked_is_a_protocol_error),
    case!(Http, a_reserved_bit_is_a_protocol_error),
    case!(Http, a_reserved_opcode_is_a_protocol_error),
    case!(Http, a_control_frame_in_fragments_is_a_protocol_error),
    case!(Http, a_control_frame_over_125_bytes_is_a_protocol_error),
    case!(Http, a_length_not_in_its_shortest_form_is_a_protocol_error),
    case!(Http, a_length_with_the_top_bit_is_a_protocol_error),
    case!(Http, what_came_before_the_error_is_answered_and_nothing_after_it),
    case!(Http, the_close_arrives_though_its_client_goes_on_sending),
    case!(Echo, whatever_is_wrong_ends_the_connection),
];

type Input = (String, Vec<u8>);

fn not_masked() -> Vec<Input> {
    let opcodes = [("text", TEXT), ("binary", BINARY), ("close", CLOSE), ("ping", PING), ("pong", PONG)];
    let mut inputs: Vec<Input> = opcodes
        .iter()
        .map(|(name, opcode)| (format!("{name}, not masked"), unmasked(*opcode, b"")))
        .collect();
    inputs.push(("a long text, not masked".into(), unmasked(TEXT, &[b'x'; 70_000][..300])));
    inputs
}

fn reserved_bits() -> Vec<Input> {
    let mut inputs = Vec::new();
    for bits in 1..8 {
        for opcode in [TEXT, BINARY, CLOSE, PING, PONG] {
            let first = FINAL | bits << 4 | opcode;
            inputs.push((format!("first byte {first:#04x}"), masked(first, KEY, b"")));
        }
    }
    inputs
}

fn reserved_opcodes() -> Vec<Input> {
    let mut inputs = Vec::new();
    for opcode in (3..8).chain(11..16) {
        inputs.push((format!("opcode {opcode}"), frame(opcode, "")));
        inputs.push((format!("opcode {opcode} with a payload"), frame(opcode, "payload")));
        inputs.push((format!("opcode {opcode} in fragments"), masked(opcode, KEY, b"")));
    }
    inputs
}

fn control_in_fragments() -> Vec<Input> {
    let opcodes = [("close", CLOSE), ("ping", PING), ("pong", PONG)];
    opcodes.map(|(name, opcode)| (format!("{name} that is not final"), masked(opcode, KEY, b""))).to_vec()
}

fn long_control() -> Vec<Input> {
    let mut inputs = Vec::new();
    for opcode in [CLOSE, PING, PONG] {
        inputs.push((format!("opcode {opcode}, 126 bytes"), frame(opcode, [b'x'; 126])));
        inputs.push((format!("opcode {opcode}, 300 bytes"), frame(opcode, [b'x'; 300])));
    }
    inputs
}

fn long_lengths() -> Vec<Input> {
    let short = [0, 1, 125].map(|n| (format!("{n} in two bytes"), header_16(BINARY, n)));
    let long = [0, 125, 126, 65_535].map(|n| (format!("{n} in eight bytes"), header_64(TEXT, n)));
    short.into_iter().chain(long).collect()
}

fn top_bit() -> Vec<Input> {
    let lengths = [1 << 63, 1 << 63 | 5, u64::MAX];
    lengths.map(|n| (format!("length {n:#x}"), header_64(BINARY, n))).to_vec()
}

/// Each of these ends the connection with 1002, and the server goes on.
fn expect_protocol_errors(server: &Server, inputs: &[Input]) {
    at_each_pace(inputs, |pace, bytes| {
        let mut client = Client::open(server, "/echo");
        client.send_at(pace, bytes);
        client.expect_close(1002);
    });
    Client::open(server, "/echo").echo("still there");
}

fn a_frame_that_is_not_masked_is_a_protocol_error(server: &mut Server) {
    expect_protocol_errors(server, &not_masked());
}

fn a_reserved_bit_is_a_protocol_error(server: &mut Server) {
    expect_protocol_errors(server, &reserved_bits());
}

fn a_reserved_opcode_is_a_protocol_error(server: &mut Server) {
    expect_protocol_errors(server, &reserved_opcodes());
}

fn a_control_frame_in_fragments_is_a_protocol_error(server: &mut Server) {
    expect_protocol_errors(server, &control_in_fragments());
}

fn a_control_frame_over_125_bytes_is_a_protocol_error(server: &mut Server) {
    expect_protocol_errors(server, &long_control());
}

fn a_length_not_in_its_shortest_form_is_a_protocol_error(server: &mut Server) {
    expect_protocol_errors(server, &long_lengths());
}

fn a_length_with_the_top_bit_is_a_protocol_error(server: &mut Server) {
    expect_protocol_errors(server, &top_bit());
}

fn what_came_before_the_error_is_answered_and_nothing_after_it(server: &mut Server) {
    let bytes = [text("before"), frame(PING, "p"), unmasked(TEXT, b"wrong"), text("after"), frame(PING, "q")];
    at_each_pace(&[("between messages", bytes.concat())], |pace, bytes| {
        let mut client = Client::open(server, "/echo");
        client.send_at(pace, bytes);
        client.expect_text("before");
        client.expect(PONG, "p");
        client.expect_close(1002);
    });
}

fn the_close_arrives_though_its_client_goes_on_sending(server: &mut Server) {
    let mut client = Client::open(server, "/echo");
    client.send(masked(CONTINUATION, KEY, b"of nothing"));
    // More than any socket buffer holds: the server must take it in, or a reset overtakes the close.
    client.send(vec![b'x'; 6 << 20]);
    client.expect_close(1002);
}

/// The plain form of this, for servers that do not say why.
fn whatever_is_wrong_ends_the_connection(server: &mut Server) {
    let all = [
        not_masked(),
        reserved_bits(),
        reserved_opcodes(),
        control_in_fragments(),
        long_control(),
        top_bit(),
    ];
    at_each_pace(&all.concat(), |pace, bytes| {
        let mut client = Client::open(server, "/echo");
        // The connection may end while this is still being sent.
        let bytes = [bytes, &text("never to be answered")[..]].concat();
        let pieces = bytes.chunks(if pace == Pace::AllAtOnce { bytes.len() } else { 1 });
        pieces.map(|piece| client.stream.write_all(piece)).all(|sent| sent.is_ok());
        // A close frame, or nothing.
        let error = loop {
            match client.try_take(2) {
                Ok(header) => {
                    assert_eq!(header[0], FINAL | CLOSE, "answered as if nothing had been wrong");
                    client.take(usize::from(header[1]));
                }
                Err(error) => break error,
            }
        };
        assert_ne!(error.kind(), ErrorKind::TimedOut, "{error}");
    });
    Client::open(server, "/echo").echo("still there");
}
