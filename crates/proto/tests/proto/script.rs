//! Random conversations: what a peer may send, rightly and wrongly, and ways to cut it.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::frames::{BINARY, CLOSE, CONTINUE, FIN, Form, Frame, PING, PONG, TEXT};

/// Frames in order. Once one of them is wrong, those behind it are only noise.
pub(crate) type Script = Vec<Frame>;

pub(crate) fn encode(script: &Script) -> Vec<u8> {
    let mut out = Vec::new();
    script.iter().for_each(|frame| frame.encode(&mut out));
    out
}

/// What a client sends, mostly rightly: masked. `wrong` is what it may do wrong.
pub(crate) fn from_client(wrong: BoxedStrategy<Script>) -> impl Strategy<Value = Script> {
    (conversation(wrong), any::<[u8; 4]>()).prop_map(|(mut script, key)| {
        for (i, frame) in script.iter_mut().enumerate() {
            // Frames that are not masked yet get masks of their own; zero is one of them.
            frame.mask = match frame.mask {
                None => Some(if i % 7 == 3 { [0; 4] } else { key.map(|byte| byte.wrapping_add(i as u8)) }),
                Some(_) => None,
            };
        }
        script
    })
}

/// What a server sends, mostly rightly. A frame with a mask is one with the masking wrong; so that the two
/// roles share their scripts, [`from_client`] turns it round.
pub(crate) fn conversation(wrong: BoxedStrategy<Script>) -> impl Strategy<Value = Script> {
    let piece = prop_oneof![
        6 => message(),
        2 => control().prop_map(|frame| vec![frame]),
        1 => wrong,
    ];
    vec(piece, 0..6).prop_map(|pieces| pieces.concat())
}

/// What breaks the protocol in a way that nobody disputes.
pub(crate) fn violation() -> BoxedStrategy<Script> {
    prop_oneof![
        // Any first byte: reserved bits and opcodes, fragments out of order, and much that is right.
        1 => (any::<u8>(), vec(any::<u8>(), 0..5)).prop_map(|(first, payload)| vec![frame(first, payload)]),
        // A control frame too long or in fragments.
        1 => (select(&[CLOSE, PING, PONG][..]), 126..200_usize).prop_map(|(first, n)| vec![frame(first, vec![0; n])]),
        1 => select(&[CLOSE, PING, PONG][..]).prop_map(|first| vec![frame(first & !FIN, vec![])]),
        // The mask where there should be none, none where there should be one.
        1 => Just(vec![Frame { mask: Some([1, 2, 3, 4]), ..frame(TEXT, b"mask".to_vec()) }]),
        // A message that never ends, and another inside it.
        1 => Just(vec![frame(TEXT & !FIN, b"begun".to_vec()), frame(BINARY, vec![])]),
        1 => Just(vec![frame(CONTINUE, b"of nothing".to_vec())]),
        // The end.
        2 => close_payload().prop_map(|payload| vec![frame(CLOSE, payload)]),
        // Text of any bytes.
        1 => vec(any::<u8>(), 1..9).prop_map(|payload| vec![frame(TEXT, payload)]),
    ]
    .boxed()
}

/// Lengths not in their shortest form, which not everybody minds.
pub(crate) fn long_length() -> BoxedStrategy<Script> {
    (select(&[Form::Word, Form::Long][..]), 0..200_usize)
        .prop_map(|(form, n)| vec![Frame { form, ..frame(BINARY, vec![0; n]) }])
        .boxed()
}

/// A message in any number of fragments, cut anywhere, with control frames in between.
fn message() -> impl Strategy<Value = Script> {
    let cuts = vec((any::<Index>(), proptest::option::of(control())), 0..4);
    (prop_oneof![text(), bytes()], cuts).prop_map(|((first, payload), cuts)| {
        let mut cuts: Vec<_> =
            cuts.into_iter().map(|(at, control)| (at.index(payload.len() + 1), control)).collect();
        cuts.sort_by_key(|(at, _)| *at);
        let mut script = Script::new();
        let (mut opcode, mut from) = (first & !FIN, 0);
        for (at, control) in cuts {
            script.push(frame(opcode, payload[from..at].to_vec()));
            script.extend(control);
            (opcode, from) = (CONTINUE & !FIN, at);
        }
        script.push(frame(opcode | FIN, payload[from..].to_vec()));
        script
    })
}

/// Mostly valid text of one to four bytes a character; sometimes one byte of it is another, or the last is missing.
fn text() -> BoxedStrategy<(u8, Vec<u8>)> {
    let broken = proptest::option::weighted(0.1, (any::<Index>(), proptest::option::of(any::<u8>())));
    ("[a-zäß€κ𝄞\u{10FFFF}\u{0}]{0,40}", broken)
        .prop_map(|(text, broken)| {
            let mut bytes = text.into_bytes();
            if let Some((at, byte)) = broken.filter(|_| !bytes.is_empty()) {
                match byte {
                    Some(byte) => {
                        let at = at.index(bytes.len());
                        bytes[at] = byte;
                    }
                    None => bytes.truncate(bytes.len() - 1),
                }
            }
            (TEXT, bytes)
        })
        .boxed()
}

/// Bytes around the lengths at which a header changes its form.
fn bytes() -> BoxedStrategy<(u8, Vec<u8>)> {
    let length = prop_oneof![8 => 0..20_usize, 4 => 123..130_usize, 1 => 65_533..65_539_usize];
    (length, any::<u8>())
        .prop_map(|(length, seed)| (BINARY, (0..length).map(|i| (i as u8).wrapping_mul(seed)).collect()))
        .boxed()
}

fn control() -> impl Strategy<Value = Frame> {
    (select(&[PING, PONG][..]), prop_oneof![0..10_usize, 120..126_usize], any::<u8>())
        .prop_map(|(first, length, byte)| frame(first, vec![byte; length]))
}

fn close_payload() -> impl Strategy<Value = Vec<u8>> {
    let code = prop_oneof![Just(1000_u16), 990..1020_u16, 2990..3010_u16, 4990..5010_u16, any::<u16>()];
    let whole = (code, "[a-zé]{0,20}").prop_map(|(code, reason)| super::frames::close(code, &reason));
    prop_oneof![4 => whole, 1 => Just(vec![]), 1 => Just(vec![3]), 1 => Just(vec![3, 232, 0xFF])]
}

fn frame(first: u8, payload: Vec<u8>) -> Frame {
    Frame { first, mask: None, form: Form::Shortest, payload }
}

/// Where a network cuts a stream: everywhere, nowhere, or at a few random places.
#[derive(Debug, Clone)]
pub(crate) enum Cuts {
    Every(usize),
    At(Vec<Index>),
}

pub(crate) fn cuts() -> impl Strategy<Value = Cuts> {
    prop_oneof![
        1 => (1..5_usize).prop_map(Cuts::Every),
        4 => vec(any::<Index>(), 0..12).prop_map(Cuts::At),
    ]
}

impl Cuts {
    /// The pieces of `bytes`; there may be empty ones.
    pub(crate) fn pieces<'b>(&self, bytes: &'b [u8]) -> Vec<&'b [u8]> {
        match self {
            Cuts::Every(step) => bytes.chunks(*step).collect(),
            Cuts::At(cuts) => {
                let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
                cuts.sort_unstable();
                let ends = cuts.iter().copied().chain([bytes.len()]);
                let starts = [0].into_iter().chain(cuts.iter().copied());
                starts.zip(ends).map(|(start, end)| &bytes[start..end]).collect()
            }
        }
    }
}
