//! The sign-in's requests and answers. What a code is and does is in [`crate::login`].

use std::time::Duration;

use bytes::Bytes;
use qrcode::{Color, EcLevel, QrCode};
use serde_json::json;

use super::going_away;
use super::route::Wanted;
use crate::http::{Answer, Method, REFUSED_HEADER, Request};
use crate::login::{self, MAX_NAME_CHARS, MAX_OPEN_CODES, REMEMBERED, Reply, State};

/// Where codes are.
const CODES_PATH: &str = "/login/codes";

/// The page that a code's picture leads to.
const PHONE_PATH: &str = "/login/phone";

/// Light modules around a picture: so many at least (ISO/IEC 18004, section 6.3.8).
const QUIET_ZONE: usize = 4;

/// What stands under a path of the sign-in's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place<'a> {
    /// All codes.
    Codes,
    /// One of them.
    Code(&'a str),
    /// The same as a picture.
    Picture(&'a str),
}

/// A question that is with the exchange.
#[derive(Debug)]
pub(super) enum Question {
    /// A code is wanted.
    Open,
    /// A code is to be confirmed.
    Confirm,
    /// What has become of a code?
    State,
    /// The same, and the answer is a picture of this URL.
    Picture { url: Box<str> },
}

/// What of the sign-in's stands under a path, if it is one.
pub(super) fn place(path: &str) -> Option<Place<'_>> {
    let Some(code) = path.strip_prefix(CODES_PATH)?.strip_prefix('/') else {
        return (path == CODES_PATH).then_some(Place::Codes);
    };
    let (code, is_picture) = match code.strip_suffix("/qr.svg") {
        Some(code) => (code, true),
        None => (code, false),
    };
    let is_code = !code.is_empty() && !code.contains('/');
    is_code.then_some(if is_picture { Place::Picture(code) } else { Place::Code(code) })
}

