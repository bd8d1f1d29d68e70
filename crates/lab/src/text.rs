//! Text of other people on its way to a reader: names from a results folder, a definition's words, a server's last ones.
//!
//! It is kept as it is in the raw data and made safe where it leaves the program, by one function for each kind of output: [`lines`] for a
//! terminal, [`json`] for JSON, `markdown` and `csv` for what is pasted elsewhere. A page's template escapes by itself, and so does
//! a picture; both show [`line()`]s.

use std::borrow::Cow;

use serde::Serialize;
use switchboard_load::printable;

/// The text in one line, with everything visible that could steer a terminal, begin another line, or change how the text around it reads.
pub fn line(text: &str) -> Cow<'_, str> {
    printable(text)
}

/// The same of several lines.
pub fn lines(text: &str) -> Cow<'_, str> {
    if text.split('\n').all(|line| matches!(printable(line), Cow::Borrowed(_))) {
        return Cow::Borrowed(text);
    }
    let lines: Vec<Cow<'_, str>> = text.split('\n').map(printable).collect();
    Cow::Owned(lines.join("\n"))
}

/// Makes it a [`line()`] where it stands.
pub(crate) fn tidy(text: &mut String) {
    if let Cow::Owned(line) = printable(text) {
        *text = line;
    }
}

/// As JSON that may be shown on a terminal: what [`line()`] would make visible is escaped, so that a program reads the same.
///
/// # Errors
/// The value has no JSON.
pub fn json<T: Serialize>(value: &T) -> serde_json::Result<String> {
    serde_json::to_string_pretty(value).map(|text| plain_json(&text))
}

/// JSON in which nothing is hidden.
pub(crate) fn plain_json(text: &str) -> String {
    let is_safe = |letter: char| letter == '\n' || !is_hidden(letter);
    // Outside of strings JSON has no such characters but the ends of lines.
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        if is_safe(letter) {
            escaped.push(letter);
        } else {
            for unit in letter.encode_utf16(&mut [0; 2]) {
                escaped += &format!("\\u{unit:04x}");
            }
        }
    }
    escaped
}

/// As a piece of a line of Markdown that means nothing but its letters: no HTML, no link, no table cell, no heading.
pub(crate) fn markdown(text: &str) -> String {
    let text = line(text);
    let mut escaped = String::with_capacity(text.len());
    let mut begun_with_digits = true;
    for (place, letter) in text.char_indices() {
        let rest = &text[place + letter.len_utf8()..];
        let is_markup = match letter {
            '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '#' | '|' | '~' | '$' | '@' => true,
            '!' => rest.starts_with('['),
            '&' => rest.starts_with(|next: char| next == '#' || next.is_ascii_alphanumeric()),
            // A list, or a line below a heading.
            '-' | '+' | '=' => place == 0,
            '.' | ')' if begun_with_digits && place > 0 => rest.is_empty() || rest.starts_with(' '),
            // Addresses become links by themselves.
            ':' => rest.starts_with("//"),
            '.' => place
                .checked_sub(3)
                .and_then(|from| text.get(from..place))
                .is_some_and(|word| word.eq_ignore_ascii_case("www")),
            _ => false,
        };
        if is_markup {
            escaped.push('\\');
        }
        escaped.push(letter);
        begun_with_digits &= letter.is_ascii_digit();
    }
    escaped
}

/// As a cell of a table that no spreadsheet takes for a formula.
pub(crate) fn csv(text: &str) -> Cow<'_, str> {
    let text = line(text);
    // Some look behind blanks.
    match text.trim_start().starts_with(['=', '+', '-', '@', '|', '%', '＝', '＋', '－', '＠']) {
        true => Cow::Owned(format!("'{text}")),
        false => text,
    }
}

/// Whether a character is one that [`line()`] escapes.
fn is_hidden(letter: char) -> bool {
    letter.is_control()
        || !letter.is_ascii() && printable(letter.encode_utf8(&mut [0; 4])).starts_with("\\u{")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_terminal_becomes_visible_and_other_text_is_left_alone() {
        for (text, shown) in [
            ("\x1b]0;title\x07", "\\u{1b}]0;title\\u{7}"),
            ("\u{9b}31mred", "\\u{9b}31mred"),
            ("a\u{202e}b\u{2066}c", "a\\u{202e}b\\u{2066}c"),
            ("one\ntwo\r\tthree\u{2028}", "one\\ntwo\\r\\tthree\\u{2028}"),
            ("12 µs × 3 – “née” 日本 ≈ ±1 % │·─ ¹ ○ ✓", "12 µs × 3 – “née” 日本 ≈ ±1 % │·─ ¹ ○ ✓"),
        ] {
            assert_eq!(line(text), shown);
        }
        assert_eq!(lines("one\ntwo\r\x7f"), "one\ntwo\\r\\u{7f}");
    }

    #[test]
    fn json_says_the_same_to_a_program_and_nothing_to_a_terminal() {
        let value = serde_json::json!({"name": "a\u{9b}2J\u{202e}\x1b[1m\u{e0041}\n", "list": [1, 2]});
        let text = json(&value).unwrap();
        assert!(text.chars().all(|letter| letter == '\n' || !is_hidden(letter)), "{text}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
    }

    #[test]
    fn markdown_of_others_means_nothing() {
        for (text, escaped) in [
            ("<img src=x onerror=alert(1)>", "\\<img src=x onerror=alert(1)\\>"),
            ("[click](javascript:alert(1))", "\\[click\\](javascript:alert(1))"),
            ("![x](http://a/b)", "\\!\\[x\\](http\\://a/b)"),
            ("www.example.com", "www\\.example.com"),
            ("a|b\n\n# c", "a\\|b\\\\n\\\\n\\# c"),
            ("- item", "\\- item"),
            ("1. first", "1\\. first"),
            ("&lt;script&gt; AT&T & co", "\\&lt;script\\&gt; AT\\&T & co"),
            ("tokio-multi × 1.5 (95 % interval)", "tokio-multi × 1.5 (95 % interval)"),
        ] {
            assert_eq!(markdown(text), escaped);
        }
    }

    #[test]
    fn no_cell_of_a_table_is_a_formula() {
        for text in ["=cmd|' /C calc'!A0", "+1", "-1+2", "@SUM(A1)", " =1", "\u{ff1d}1", "|x"] {
            assert!(csv(text).starts_with('\''), "{text}");
        }
        assert_eq!(csv("\t=1"), "\\t=1");
        assert_eq!(csv("tokio-multi"), "tokio-multi");
    }
}
