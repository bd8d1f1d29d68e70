//! What a message carries, and how its receiver knows that it is right.
//!
//! | bytes | |
//! |---|---|
//! | 0..4 | connection that sent it |
//! | 4..8 | check over the rest of the stamp, and over the run's mark |
//! | 8..16 | sequence number on that connection |
//! | 16..24 | intended send time, ns since the load began |
//! | 24.. | filler that follows from connection, sequence number and mark |
//!
//! A message that is too short for that has the lower parts of the last two:
//!
//! | bytes | |
//! |---|---|
//! | 0..8 | as above |
//! | 8..10 | the lower 16 bits of the sequence number |
//! | 10..16 | the lower 48 bits of the intended send time |
//! | 16.. | filler |
//!
//! All little-endian. The numbers are mixed (XOR) with the run's mark, a random word, so that what somebody else says does not look like one of them by
//! chance: a message that has nothing of a stamp of this run is none that was damaged, but one that nobody has asked for. Whichever bit is changed on the way, the check or the filler does not fit any more.

/// Bytes of a whole stamp.
pub const STAMP_BYTES: usize = 24;

/// Bytes that every message has.
pub const LEAST_PAYLOAD_BYTES: usize = 16;

/// What a short stamp keeps of sequence number and time: no more than half of that is under way on a connection, or 39 hours old.
const SHORT_SEQUENCE: u64 = 1 << 16;
const SHORT_TIME: u64 = 1 << 48;

/// Who sent a message, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// The mark of the run: another run's messages are not this one's.
    pub(crate) run: u64,
    pub(crate) connection: u32,
    pub(crate) sequence: u64,
    /// The intended send time, in ns since the load began.
    pub(crate) sent_ns: u64,
}

/// An odd constant near 2^64 divided by the golden ratio: multiples of it share no pattern.
pub(crate) const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

impl Stamp {
    /// Fills `payload`, which has at least [`LEAST_PAYLOAD_BYTES`].
    pub(crate) fn write(self, payload: &mut [u8]) {
        let stamp = if payload.len() < STAMP_BYTES { self.shortened() } else { self };
        payload[0..4].copy_from_slice(&(stamp.connection ^ self.run as u32).to_le_bytes());
        payload[4..8].copy_from_slice(&stamp.check().to_le_bytes());
        let head = if payload.len() < STAMP_BYTES {
            let both = stamp.sequence | stamp.sent_ns << 16;
            payload[8..16].copy_from_slice(&(both ^ self.run).to_le_bytes());
            LEAST_PAYLOAD_BYTES
        } else {
            payload[8..16].copy_from_slice(&(stamp.sequence ^ self.run).to_le_bytes());
            payload[16..24].copy_from_slice(&(stamp.sent_ns ^ self.run).to_le_bytes());
            STAMP_BYTES
        };
        let mut word = stamp.seed();
        let (words, rest) = payload[head..].as_chunks_mut::<8>();
        for space in words {
            *space = word.to_le_bytes();
            word = word.wrapping_add(STEP);
        }
        rest.copy_from_slice(&word.to_le_bytes()[..rest.len()]);
    }

    /// The stamp of a message of `expected_bytes` of the run that has this mark; `None` if a single bit of it is not as it was written. What a
    /// short stamp does not have follows from the sequence number that is expected next and from the time.
    pub(crate) fn verify(
        payload: &[u8],
        expected_bytes: usize,
        next: u64,
        now_ns: u64,
        run: u64,
    ) -> Option<Stamp> {
        if payload.len() != expected_bytes {
            return None;
        }
        let is_short = expected_bytes < STAMP_BYTES;
        let (stamp, check) = Stamp::head(payload, is_short, run)?;
        let filler = &payload[if is_short { LEAST_PAYLOAD_BYTES } else { STAMP_BYTES }..];
        let mut is_right = check == stamp.check();
        let mut word = stamp.seed();
        let (words, rest) = filler.as_chunks::<8>();
        for got in words {
            is_right &= u64::from_le_bytes(*got) == word;
            word = word.wrapping_add(STEP);
        }
        is_right &= rest == &word.to_le_bytes()[..rest.len()];
        let whole = if is_short { stamp.lengthened(next, now_ns) } else { stamp };
        is_right.then_some(whole)
    }

