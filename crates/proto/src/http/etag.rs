//! Whether a client has the answer already (RFC 9110, sections 8.8.3 and 13.1.2).

/// Whether `if_none_match`, the value of that field, names `etag`, which is written with its quotes. Weak and
/// strong tags are alike here: what is asked is whether the meaning is the same, not each byte.
pub fn matches(if_none_match: &str, etag: &str) -> bool {
    let mut rest = if_none_match.trim();
    if rest == "*" {
        return true;
    }
    let wanted = opaque(etag);
    // A comma within quotes separates nothing, so the list cannot simply be split at its commas.
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        rest = rest.strip_prefix("W/").unwrap_or(rest);
        let Some(quoted) = rest.strip_prefix('"') else { return false };
        let Some((tag, behind)) = quoted.split_once('"') else { return false };
        if tag == wanted {
            return true;
        }
        rest = behind;
    }
}

/// What stands between the quotes.
fn opaque(etag: &str) -> &str {
    etag.strip_prefix("W/").unwrap_or(etag).trim_matches('"')
}
