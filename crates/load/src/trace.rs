//! What a message was that does not verify: one of ours that was damaged on the way, or something else.

use crate::stamp::{LEAST_PAYLOAD_BYTES, STAMP_BYTES, STEP, Stamp};

/// Numbers that the filler of a damaged message is compared with.
const MOST_CANDIDATES: usize = 4096;

/// What has been found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trace {
    /// It is a message of this run, and its number if that can be read.
    Damaged(Option<u64>),
    /// It is whole, but belongs to another connection.
    Misplaced,
    /// Nothing in it is this run's: nobody has asked for it.
    None,
}

/// What is known of the messages that it may have been.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Expected {
    pub(crate) run: u64,
    pub(crate) payload_bytes: usize,
    pub(crate) connection: u32,
    /// Messages sent so far.
    pub(crate) sent: u64,
    /// The number that comes next if nothing goes wrong.
    pub(crate) next: u64,
    pub(crate) now_ns: u64,
}

impl Expected {
    /// Looks for what is left of a stamp. One field of it is enough: each is mixed with the run's mark, and does not look like itself by chance.
    /// `open`: the numbers that have not come.
    pub(crate) fn trace(self, payload: &[u8], open: impl Iterator<Item = u64> + Clone) -> Trace {
        let Expected { run, payload_bytes, connection, sent, next, now_ns } = self;
        let is_short = payload_bytes < STAMP_BYTES;
        if let Some((stamp, check)) = Stamp::head(payload, is_short, run) {
            let whole = if is_short { stamp.lengthened(next, now_ns) } else { stamp };
            let is_whole = check == stamp.check();
            if is_whole && (whole.connection != connection || whole.sequence >= sent) {
                return Trace::Misplaced;
            }
            let is_open = open.clone().take(MOST_CANDIDATES).any(|number| number == whole.sequence);
            if is_whole || is_open && whole.sent_ns <= now_ns {
                return Trace::Damaged(Some(whole.sequence));
            }
            if whole.connection == connection {
                return Trace::Damaged(None);
            }
        }
        // The head is gone. The filler follows from the number as well: two words of it, of which one may be the damaged one.
        let head = if is_short { LEAST_PAYLOAD_BYTES } else { STAMP_BYTES };
        let (words, _) = payload.get(head..).unwrap_or_default().as_chunks::<8>();
        let seed = |place: usize| {
            words.get(place).map(|word| u64::from_le_bytes(*word).wrapping_sub(STEP.wrapping_mul(place as u64)))
        };
        let seeds = [seed(0), words.len().checked_sub(1).and_then(seed)];
        let is_seed = |number: &u64| {
            let stamp = Stamp { run, connection, sequence: *number, sent_ns: 0 };
            seeds.contains(&Some(stamp.seed()))
        };
        match open.take(MOST_CANDIDATES).find(is_seed) {
            Some(number) => Trace::Damaged(Some(number)),
            None => Trace::None,
        }
    }

    /// Where in `bytes` a message may begin, behind the first byte: how many bytes come before it. Where none does, as many are passed over as cannot
    /// be the beginning of one.
    pub(crate) fn next_start(self, bytes: &[u8]) -> usize {
        let is_short = self.payload_bytes < STAMP_BYTES;
        let head = if is_short { LEAST_PAYLOAD_BYTES } else { STAMP_BYTES };
        let begins = |at: &usize| {
            Stamp::head(&bytes[*at..], is_short, self.run)
                .is_some_and(|(stamp, check)| stamp.connection == self.connection && check == stamp.check())
        };
        let last = bytes.len().saturating_sub(head - 1).max(1);
        (1..last).find(begins).unwrap_or(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXPECTED: Expected = Expected {
        run: 0x0123_4567_89AB_CDEF,
        payload_bytes: 64,
        connection: 0,
        sent: 12,
        next: 10,
        now_ns: 5_000_000,
    };

    fn message(sequence: u64, payload_bytes: usize) -> Vec<u8> {
        let mut payload = vec![0; payload_bytes];
        Stamp { run: EXPECTED.run, connection: 0, sequence, sent_ns: 4_000_000 }.write(&mut payload);
        payload
    }

    fn trace(payload: &[u8], payload_bytes: usize) -> Trace {
        Expected { payload_bytes, ..EXPECTED }.trace(payload, [3, 10, 11].into_iter())
    }

    #[test]
    fn one_damaged_byte_leaves_a_trace_wherever_it_is() {
        for length in [16, 17, 24, 31, 32, 64, 1000] {
            for place in 0..length {
                let mut payload = message(10, length);
                payload[place] ^= 0x55;
                let Trace::Damaged(number) = trace(&payload, length) else { panic!("{place} of {length}") };
                // In a short stamp the damage may be in what tells the number.
                assert!(number == Some(10) || number.is_none() && (8..24).contains(&place), "{place} of {length}");
            }
            for shorter in 16..length {
                assert_eq!(trace(&message(10, length)[..shorter.max(24.min(length))], length), Trace::Damaged(Some(10)));
            }
        }
        assert_eq!(trace(&[&message(10, 64)[..], b"more"].concat(), 64), Trace::Damaged(Some(10)));
    }

    #[test]
    fn what_others_say_leaves_none() {
        for length in [16, 24, 64] {
            let zeros = vec![0; length];
            let text = b"welcome, this is a server that likes to talk and never stops talking";
            for foreign in [&b""[..], b"hi", &zeros, &text[..length], text, &[0xFF; 200]] {
                assert_eq!(trace(foreign, length), Trace::None, "{foreign:?} for {length}");
            }
            let mut other = vec![0; length];
            Stamp { run: EXPECTED.run + 1, connection: 0, sequence: 10, sent_ns: 4_000_000 }.write(&mut other);
            assert_eq!(trace(&other, length), Trace::None, "another run's");
            Stamp { run: EXPECTED.run, connection: 1, sequence: 10, sent_ns: 4_000_000 }.write(&mut other);
            assert_eq!(trace(&other, length), Trace::Misplaced);
        }
    }

    #[test]
    fn in_a_byte_stream_the_next_message_is_found() {
        for length in [16, 24, 64] {
            let expected = Expected { payload_bytes: length, ..EXPECTED };
            for banner in [&b"!"[..], b"welcome\n", b"220 ready\r\n", &[0; 300]] {
                let bytes = [banner, &message(10, length)].concat();
                assert_eq!(expected.next_start(&bytes), banner.len());
                // Not all of it has come yet.
                let head = length.min(24);
                for end in 1..banner.len() + head {
                    let start = expected.next_start(&bytes[..end]);
                    assert!((1..=banner.len()).contains(&start), "{start} of {end}");
                }
            }
        }
    }
}