    /// What stands in the place of a stamp, right or not, and in that of its check. `None`: it is too short for one.
    pub(crate) fn head(payload: &[u8], is_short: bool, run: u64) -> Option<(Stamp, u32)> {
        let (head, rest) = payload.split_first_chunk::<LEAST_PAYLOAD_BYTES>()?;
        let number = |from: usize| u64::from_le_bytes(std::array::from_fn(|i| head[from + i]));
        let (connection, check) = (number(0) as u32 ^ run as u32, (number(0) >> 32) as u32);
        let second = number(8) ^ run;
        let (sequence, sent_ns) = if is_short {
            (second % SHORT_SEQUENCE, second >> 16)
        } else {
            (second, u64::from_le_bytes(*rest.first_chunk::<8>()?) ^ run)
        };
        Some((Stamp { run, connection, sequence, sent_ns }, check))
    }

    fn shortened(self) -> Stamp {
        Stamp { sequence: self.sequence % SHORT_SEQUENCE, sent_ns: self.sent_ns % SHORT_TIME, ..self }
    }

    /// With the sequence number that is nearest to `next`, and the last time before `now_ns`.
    pub(crate) fn lengthened(self, next: u64, now_ns: u64) -> Stamp {
        let behind = next.wrapping_sub(self.sequence) % SHORT_SEQUENCE;
        let sequence = if behind <= SHORT_SEQUENCE / 2 {
            next.wrapping_sub(behind)
        } else {
            next.wrapping_add(SHORT_SEQUENCE - behind)
        };
        let sent_ns = now_ns.wrapping_sub(now_ns.wrapping_sub(self.sent_ns) % SHORT_TIME);
        Stamp { sequence, sent_ns, ..self }
    }

    /// The first word of the filler.
    pub(crate) fn seed(self) -> u64 {
        mix(u64::from(self.connection) ^ self.sequence.rotate_left(32) ^ self.run)
    }

    pub(crate) fn check(self) -> u32 {
        (mix(self.seed() ^ self.sent_ns.wrapping_mul(STEP)) >> 32) as u32
    }
}

/// Spreads each bit over all others (the finalizer of SplitMix64: Steele, Lea and Flood, 2014).
pub(crate) fn mix(mut word: u64) -> u64 {
    word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: u64 = 0x0123_4567_89AB_CDEF;

    #[test]
    fn a_flipped_bit_is_found_wherever_it_is() {
        let stamp = Stamp { run: RUN, connection: 7, sequence: 123_456, sent_ns: 9_876_543_210 };
        let verify = |payload: &[u8], length| Stamp::verify(payload, length, 123_450, 9_900_000_000, RUN);
        for length in [16, 17, 20, 23, 24, 25, 31, 32, 64, 100] {
            let mut payload = vec![0; length];
            stamp.write(&mut payload);
            assert_eq!(verify(&payload, length), Some(stamp), "{length} bytes");
            for bit in 0..length * 8 {
                payload[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(verify(&payload, length), None, "bit {bit} of {length} bytes");
                payload[bit / 8] ^= 1 << (bit % 8);
            }
            assert_eq!(verify(&payload[..length - 1], length), None);
            let another = Stamp::verify(&payload, length, 123_450, 9_900_000_000, RUN + 1);
            assert_eq!(another, None, "another run's");
        }
    }

    #[test]
    fn what_a_short_stamp_leaves_out_is_found_again() {
        let mut payload = [0; LEAST_PAYLOAD_BYTES];
        for (sequence, next) in
            [(0, 0), (65_535, 65_536), (65_536, 65_530), (200_000, 199_000), (70_000, 69_000)]
        {
            let stamp = Stamp { run: RUN, connection: 1, sequence, sent_ns: (3 << 48) + 5 };
            stamp.write(&mut payload);
            assert_eq!(Stamp::verify(&payload, 16, next, (3 << 48) + 1_000, RUN), Some(stamp), "{sequence}");
        }
    }
}
