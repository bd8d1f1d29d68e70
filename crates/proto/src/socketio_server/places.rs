//! Places for attachments in JSON, which are objects `{"_placeholder":true,"num":0}` at any depth, and how deep JSON is.
//!
//! The JSON is known to be right, so that it is only walked through: without recursion, whatever its depth, and without a look at numbers and strings that are
//! none of its business. A place is what `_reconstructPacket` of the reference implementation takes for one.

/// A place for an attachment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Place {
    /// What its `num` is, if that is a number.
    number: Option<f64>,
    /// Objects around it.
    depth: usize,
}

impl Place {
    /// Whether it stands for one of so many attachments.
    pub(super) fn is_one_of(self, attachments: usize) -> bool {
        self.number.is_some_and(|number| number >= 0.0 && number < attachments as f64)
    }

    /// Which attachment it stands for.
    pub(super) fn index(self) -> Option<usize> {
        self.number.filter(|number| *number >= 0.0 && number.fract() == 0.0).map(|number| number as usize)
    }
}

/// The places in `json`, in the order in which they end.
pub(super) fn all(json: &str) -> Vec<Place> {
    let (mut places, mut objects) = (Vec::new(), Vec::<Object>::new());
    let (mut last, mut member) = ("", None);
    for token in Tokens(json) {
        if let (Some(member), Some(object)) = (member.take(), objects.last_mut()) {
            object.take(member, token);
        }
        match token {
            Token::Open(b'{') => objects.push(Object::default()),
            Token::Close(b'}') => {
                if let Some(Object { is_place: true, number }) = objects.pop() {
                    places.push(Place { number, depth: objects.len() });
                }
            }
            Token::String(text) => last = text,
            Token::Colon => member = Member::named(last),
            _ => {}
        }
    }
    places
}

/// The place that `json` is, if it is nothing else.
pub(super) fn only(json: &str) -> Option<Place> {
    let is_object = json.trim_start().starts_with('{');
    all(json).last().copied().filter(|place| is_object && place.depth == 0)
}