/// The methods that a place knows.
pub(super) fn allowed(place: Place<'_>) -> &'static str {
    match place {
        Place::Codes => "POST, OPTIONS",
        Place::Code(_) => "GET, HEAD, POST, OPTIONS",
        Place::Picture(_) => "GET, HEAD, OPTIONS",
    }
}

/// What is wanted there, or the answer that says what is wrong with it.
pub(super) fn route(place: Place<'_>, request: &Request) -> Result<Wanted, Answer> {
    let wants = |question, request| Ok(Wanted::Login { question, request });
    match (place, &request.method) {
        (Place::Codes, Method::Post) => wants(Question::Open, login::Request::Open { from: None }),
        (Place::Code(code), Method::Post) => {
            let name = str::from_utf8(&request.body).ok().and_then(login::name).map(str::to_owned);
            let Some(name) = name else {
                let what = format!("the body is a name, one line of 1 to {MAX_NAME_CHARS} characters");
                return Err(Answer::bad_request(&what));
            };
            wants(Question::Confirm, login::Request::Confirm { code: code.to_owned(), name })
        }
        (Place::Code(code), Method::Get | Method::Head) => {
            wants(Question::State, login::Request::State { code: code.to_owned() })
        }
        (Place::Picture(code), Method::Get | Method::Head) => {
            let Some(host) = request.host.as_deref().filter(|host| !host.is_empty()) else {
                let what = "the picture leads to the host that the field Host names, and there is none";
                return Err(Answer::bad_request(what));
            };
            let url = format!("http://{host}{PHONE_PATH}?code={code}").into();
            wants(Question::Picture { url }, login::Request::State { code: code.to_owned() })
        }
        _ => Err(Answer::method_not_allowed(&request.method, allowed(place))),
    }
}

/// The answer to a question.
pub(super) fn answer(question: &Question, reply: Reply) -> Answer {
    match (question, reply) {
        (_, Reply::Opened { code, expires_in }) => {
            let body = json!({"code": code, "topic": login::topic(&code), "expires_in": seconds(expires_in)});
            Answer::json(201, body.to_string()).with("Location", format!("{CODES_PATH}/{code}"))
        }
        (_, Reply::TooMany { expires_in }) => {
            let text = format!("{MAX_OPEN_CODES} codes wait to be confirmed already: try again later.\n");
            let retry_after = seconds(expires_in).max(1).to_string();
            Answer::new(503, text).with("Retry-After", retry_after).with(REFUSED_HEADER, "codes")
        }
        (_, Reply::GoingAway) => going_away(),
        (_, Reply::TooManyOfOne(error)) => crate::http::refused(super::PER_ADDRESS, &error.to_string()),
        (_, Reply::Confirmed) => Answer::json(200, json!({"confirmed": true}).to_string()),
        (_, Reply::State(State::Unknown)) => Answer::new(
            404,
            format!("There is no such code, or it ended more than {} seconds ago.\n", REMEMBERED.as_secs()),
        ),
        (Question::Picture { url }, Reply::State(State::Waiting { .. })) => picture(url),
        (Question::Confirm, Reply::State(State::Confirmed { .. })) => {
            Answer::new(409, "This code has been confirmed already: let the page show a new one.\n")
        }
        (
            Question::Confirm | Question::Picture { .. },
            Reply::State(State::Expired | State::Confirmed { .. }),
        ) => Answer::new(410, "This code is of no use any more: let the page show a new one.\n"),
        (_, Reply::State(state)) => Answer::json(200, describe(&state)),
    }
}

fn describe(state: &State) -> String {
    let json = match state {
        State::Waiting { expires_in } => json!({"state": "waiting", "expires_in": seconds(*expires_in)}),
        State::Confirmed { name } => json!({"state": "confirmed", "name": name, "expires_in": 0}),
        State::Expired | State::Unknown => json!({"state": "expired", "expires_in": 0}),
    };
    json.to_string()
}

/// Whole seconds, so that nobody comes too early.
fn seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

/// A URL as a picture for a phone's camera.
fn picture(url: &str) -> Answer {
    match QrCode::with_error_correction_level(url, EcLevel::M) {
        Ok(code) => Answer::of("image/svg+xml", 200, svg(&code)),
        // Only an extraordinary name of a host makes it so long.
        Err(_) => Answer::bad_request("the host has a name that is too long for a picture"),
    }
}

/// Dark modules as one path of horizontal strokes, on a light ground whatever the page around it is like: cameras want it so.
fn svg(code: &QrCode) -> Bytes {
    use std::fmt::Write;

    let width = code.width();
    let size = width + 2 * QUIET_ZONE;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {size} {size}\" shape-rendering=\"crispEdges\">\
         <path fill=\"#fff\" d=\"M0 0h{size}v{size}H0z\"/><path fill=\"#000\" d=\""
    );
    for (row, colors) in code.to_colors().chunks(width).enumerate() {
        let mut column = 0;
        for run in colors.chunk_by(|a, b| a == b) {
            if run[0] == Color::Dark {
                let (x, y, length) = (column + QUIET_ZONE, row + QUIET_ZONE, run.len());
                let _ = write!(svg, "M{x} {y}h{length}v1H{x}z");
            }
            column += run.len();
        }
    }
    svg.push_str("\"/></svg>\n");
    svg.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_a_place_of_the_sign_in_or_none() {
        let places = [
            ("/login/codes", Some(Place::Codes)),
            ("/login/codes/abc", Some(Place::Code("abc"))),
            ("/login/codes/abc/qr.svg", Some(Place::Picture("abc"))),
            ("/login/codes/qr.svg", Some(Place::Code("qr.svg"))),
            ("/login/codes/", None),
            ("/login/codesabc", None),
            ("/login/codes//qr.svg", None),
            ("/login/codes/a/b", None),
            ("/login/codes/a/b/qr.svg", None),
            ("/login", None),
            ("/login/phone", None),
        ];
        for (path, expected) in places {
            assert_eq!(place(path), expected, "{path}");
        }
    }

    /// What a camera sees: the strokes of the path, filled in.
    fn modules(svg: &str) -> Vec<Vec<bool>> {
        let path = svg.split("fill=\"#000\" d=\"").nth(1).unwrap().split('"').next().unwrap();
        let size: usize = svg.split("0 0 ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
        let mut modules = vec![vec![false; size]; size];
        for stroke in path.split('M').skip(1) {
            let numbers: Vec<usize> = stroke
                .split(|c: char| !c.is_ascii_digit())
                .filter_map(|number| number.parse().ok())
                .collect();
            let [x, y, length, 1, end] = numbers[..] else { panic!("{stroke}") };
            assert_eq!(end, x);
            modules[y][x..x + length].fill(true);
        }
        modules
    }

    #[test]
    fn the_picture_says_the_url() {
        for url in [
            "http://127.0.0.1:9001/login/phone?code=0123456789abcdefghjk",
            "http://[2001:db8::1]:65535/login/phone?code=zzzzzzzzzzzzzzzzzzzz",
            "http://a-rather-long-name-of-a-host.with.several.labels.switchboard.example/login/phone?code=0",
        ] {
            let code = QrCode::with_error_correction_level(url, EcLevel::M).unwrap();
            let svg = String::from_utf8(svg(&code).to_vec()).unwrap();
            let modules = modules(&svg);
            // Read by another implementation, from pixels: four for each module.
            let size = 4 * modules.len();
            let dark = |x: usize, y: usize| modules[y / 4][x / 4];
            let mut image =
                rqrr::PreparedImage::prepare_from_greyscale(
                    size,
                    size,
                    |x, y| if dark(x, y) { 0 } else { 255 },
                );
            let grids = image.detect_grids();
            assert_eq!(grids.len(), 1);
            assert_eq!(grids[0].decode().unwrap().1, url);
        }
    }

    #[test]
    fn a_url_that_is_too_long_is_told() {
        let answer = picture(&format!("http://{}/", "h".repeat(3000)));
        assert_eq!(answer.status(), 400);
    }

    #[test]
    fn seconds_are_rounded_up() {
        let times = [0, 1, 999, 1000, 1001].map(Duration::from_millis);
        assert_eq!(times.map(seconds), [0, 1, 1, 1, 2]);
    }
}
