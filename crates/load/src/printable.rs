//! Text of others, made safe for a terminal.

use std::borrow::Cow;
use std::fmt::Write;

/// `text` with everything escaped that a terminal would act on instead of showing it: control characters (C0, DEL and C1, line ends included), the
/// format characters that reorder or hide text (bidirectional controls, zero-width characters), line and paragraph separators, and what is no
/// character at all. `\u{1b}[31m` is what a change of color looks like then.
///
/// Whatever comes from a server, a file or a stranger's results folder passes through here before it is printed. Text that needs no escape is
/// returned as it is.
pub fn printable(text: &str) -> Cow<'_, str> {
    let is_plain = |byte: u8| byte == b' ' || byte.is_ascii_graphic();
    if text.bytes().all(is_plain) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for letter in text.chars() {
        match letter {
            ' '..='~' => safe.push(letter),
            _ => {
                // The standard library knows which characters show. Behind a letter it leaves combining characters alone, as they are meant.
                let mut pair = String::from("a");
                pair.push(letter);
                // Writing to a string does not fail.
                let _ = write!(safe, "{}", &pair.escape_debug().to_string()[1..]);
            }
        }
    }
    Cow::Owned(safe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_act_on_is_escaped() {
        for (text, safe) in [
            ("\u{1b}[31mred\u{1b}]0;title\u{7}", r"\u{1b}[31mred\u{1b}]0;title\u{7}"),
            ("a\u{9b}31mb\u{9d}0;t\u{9c}\u{85}", r"a\u{9b}31mb\u{9d}0;t\u{9c}\u{85}"),
            ("one\r\ntwo\ttabs\0\u{7f}", r"one\r\ntwo\ttabs\0\u{7f}"),
            ("user\u{202e}gpj.exe\u{2066}\u{200f}\u{61c}", r"user\u{202e}gpj.exe\u{2066}\u{200f}\u{61c}"),
            ("a\u{200b}b\u{feff}c\u{2028}d\u{e0041}", r"a\u{200b}b\u{feff}c\u{2028}d\u{e0041}"),
        ] {
            assert_eq!(printable(text), safe);
        }
    }

    #[test]
    fn what_people_write_stays_as_it_is() {
        for text in ["", "it's \"fine\" \\ 100 %", "Grüße", "naïve e\u{301}", "日本語", "नमस्ते", "🙂"]
        {
            assert_eq!(printable(text), text);
        }
        assert!(matches!(printable("503 Service Unavailable"), Cow::Borrowed(_)));
    }
}
