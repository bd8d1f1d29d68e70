//! Session ids. The holder of one can speak for its session, so most of it is secret; the rest says where the session is, which saves
//! a map from strings.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

/// Bytes of an id before it is encoded: without padding in base64, and as many as those of the reference server.
const SID_BYTES: usize = 15;
const INDEX_BYTES: usize = size_of::<u32>();

/// What only the client of a session knows: 88 bits, too many to be guessed by asking.
pub(super) type Secret = [u8; SID_BYTES - INDEX_BYTES];

/// Random bytes that nobody can predict.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the system gives random bytes");
    bytes
}

pub(super) fn encode(index: u32, secret: &Secret) -> String {
    let mut bytes = [0; SID_BYTES];
    bytes[..INDEX_BYTES].copy_from_slice(&index.to_be_bytes());
    bytes[INDEX_BYTES..].copy_from_slice(secret);
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

pub(super) fn decode(sid: &str) -> Option<(u32, Secret)> {
    let mut bytes = [0; SID_BYTES];
    let length = BASE64_URL_SAFE_NO_PAD.decode_slice(sid, &mut bytes).ok()?;
    let (index, secret) = bytes.split_first_chunk()?;
    (length == SID_BYTES).then_some((u32::from_be_bytes(*index), secret.try_into().ok()?))
}

/// Whether two secrets are the same, in a time that does not tell how much of them is.
pub(super) fn is_same(a: &Secret, b: &Secret) -> bool {
    a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_says_where_its_session_is() {
        let secret = random();
        let sid = encode(70_000, &secret);
        assert_eq!(sid.len(), 20);
        assert_eq!(decode(&sid), Some((70_000, secret)));
        assert!(is_same(&secret, &secret));
        assert!(!is_same(&secret, &random()));
    }

    #[test]
    fn what_is_no_id_is_none() {
        for sid in [
            "",
            "a",
            "AAAAAAAAAAAAAAAAAAA",
            "AAAAAAAAAAAAAAAAAAAAA",
            "AAAAAAAAAAAAAAAAAAA=",
            "AAAAAAAAAAAAAAAAAAA+",
        ] {
            assert_eq!(decode(sid), None, "{sid}");
        }
        assert_eq!(decode(&"A".repeat(1 << 20)), None);
    }
}
