//! Messages in a byte stream, which has nothing between one and the next but their length.

use super::receipt::Receipt;

/// Takes what has come apart into messages; what is not complete stays in `partial`.
pub(super) fn hear(partial: &mut Vec<u8>, bytes: &[u8], receipt: &mut Receipt<'_>) {
    let payload_bytes = receipt.shared.plan.payload_bytes;
    let mut input = bytes;
    if !partial.is_empty() {
        let missing = payload_bytes.saturating_sub(partial.len()).min(input.len());
        partial.extend_from_slice(&input[..missing]);
        input = &input[missing..];
        if partial.len() < payload_bytes {
            return;
        }
        let used = take_apart(partial, receipt);
        if used < partial.len() {
            // Out of step: what is left of it and what follows are looked at together.
            partial.drain(..used);
            partial.extend_from_slice(input);
            let used = take_apart(partial, receipt);
            partial.drain(..used);
            return;
        }
        partial.clear();
    }
    let used = take_apart(input, receipt);
    partial.extend_from_slice(&input[used..]);
}

/// Hands on every message, and passes over what stands between them: a banner, a line of text, what is left of a damaged one. Returns how many bytes
/// are done with.
fn take_apart(bytes: &[u8], receipt: &mut Receipt<'_>) -> usize {
    let payload_bytes = receipt.shared.plan.payload_bytes;
    let mut at = 0;
    while bytes.len() - at >= payload_bytes {
        at += match receipt.message(&bytes[at..at + payload_bytes]) {
            true => payload_bytes,
            false => receipt.trace_expected().next_start(&bytes[at..]),
        };
    }
    at
}
