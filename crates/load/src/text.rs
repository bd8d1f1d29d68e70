//! Messages for those who can only hear text: the stamped bytes in base64 whose letters nobody needs to escape (RFC 4648, 5), without
//! padding. What the length of the message leaves over is filled with dots.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::stamp::{LEAST_PAYLOAD_BYTES, Stamp};

/// Bytes of text that a whole stamp needs at the least.
pub const LEAST_TEXT_BYTES: usize = (LEAST_PAYLOAD_BYTES * 4).div_ceil(3);

const FILLER: u8 = b'.';

/// The bytes that stand in a text.
pub(crate) fn stamped_bytes(text_bytes: usize) -> usize {
    text_bytes * 3 / 4
}

/// What [`write`] and [`read`] need to work in.
pub(crate) fn workspace(text_bytes: usize) -> Vec<u8> {
    vec![0; stamped_bytes(text_bytes) + 3]
}

/// Fills `text` with a stamped message.
pub(crate) fn write(stamp: Stamp, text: &mut [u8], workspace: &mut [u8]) {
    let stamped = &mut workspace[..stamped_bytes(text.len())];
    stamp.write(stamped);
    let used = URL_SAFE_NO_PAD.encode_slice(stamped, text).expect("four letters hold three bytes");
    text[used..].fill(FILLER);
}

/// The stamped bytes of a text that should be of `text_bytes`; nothing if it is none.
pub(crate) fn read<'w>(text: &[u8], text_bytes: usize, workspace: &'w mut [u8]) -> &'w [u8] {
    let letters = (stamped_bytes(text_bytes) * 4).div_ceil(3);
    if text.len() != text_bytes || text[letters..].iter().any(|byte| *byte != FILLER) {
        return &[];
    }
    let decoded = URL_SAFE_NO_PAD.decode_slice(&text[..letters], workspace);
    decoded.map_or(&[], |decoded| &workspace[..decoded])
}

/// What can still be read of a text that is none of ours, or not whole: the bytes of as many letters as there should be.
pub(crate) fn salvage<'w>(text: &[u8], text_bytes: usize, workspace: &'w mut [u8]) -> &'w [u8] {
    let letters = (stamped_bytes(text_bytes) * 4).div_ceil(3).min(text.len());
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    let mut used = 0;
    for four in text[..letters].chunks(4) {
        let mut readable = [b'A'; 4];
        for (place, byte) in readable.iter_mut().zip(four) {
            *place = if is_letter(*byte) { *byte } else { b'A' };
        }
        let Ok(decoded) = URL_SAFE_NO_PAD.decode_slice(readable, &mut workspace[used..]) else { break };
        used += decoded;
    }
    &workspace[..used.min(stamped_bytes(text_bytes))]
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: u64 = 0x0123_4567_89AB_CDEF;

    #[test]
    fn a_damaged_text_can_be_read_but_for_the_damage() {
        let stamp = Stamp { run: RUN, connection: 0, sequence: 77, sent_ns: 1_000_000 };
        for length in [22, 32, 33, 64, 67] {
            let (mut text, mut workspace) = (vec![0; length], workspace(length));
            write(stamp, &mut text, &mut workspace);
            let whole = read(&text, length, &mut workspace).to_vec();
            text[1] = b' ';
            for text in [text.clone(), [&text[..], b"more"].concat()] {
                let salvaged = salvage(&text, length, &mut workspace);
                assert_eq!((salvaged.len(), &salvaged[3..]), (whole.len(), &whole[3..]), "{length}");
            }
            assert!(salvage(b"", length, &mut workspace).is_empty());
        }
    }

    #[test]
    fn a_text_of_any_length_holds_a_stamp_and_no_letter_of_it_can_change() {
        let stamp = Stamp { run: RUN, connection: 0, sequence: 77, sent_ns: 1_000_000 };
        for length in [22, 23, 24, 31, 32, 33, 63, 64, 65, 66, 67, 100] {
            let (mut text, mut workspace) = (vec![0; length], workspace(length));
            write(stamp, &mut text, &mut workspace);
            assert!(text.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte)));
            let mut verify = |text: &[u8]| {
                let stamped = read(text, length, &mut workspace);
                Stamp::verify(stamped, stamped_bytes(length), 70, 2_000_000, RUN)
            };
            assert_eq!(verify(&text), Some(stamp), "{length} bytes");
            assert_eq!(verify(&text[1..]), None);
            for place in 0..length {
                let before = text[place];
                for other in [b'A', b'z', b'.', b' ', 0xff] {
                    text[place] = other;
                    assert!(other == before || verify(&text).is_none(), "{place} of {length} bytes");
                }
                text[place] = before;
            }
        }
        assert_eq!(LEAST_TEXT_BYTES, 22);
    }
}
