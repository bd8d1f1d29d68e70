//! What a message carries, and how its receiver knows that it is right.
//!
//! | bytes | |
//! |---|---|
//! | 0..4 | connection that sent it |
//! | 4..8 | check over the rest of the stamp |
//! | 8..16 | sequence number on that connection |
//! | 16..24 | intended send time, ns since the load began |
//! | 24.. | filler that follows from connection and sequence number |
//!
//! All little-endian. Whichever bit is changed on the way, the check or the filler does not fit any more.

/// Bytes that every message has.
pub const STAMP_BYTES: usize = 24;

/// Who sent a message, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) connection: u32,
    pub(crate) sequence: u64,
    /// The intended send time, in ns since the load began.
    pub(crate) sent_ns: u64,
}

/// An odd constant near 2^64 divided by the golden ratio: multiples of it share no pattern.
const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

impl Stamp {
    /// Fills `payload`, which has at least [`STAMP_BYTES`].
    pub(crate) fn write(self, payload: &mut [u8]) {
        payload[0..4].copy_from_slice(&self.connection.to_le_bytes());
        payload[4..8].copy_from_slice(&self.check().to_le_bytes());
        payload[8..16].copy_from_slice(&self.sequence.to_le_bytes());
        payload[16..24].copy_from_slice(&self.sent_ns.to_le_bytes());
        let mut word = self.seed();
        let (words, rest) = payload[STAMP_BYTES..].as_chunks_mut::<8>();
        for space in words {
            *space = word.to_le_bytes();
            word = word.wrapping_add(STEP);
        }
        rest.copy_from_slice(&word.to_le_bytes()[..rest.len()]);
    }

    /// The stamp of a message of `expected_bytes`; `None` if a single bit of it is not as it was written.
    pub(crate) fn verify(payload: &[u8], expected_bytes: usize) -> Option<Stamp> {
        if payload.len() != expected_bytes {
            return None;
        }
        let (head, filler) = payload.split_first_chunk::<STAMP_BYTES>()?;
        let number = |from: usize| u64::from_le_bytes(std::array::from_fn(|i| head[from + i]));
        let stamp = Stamp { connection: number(0) as u32, sequence: number(8), sent_ns: number(16) };
        let mut is_right = (number(0) >> 32) as u32 == stamp.check();
        let mut word = stamp.seed();
        let (words, rest) = filler.as_chunks::<8>();
        for got in words {
            is_right &= u64::from_le_bytes(*got) == word;
            word = word.wrapping_add(STEP);
        }
        (is_right && rest == &word.to_le_bytes()[..rest.len()]).then_some(stamp)
    }

    fn seed(self) -> u64 {
        mix(u64::from(self.connection) ^ self.sequence.rotate_left(32))
    }

    fn check(self) -> u32 {
        (mix(self.seed() ^ self.sent_ns.wrapping_mul(STEP)) >> 32) as u32
    }
}

/// Spreads each bit over all others (the finalizer of SplitMix64: Steele, Lea and Flood, 2014).
fn mix(mut word: u64) -> u64 {
    word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flipped_bit_is_found_wherever_it_is() {
        let stamp = Stamp { connection: 7, sequence: 123_456, sent_ns: 9_876_543_210 };
        for length in [24, 25, 31, 32, 64, 100] {
            let mut payload = vec![0; length];
            stamp.write(&mut payload);
            assert_eq!(Stamp::verify(&payload, length), Some(stamp));
            for bit in 0..length * 8 {
                payload[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(Stamp::verify(&payload, length), None, "bit {bit} of {length} bytes");
                payload[bit / 8] ^= 1 << (bit % 8);
            }
            assert_eq!(Stamp::verify(&payload[..length - 1], length), None);
        }
    }
}
