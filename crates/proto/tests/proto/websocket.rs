//! The assembler by itself, held to RFC 6455.

use switchboard_proto::Kind;
use switchboard_proto::websocket::{
    Assembler, Incoming, MAX_HEADER_BYTES, Opcode, Payload, Role, Violation, accept_key, encode_close,
    encode_header, mask,
};

use super::frames::{
    BINARY, CLOSE, CONTINUE, FIN, Form, Frame, KEY, PING, TEXT, close, masked, plain, read_frames,
};

const LIMIT: usize = 1 << 20;

fn one(role: Role, bytes: &[u8]) -> Result<bool, Violation> {
    Assembler::new(role, LIMIT).next(&mut &mut bytes.to_vec()[..]).map(|incoming| incoming.is_some())
}

#[test]
fn the_accept_key_is_that_of_the_rfc() {
    assert_eq!(accept_key(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
}

#[test]
fn the_frames_of_the_rfc_are_read() {
    // Section 5.7, as a server sees them and as a client does.
    let mut masked_hello = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
    let heard = Assembler::new(Role::Server, LIMIT).next(&mut &mut masked_hello[..]);
    assert_eq!(heard, Ok(Some(Incoming::Message(Kind::Text, Payload::Borrowed(b"Hello")))));

    let mut fragments = [0x01, 0x03, 0x48, 0x65, 0x6c, 0x80, 0x02, 0x6c, 0x6f, 0x89, 0x05];
    let mut assembler = Assembler::new(Role::Client, LIMIT);
    let mut input = &mut fragments[..];
    let heard = assembler.next(&mut input);
    assert_eq!(heard, Ok(Some(Incoming::Message(Kind::Text, Payload::Borrowed(b"Hello")))));
    assert_eq!(assembler.next(&mut input), Ok(None));
    let heard = assembler.next(&mut &mut b"Hello".to_owned()[..]).map(|ping| ping == Some(ping_hello()));
    assert_eq!(heard, Ok(true));
}

fn ping_hello() -> Incoming<'static> {
    Incoming::Ping(Payload::Borrowed(b"Hello"))
}

#[test]
fn a_message_in_one_piece_is_not_copied() {
    let mut bytes = masked(BINARY, [7; 1000]);
    let payload_at = bytes[8..].as_ptr();
    let mut assembler = Assembler::new(Role::Server, LIMIT);
    match assembler.next(&mut &mut bytes[..]) {
        Ok(Some(Incoming::Message(Kind::Binary, Payload::Borrowed(payload)))) => {
            assert_eq!((payload.as_ptr(), payload), (payload_at, &[7; 1000][..]));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn clients_mask_and_servers_do_not() {
    assert_eq!(one(Role::Server, &masked(TEXT, "x")), Ok(true));
    assert_eq!(one(Role::Server, &plain(TEXT, "x")), Err(Violation::Masking));
    assert_eq!(one(Role::Client, &plain(TEXT, "x")), Ok(true));
    assert_eq!(one(Role::Client, &masked(TEXT, "x")), Err(Violation::Masking));
    // A mask of zeros is a mask.
    let mut zeros = Vec::new();
    Frame { first: TEXT, mask: Some([0; 4]), form: Form::Shortest, payload: b"x".to_vec() }
        .encode(&mut zeros);
    assert_eq!(one(Role::Server, &zeros), Ok(true));
}

#[test]
fn every_opcode_and_reserved_bit_is_what_the_rfc_says() {
    for first in 0..=255_u8 {
        let (reserved, opcode) = (first & 0x70, first & 0x0F);
        let is_final = first & FIN != 0;
        let expected = match opcode {
            0x3..=0x7 | 0xB..=0xF => Err(Violation::ReservedOpcode),
            _ if reserved != 0 => Err(Violation::ReservedBit),
            0x8..=0xA if !is_final => Err(Violation::Control),
            0x0 => Err(Violation::Fragment),
            _ => Ok(is_final),
        };
        assert_eq!(one(Role::Client, &plain(first, "")), expected, "{first:#04x}");
    }
}

#[test]
fn lengths_are_in_their_shortest_form() {
    for (length, form, allowed) in [
        (125, Form::Shortest, true),
        (125, Form::Word, false),
        (125, Form::Long, false),
        (126, Form::Word, true),
        (126, Form::Long, false),
        (65_535, Form::Word, true),
        (65_535, Form::Long, false),
        (65_536, Form::Long, true),
    ] {
        for (role, mask) in [(Role::Server, Some(KEY)), (Role::Client, None)] {
            let mut bytes = Vec::new();
            Frame { first: BINARY, mask, form, payload: vec![0; length] }.encode(&mut bytes);
            let expected = if allowed { Ok(true) } else { Err(Violation::Length) };
            assert_eq!(one(role, &bytes), expected, "{length} {form:?} {role:?}");
        }
    }
    // The highest bit must be zero (section 5.2).
    assert_eq!(one(Role::Client, &[BINARY, 127, 0x80, 0, 0, 0, 0, 0, 0, 0]), Err(Violation::Length));
}

#[test]
fn a_message_that_is_too_big_is_refused_from_its_header_alone() {
    let mut header = vec![BINARY, 0x80 | 127];
    header.extend_from_slice(&(i64::MAX as u64).to_be_bytes());
    header.extend_from_slice(&KEY);
    assert_eq!(one(Role::Server, &header), Err(Violation::TooBig));

    // So is the last fragment of one that is too big together.
    let mut assembler = Assembler::new(Role::Client, 1000);
    assert_eq!(assembler.next(&mut &mut plain(BINARY & !FIN, [0; 600])[..]), Ok(None));
    assert_eq!(assembler.next(&mut &mut plain(CONTINUE & !FIN, [0; 400])[..]), Ok(None));
    assert_eq!(assembler.next(&mut &mut plain(CONTINUE & !FIN, [])[..]), Ok(None));
    assert_eq!(assembler.next(&mut &mut [CONTINUE, 1][..]), Err(Violation::TooBig));
}

#[test]
fn every_close_code_is_what_the_rfc_and_its_registry_say() {
    for code in 0..=u16::MAX {
        let expected = match code {
            1000..=1003 | 1007..=1014 | 3000..=4999 => Ok(true),
            // Below 1000 is not used, 1005, 1006 and 1015 never stand in a frame, the rest is not given out.
            _ => Err(Violation::Close),
        };
        assert_eq!(one(Role::Client, &plain(CLOSE, close(code, ""))), expected, "{code}");
    }
}

#[test]
fn a_close_frame_has_no_code_or_a_whole_one_and_its_reason_is_text() {
    assert_eq!(one(Role::Client, &plain(CLOSE, "")), Ok(true));
    assert_eq!(one(Role::Client, &plain(CLOSE, [3])), Err(Violation::Close));
    assert_eq!(one(Role::Client, &plain(CLOSE, close(1000, "tschüß"))), Ok(true));
    assert_eq!(one(Role::Client, &plain(CLOSE, [3, 232, 0xC3])), Err(Violation::Utf8));
    assert_eq!(one(Role::Client, &plain(CLOSE, close(1000, &"x".repeat(123)))), Ok(true));
    assert_eq!(one(Role::Client, &plain(CLOSE, close(1000, &"x".repeat(124)))), Err(Violation::Control));
}

#[test]
fn text_that_cannot_become_utf8_is_refused_at_the_byte_that_shows_it() {
    // Each is refused by its last byte, which neither ends its frame nor its message.
    for bytes in [
        &b"fine \xFF"[..],
        b"\xC0",
        b"\xC3\x28",
        b"\xE0\x9F",
        b"\xED\xA0",
        b"\xE2\x82\x28",
        b"\xF0\x8F",
        b"\xF4\x90",
        b"\xF5",
        "\u{3BA}\u{1F79}\u{3C3}\u{3BC}\u{3B5}".as_bytes(),
    ] {
        let is_text = std::str::from_utf8(bytes).is_ok();
        let mut long = bytes.to_vec();
        long.resize(100, b'.');
        let frame = plain(TEXT & !FIN, long);
        let mut assembler = Assembler::new(Role::Client, LIMIT);
        for byte in &frame[..2 + bytes.len() - 1] {
            assert_eq!(assembler.next(&mut &mut [*byte][..]), Ok(None), "{bytes:x?}");
        }
        let mut last = [bytes[bytes.len() - 1]];
        let decided = assembler.next(&mut &mut last[..]);
        assert_eq!(decided, if is_text { Ok(None) } else { Err(Violation::Utf8) }, "{bytes:x?}");
    }
}

#[test]
fn text_may_not_end_within_a_character() {
    let euro = "€".as_bytes();
    assert_eq!(one(Role::Client, &plain(TEXT, &euro[..2])), Err(Violation::Utf8));
    let halves = |second: &[u8]| [plain(TEXT & !FIN, &euro[..2]), plain(CONTINUE, second)].concat();
    assert_eq!(one(Role::Client, &halves(&euro[2..])), Ok(true));
    assert_eq!(one(Role::Client, &halves(b"")), Err(Violation::Utf8));
    // Bytes may be anything.
    assert_eq!(one(Role::Client, &plain(BINARY, &euro[..2])), Ok(true));
}

#[test]
fn every_violation_has_its_close_code() {
    for violation in [
        Violation::ReservedBit,
        Violation::ReservedOpcode,
        Violation::Masking,
        Violation::Length,
        Violation::Control,
        Violation::Fragment,
        Violation::Close,
    ] {
        assert_eq!(violation.close_code(), 1002, "{violation}");
    }
    assert_eq!(Violation::Utf8.close_code(), 1007);
    assert_eq!(Violation::TooBig.close_code(), 1009);
}

#[test]
fn headers_are_written_in_their_shortest_form() {
    for length in [0, 1, 125, 126, 127, 65_535, 65_536, 1 << 20] {
        for (opcode, first) in [(Opcode::Binary, BINARY), (Opcode::Ping, PING)] {
            for mask in [None, Some(KEY)] {
                let mut header = Vec::new();
                encode_header(&mut header, opcode, length, mask);
                let mut frame = Vec::new();
                let payload = vec![0; length];
                Frame { first, mask, form: Form::Shortest, payload }.encode(&mut frame);
                assert_eq!(header, frame[..frame.len() - length]);
                assert!(header.len() <= MAX_HEADER_BYTES);
            }
        }
    }
}

#[test]
fn a_close_without_a_code_is_empty_whatever_the_reason() {
    let mut frame = Vec::new();
    encode_close(&mut frame, None, "not to be said", None);
    assert_eq!(read_frames(&frame), [(CLOSE, vec![])]);
    let mut frame = Vec::new();
    encode_close(&mut frame, Some(1000), "bye", Some(KEY));
    assert_eq!(frame, masked(CLOSE, close(1000, "bye")));
}

#[test]
fn masking_twice_is_not_masking() {
    proptest::proptest!(|(payload: Vec<u8>, key: [u8; 4])| {
        let mut bytes = payload.clone();
        mask(&mut bytes, key);
        let expected: Vec<u8> = payload.iter().zip(key.iter().cycle()).map(|(a, b)| a ^ b).collect();
        proptest::prop_assert_eq!(&bytes, &expected);
        mask(&mut bytes, key);
        proptest::prop_assert_eq!(bytes, payload);
    });
}
