//! Text is UTF-8, and what is not is refused as it arrives (RFC 6455, section 8.1).

use crate::client::{Client, PACES, at_each_pace};
use crate::frames::{BINARY, CONTINUATION, FINAL, KEY, PING, PONG, TEXT, fragment, frame, header_16, masked};
use crate::server::Server;
use crate::{Case, case};

pub(crate) const CASES: &[Case] = &[
    case!(Echo, a_character_may_be_cut_anywhere),
    case!(Echo, every_kind_of_character_comes_back),
    case!(Echo, binary_messages_need_not_be_text),
    case!(Http, text_that_is_not_utf8_is_refused),
    case!(Http, text_that_is_not_utf8_is_refused_before_it_is_finished),
    case!(Http, a_character_that_is_never_finished_is_refused),
];

/// Characters of one to four bytes.
const TEXTS: [&str; 3] =
    ["a", "Κόσμε µ@ßöäüàá-日本語!!🦀😀", "\u{10ffff}\u{fffd}\u{0}\u{7ff}\u{800}\u{ffff}\u{10000}"];

/// Bytes that no text can begin with, whatever follows.
const WRONG: [(&str, &[u8]); 14] = [
    ("a continuation alone", b"\x80"),
    ("a continuation too many", b"\xc3\xbc\xbc"),
    ("overlong in two bytes, C0", b"\xc0"),
    ("overlong in two bytes, C1", b"\xc1"),
    ("overlong in three bytes", b"\xe0\x80"),
    ("overlong in four bytes", b"\xf0\x80"),
    ("a surrogate", b"\xed\xa0"),
    ("the last surrogate", b"\xed\xbf"),
    ("beyond U+10FFFF", b"\xf4\x90"),
    ("far beyond it", b"\xf5"),
    ("FE", b"\xfe"),
    ("FF", b"\xff"),
    ("a letter inside a character", b"\xe6\x97x"),
    ("a character inside another", b"\xf0\x9f\xc3\xbc"),
];

/// The starts of characters that have not ended.
const UNFINISHED: [&[u8]; 6] = [b"\xc3", b"\xe6", b"\xe6\x97", b"\xf0", b"\xf0\x9f", b"\xf0\x9f\xa6"];

fn a_character_may_be_cut_anywhere(server: &mut Server) {
    let mut client = Client::open(server, "/echo");
    for text in TEXTS {
        for cut in 0..=text.len() {
            let (start, end) = text.as_bytes().split_at(cut);
            for pace in PACES {
                client.send_at(pace, [fragment(TEXT, start), frame(CONTINUATION, end)].concat());
                client.expect_text(text);
            }
            // A ping in the middle of a character changes nothing, nor does an empty fragment.
            let between = [frame(PING, [0xff]), fragment(CONTINUATION, "")].concat();
            client.send([fragment(TEXT, start), between, frame(CONTINUATION, end)].concat());
            client.expect(PONG, [0xff]);
            client.expect_text(text);
        }
        // Every byte by itself.
        let bytes: Vec<u8> = text.bytes().flat_map(|byte| fragment(CONTINUATION, [byte])).collect();
        client.send([fragment(TEXT, ""), bytes, frame(CONTINUATION, "")].concat());
        client.expect_text(text);
    }
}

fn every_kind_of_character_comes_back(server: &mut Server) {
    let mut client = Client::open(server, "/echo");
    // One of each length of encoding at every distance from the start, for checks that take many bytes at once.
    for text in ["x", "ü", "日", "🦀"] {
        for before in 0..70 {
            let text = "-".repeat(before) + text + "-";
            client.send(crate::frames::text(&text));
            client.expect_text(&text);
        }
    }
    for text in TEXTS {
        for pace in PACES {
            client.send_at(pace, crate::frames::text(text));
            client.expect_text(text);
        }
    }
}

fn binary_messages_need_not_be_text(server: &mut Server) {
    let mut client = Client::open(server, "/echo");
    for (_, wrong) in WRONG {
        client.send(frame(BINARY, wrong));
        client.expect(BINARY, wrong);
        client.send([fragment(BINARY, wrong), frame(CONTINUATION, wrong)].concat());
        client.expect(BINARY, wrong.repeat(2));
    }
}

fn text_that_is_not_utf8_is_refused(server: &mut Server) {
    let mut inputs = Vec::new();
    for (name, wrong) in WRONG {
        let text = [b"before ", wrong, b" after"].concat();
        inputs.push((format!("{name}, in a frame"), frame(TEXT, &text)));
        for cut in 7..=7 + wrong.len() {
            let fragments = [fragment(TEXT, &text[..cut]), frame(CONTINUATION, &text[cut..])].concat();
            inputs.push((format!("{name}, cut at {cut}"), fragments));
        }
    }
    at_each_pace(&inputs, |pace, bytes| {
        let mut client = Client::open(server, "/echo");
        client.send_at(pace, bytes);
        client.expect_close(1007);
    });
}

fn text_that_is_not_utf8_is_refused_before_it_is_finished(server: &mut Server) {
    let mut inputs = Vec::new();
    for (name, wrong) in WRONG {
        let text = [b"before ", wrong].concat();
        inputs.push((format!("{name}, in a message that goes on"), fragment(TEXT, &text)));
        let masked_text = masked(FINAL | TEXT, KEY, &text)[6..].to_vec();
        inputs.push((
            format!("{name}, in a frame that goes on"),
            [header_16(TEXT, 1000), masked_text].concat(),
        ));
        let later = [fragment(TEXT, "before "), fragment(CONTINUATION, wrong)].concat();
        inputs.push((format!("{name}, in a later fragment"), later));
    }
    at_each_pace(&inputs, |pace, bytes| {
        let mut client = Client::open(server, "/echo");
        // The rest is never sent: whoever waits for it never answers.
        client.send_at(pace, bytes);
        client.expect_close(1007);
    });
}

fn a_character_that_is_never_finished_is_refused(server: &mut Server) {
    let mut inputs = Vec::new();
    for start in UNFINISHED {
        inputs.push((format!("{start:x?} at the end"), frame(TEXT, [b"text", start].concat())));
        let fragments = [fragment(TEXT, "text"), frame(CONTINUATION, start)].concat();
        inputs.push((format!("{start:x?} in the last fragment"), fragments));
        let empty = [fragment(TEXT, start), frame(CONTINUATION, "")].concat();
        inputs.push((format!("{start:x?} before an empty last fragment"), empty));
    }
    at_each_pace(&inputs, |pace, bytes| {
        let mut client = Client::open(server, "/echo");
        client.send_at(pace, bytes);
        client.expect_close(1007);
    });
}