/// How many arrays and objects are in each other.
pub(super) fn depth(json: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    for token in Tokens(json) {
        match token {
            Token::Open(_) => depth += 1,
            Token::Close(_) => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

/// What is known of an object that has not ended. Of two members of one name the last counts.
#[derive(Debug, Default)]
struct Object {
    is_place: bool,
    number: Option<f64>,
}

impl Object {
    /// Takes the first token of a member's value.
    fn take(&mut self, member: Member, value: Token<'_>) {
        match member {
            Member::Placeholder => self.is_place = value == Token::Scalar("true"),
            Member::Number => {
                self.number = match value {
                    Token::Scalar(text) => text.parse().ok(),
                    _ => None,
                }
            }
        }
    }
}

/// A member that makes an object a place.
#[derive(Debug, Clone, Copy)]
enum Member {
    Placeholder,
    Number,
}

impl Member {
    /// The member with this name, as it stands between its quotes.
    fn named(name: &str) -> Option<Member> {
        let is = |name: &str| match name {
            "_placeholder" => Some(Member::Placeholder),
            "num" => Some(Member::Number),
            _ => None,
        };
        match name.contains('\\') {
            false => is(name),
            true => is(&serde_json::from_str::<String>(&format!("\"{name}\"")).ok()?),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Token<'a> {
    Open(u8),
    Close(u8),
    Colon,
    /// What stands between the quotes.
    String(&'a str),
    /// A number, or a word.
    Scalar(&'a str),
}

/// The tokens of JSON, without commas.
struct Tokens<'a>(&'a str);

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        let text = self.0.trim_start_matches([' ', '\t', '\r', '\n', ',']);
        let first = *text.as_bytes().first()?;
        let (token, length) = match first {
            b'{' | b'[' => (Token::Open(first), 1),
            b'}' | b']' => (Token::Close(first), 1),
            b':' => (Token::Colon, 1),
            b'"' => {
                let end = string_end(&text.as_bytes()[1..]) + 1;
                (Token::String(text.get(1..end)?), end + 1)
            }
            _ => {
                let end = text.find([' ', '\t', '\r', '\n', ',', ':', ']', '}']).unwrap_or(text.len());
                (Token::Scalar(&text[..end]), end)
            }
        };
        self.0 = text.get(length..).unwrap_or_default();
        Some(token)
    }
}

/// Where a string ends whose opening quote stands before `bytes`.
fn string_end(bytes: &[u8]) -> usize {
    let mut at = 0;
    while let Some(found) = memchr::memchr2(b'"', b'\\', &bytes[at..]) {
        at += found;
        if bytes[at] == b'"' {
            return at;
        }
        // What stands behind a backslash ends nothing.
        at = (at + 2).min(bytes.len());
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(json: &str) -> Vec<Option<f64>> {
        assert!(serde_json::from_str::<serde::de::IgnoredAny>(json).is_ok(), "{json}");
        all(json).iter().map(|place| place.number).collect()
    }

    #[test]
    fn places_are_found_at_any_depth_whatever_stands_beside_them() {
        for (json, expected) in [
            (r#"["m",{"x":[{"_placeholder":true,"num":1}]},{"num":9}]"#, vec![Some(1.0)]),
            (
                r#"[{"num":2,"_placeholder":true},{ "_placeholder" : true , "num" : 0 }]"#,
                vec![Some(2.0), Some(0.0)],
            ),
            (r#"[{"_placeholder":false,"num":9},{"_placeholder":"true","num":9}]"#, vec![]),
            (r#"{"_placeholder":true}"#, vec![None]),
            (r#"{"_placeholder":true,"num":"0"}"#, vec![None]),
            (r#"{"_placeholder":true,"num":{"num":0}}"#, vec![None]),
            (r#"{"_placeholder":true,"num":-1}"#, vec![Some(-1.0)]),
            (r#"{"_placeholder":true,"_placeholder":1,"num":9}"#, vec![]),
            (r#"{"_placeholder":true,"num":9,"num":1e0}"#, vec![Some(1.0)]),
            (r#"{"\u005fplaceholder":true,"n\u0075m":3}"#, vec![Some(3.0)]),
            (r#"{"\ud800":true,"num":3}"#, vec![]),
            (r#"{"a\\":1,"b\"_placeholder":true,"num":3}"#, vec![]),
            (r#"["_placeholder",true,"num",3,"{\"_placeholder\":true}"]"#, vec![]),
            (
                r#"{"_placeholder":true,"num":0,"in":{"_placeholder":true,"num":1}}"#,
                vec![Some(1.0), Some(0.0)],
            ),
        ] {
            assert_eq!(numbers(json), expected, "{json}");
        }
        assert!(numbers(r#"[{"_placeholder":true,"num":1e999}]"#)[0].unwrap().is_infinite());
    }

    #[test]
    fn an_argument_is_a_place_and_nothing_else() {
        let index = |json| only(json).and_then(Place::index);
        assert_eq!(index(r#"{"_placeholder":true,"num":3}"#), Some(3));
        assert_eq!(index(r#" {"num":2.0,"_placeholder":true,"x":[{}]}"#), Some(2));
        for json in
            ["3", r#"[{"_placeholder":true,"num":3}]"#, r#"{"x":{"_placeholder":true,"num":3}}"#, "{}"]
        {
            assert_eq!(index(json), None, "{json}");
        }
        assert_eq!(index(r#"{"_placeholder":true,"num":0.5}"#), None);
    }

    #[test]
    fn depth_costs_no_stack() {
        let deep = |levels: usize| format!(r#"{}"]]}}",1{}"#, "[".repeat(levels), "]".repeat(levels));
        for levels in [0, 1, 2, 1 << 20] {
            assert_eq!(depth(&deep(levels)), levels);
        }
        assert_eq!(depth(r#"[[1],{"a":[{}]}]"#), 4);
        let objects = format!("{}1{}", r#"{"_placeholder":"#.repeat(1 << 18), "}".repeat(1 << 18));
        assert_eq!((depth(&objects), all(&objects).len()), (1 << 18, 0));
    }
}
