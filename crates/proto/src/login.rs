//! Sign-in by a second device: one page shows a code, another confirms it with a name, and the first hears of that by whichever mechanism it likes.
//!
//! Each code has a topic, `login:` and the code. What ends the code is published there, once: `confirmed` with the name, or `expired`. What was published is gone
//! where no history is held, so that the state can be asked for as well.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::engine::{later, random};
use crate::names::is_one_line;
use crate::{Address, Guest, Guests, TooManyGuests};

/// What the topic of every code begins with, and of nothing else.
pub(crate) const TOPIC_PREFIX: &str = "login:";

/// Codes that wait at the same time; one more is refused.
pub const MAX_OPEN_CODES: usize = 1024;

/// How long it is remembered how a code has ended, for those who lost the event.
pub const REMEMBERED: Duration = Duration::from_secs(60);

/// Codes that have ended and are remembered: so many at the most, or whoever confirms codes of its own could fill the memory.
const MAX_ENDED_CODES: usize = 1024;

/// Longest name, in characters.
pub const MAX_NAME_CHARS: usize = 64;

/// Characters of a code, of which each carries five bits: a hundred are too many to be guessed in a minute.
const CODE_CHARS: usize = 20;

/// What codes are written with (Crockford's base 32): none looks like another, and none has to be encoded in a URL.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// What a connection asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// A code. Answered by [`Reply::Opened`], [`Reply::TooMany`] or [`Reply::TooManyOfOne`].
    Open {
        /// Who asks, if each address may have only so many.
        from: Option<Address>,
    },
    /// That a code be confirmed. Answered by [`Reply::Confirmed`], or by the state that it is in instead.
    Confirm {
        /// The code.
        code: String,
        /// Who signs in: one line, as [`name`] returns it.
        name: String,
    },
    /// Answered by [`Reply::State`].
    State {
        /// The code.
        code: String,
    },
}

/// What it hears.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// A code that waits to be confirmed.
    Opened {
        /// The code.
        code: String,
        /// How long it waits.
        expires_in: Duration,
    },
    /// [`MAX_OPEN_CODES`] wait already.
    TooMany {
        /// When the first of them will have expired.
        expires_in: Duration,
    },
    /// As many wait of this address as there may.
    TooManyOfOne(TooManyGuests),
    /// It is done, and was not before.
    Confirmed,
    /// The server is about to end: nothing more is opened or confirmed.
    GoingAway,
    /// Where a code is in its life.
    State(State),
}

/// Where a code is in its life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// There is no such code, or it ended too long ago.
    Unknown,
    /// It has not been confirmed yet.
    Waiting {
        /// For how long it still can be.
        expires_in: Duration,
    },
    /// It was confirmed.
    Confirmed {
        /// With this name.
        name: String,
    },
    /// It was not confirmed in time.
    Expired,
}

/// What follows for a code's topic.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// The code was opened: the topic is to be there.
    Opened { topic: String },
    /// It has ended: this is to be published.
    Ended { topic: String, event: &'static str, data: String },
    /// It is forgotten, and the topic is to be as well.
    Forgotten { topic: String },
}

/// Every code of one server. After each call take the changes until there are none.
#[derive(Debug)]
pub(crate) struct Logins {
    expiry: Duration,
    /// The codes of each address that wait.
    guests: Guests,
    codes: HashMap<String, Code>,
    /// The codes that wait, in the order in which they were opened and will expire, and when that is.
    open: VecDeque<(Instant, String)>,
    /// The codes that have ended, in that order, and when they are forgotten.
    ended: VecDeque<(Instant, String)>,
    changes: VecDeque<Change>,
}

#[derive(Debug)]
enum Code {
    Waiting { expires_at: Instant, _guest: Option<Guest> },
    Confirmed { name: String },
    Expired,
}

/// A name without the blanks around it. `None`: it is empty, too long, or more than one line.
pub fn name(text: &str) -> Option<&str> {
    let name = text.trim();
    (is_one_line(name) && (1..=MAX_NAME_CHARS).contains(&name.chars().count())).then_some(name)
}

/// The topic of a code.
pub fn topic(code: &str) -> String {
    format!("{TOPIC_PREFIX}{code}")
}

impl Logins {
    pub(crate) fn new(expiry: Duration, max_per_address: Option<usize>) -> Logins {
        Logins {
            expiry,
            guests: Guests::new(max_per_address),
            codes: HashMap::new(),
            open: VecDeque::new(),
            ended: VecDeque::new(),
            changes: VecDeque::new(),
        }
    }

    pub(crate) fn handle(&mut self, request: Request, now: Instant) -> Reply {
        // Nobody may confirm a code whose time was over before.
        self.handle_timeout(now);
        match request {
            Request::Open { from } => self.open(from, now),
            Request::Confirm { code, name } => self.confirm(&code, name, now),
            Request::State { code } => Reply::State(self.state(&code, now)),
        }
    }

    /// What is to be done about the topics, in order.
    pub(crate) fn poll_change(&mut self) -> Option<Change> {
        self.changes.pop_front()
    }

    /// When [`handle_timeout`](Logins::handle_timeout) has something to do.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let next = [&self.open, &self.ended].map(|queue| queue.front().map(|(due, _)| *due));
        next.into_iter().flatten().min()
    }

    /// Ends and forgets what is due at `now`. Harmless when nothing is.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        while let Some((expires_at, code)) = self.open.pop_front_if(|(due, _)| *due <= now) {
            self.codes.insert(code.clone(), Code::Expired);
            self.changes.push_back(Change::Ended {
                topic: topic(&code),
                event: "expired",
                data: "{}".into(),
            });
            // It is remembered from when it expired, however late that is noticed.
            self.ended.push_back((later(expires_at, REMEMBERED), code));
        }
        self.forget(now);
    }

    fn open(&mut self, from: Option<Address>, now: Instant) -> Reply {
        if self.open.len() >= MAX_OPEN_CODES
            && let Some((first, _)) = self.open.front()
        {
            return Reply::TooMany { expires_in: first.saturating_duration_since(now) };
        }
        let guest = match self.guests.admit(from) {
            Ok(guest) => guest,
            Err(error) => return Reply::TooManyOfOne(error),
        };
        let code: String =
            random::<CODE_CHARS>().iter().map(|byte| char::from(ALPHABET[usize::from(byte & 31)])).collect();
        let expires_at = later(now, self.expiry);
        self.codes.insert(code.clone(), Code::Waiting { expires_at, _guest: guest });
        self.open.push_back((expires_at, code.clone()));
        self.changes.push_back(Change::Opened { topic: topic(&code) });
        Reply::Opened { code, expires_in: self.expiry }
    }

    fn confirm(&mut self, code: &str, name: String, now: Instant) -> Reply {
        let state = self.state(code, now);
        let (State::Waiting { .. }, Some(entry)) = (&state, self.codes.get_mut(code)) else {
            return Reply::State(state);
        };
        let data = serde_json::json!({ "name": name }).to_string();
        *entry = Code::Confirmed { name };
        self.open.retain(|(_, open)| open != code);
        self.changes.push_back(Change::Ended { topic: topic(code), event: "confirmed", data });
        self.ended.push_back((later(now, REMEMBERED), code.to_owned()));
        self.forget(now);
        Reply::Confirmed
    }

    fn state(&self, code: &str, now: Instant) -> State {
        match self.codes.get(code) {
            None => State::Unknown,
            Some(Code::Waiting { expires_at, .. }) => {
                State::Waiting { expires_in: expires_at.saturating_duration_since(now) }
            }
            Some(Code::Confirmed { name }) => State::Confirmed { name: name.clone() },
            Some(Code::Expired) => State::Expired,
        }
    }

    fn forget(&mut self, now: Instant) {
        while self.ended.len() > MAX_ENDED_CODES || self.ended.front().is_some_and(|(due, _)| *due <= now) {
            let Some((_, code)) = self.ended.pop_front() else { return };
            self.codes.remove(&code);
            self.changes.push_back(Change::Forgotten { topic: topic(&code) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXPIRY: Duration = Duration::from_secs(60);
    const TICK: Duration = Duration::from_nanos(1);

    fn opened(logins: &mut Logins, now: Instant) -> String {
        let Reply::Opened { code, expires_in } = logins.handle(Request::Open { from: None }, now) else {
            panic!("full")
        };
        assert_eq!(expires_in, EXPIRY);
        assert_eq!(logins.poll_change(), Some(Change::Opened { topic: topic(&code) }));
        code
    }

    fn confirm(logins: &mut Logins, code: &str, now: Instant) -> Reply {
        logins.handle(Request::Confirm { code: code.to_owned(), name: "Ann \"A\"".into() }, now)
    }

    fn state(logins: &mut Logins, code: &str, now: Instant) -> State {
        match logins.handle(Request::State { code: code.to_owned() }, now) {
            Reply::State(state) => state,
            other => panic!("{other:?}"),
        }
    }

    fn ended(code: &str, event: &'static str, data: &str) -> Option<Change> {
        Some(Change::Ended { topic: topic(code), event, data: data.into() })
    }

    #[test]
    fn a_code_is_confirmed_once_and_remembered_for_a_while() {
        let (mut logins, now) = (Logins::new(EXPIRY, None), Instant::now());
        let code = opened(&mut logins, now);
        assert!(code.len() == CODE_CHARS && code.bytes().all(|byte| ALPHABET.contains(&byte)), "{code}");
        let half = now + EXPIRY / 2;
        assert_eq!(state(&mut logins, &code, half), State::Waiting { expires_in: EXPIRY / 2 });
        assert_eq!(confirm(&mut logins, &code, half), Reply::Confirmed);
        assert_eq!(logins.poll_change(), ended(&code, "confirmed", r#"{"name":"Ann \"A\""}"#));
        let confirmed = State::Confirmed { name: "Ann \"A\"".into() };
        assert_eq!(confirm(&mut logins, &code, half), Reply::State(confirmed.clone()));
        // It does not expire any more.
        assert_eq!(logins.poll_timeout(), Some(half + REMEMBERED));
        assert_eq!(state(&mut logins, &code, half + REMEMBERED - TICK), confirmed);
        assert_eq!(logins.poll_change(), None);
        assert_eq!(state(&mut logins, &code, half + REMEMBERED), State::Unknown);
        assert_eq!(logins.poll_change(), Some(Change::Forgotten { topic: topic(&code) }));
        assert_eq!((logins.poll_change(), logins.poll_timeout()), (None, None));
        assert!(logins.codes.is_empty());
    }

    #[test]
    fn a_code_expires_at_its_time_whenever_that_is_noticed() {
        let (mut logins, now) = (Logins::new(EXPIRY, None), Instant::now());
        let (first, second) = (opened(&mut logins, now), opened(&mut logins, now + TICK));
        assert_ne!(first, second);
        assert_eq!(logins.poll_timeout(), Some(now + EXPIRY));
        logins.handle_timeout(now + EXPIRY - TICK);
        assert_eq!(logins.poll_change(), None);
        // Who confirms it in the moment in which its time is over comes too late.
        assert_eq!(confirm(&mut logins, &first, now + EXPIRY), Reply::State(State::Expired));
        assert_eq!((logins.poll_change(), logins.poll_change()), (ended(&first, "expired", "{}"), None));
        assert_eq!(confirm(&mut logins, &second, now + EXPIRY), Reply::Confirmed);
        assert_eq!(confirm(&mut logins, "no code", now), Reply::State(State::Unknown));
        logins.changes.clear();
        // A server that slept for all that time tells of both.
        let third = opened(&mut logins, now + EXPIRY);
        logins.handle_timeout(now + 10 * EXPIRY);
        let forgotten = |code: &str| Change::Forgotten { topic: topic(code) };
        let changes = std::iter::from_fn(|| logins.poll_change()).collect::<Vec<_>>();
        let expected = [
            ended(&third, "expired", "{}").unwrap(),
            forgotten(&first),
            forgotten(&second),
            forgotten(&third),
        ];
        assert_eq!(changes, expected);
    }

    #[test]
    fn there_are_so_many_open_codes_and_no_more() {
        let (mut logins, now) = (Logins::new(EXPIRY, None), Instant::now());
        let codes: Vec<String> = (0..MAX_OPEN_CODES).map(|_| opened(&mut logins, now)).collect();
        let later = now + EXPIRY / 3;
        assert_eq!(
            logins.handle(Request::Open { from: None }, later),
            Reply::TooMany { expires_in: EXPIRY * 2 / 3 }
        );
        assert_eq!(confirm(&mut logins, &codes[7], later), Reply::Confirmed);
        logins.changes.clear();
        opened(&mut logins, later);
        assert!(matches!(logins.handle(Request::Open { from: None }, later), Reply::TooMany { .. }));
        // Those that have ended take no place, and are remembered only as far as there is one.
        for _ in 0..3 {
            for code in logins.open.iter().map(|(_, code)| code.clone()).collect::<Vec<_>>() {
                assert_eq!(confirm(&mut logins, &code, later), Reply::Confirmed);
                assert!(matches!(logins.handle(Request::Open { from: None }, later), Reply::Opened { .. }));
            }
        }
        assert_eq!((logins.open.len(), logins.ended.len()), (MAX_OPEN_CODES, MAX_ENDED_CODES));
        assert_eq!(logins.codes.len(), MAX_OPEN_CODES + MAX_ENDED_CODES);
        assert_eq!(state(&mut logins, &codes[7], later), State::Unknown);
    }

    #[test]
    fn a_name_is_one_line() {
        let long = "é".repeat(MAX_NAME_CHARS);
        for (text, expected) in [
            ("Ann", Some("Ann")),
            (" \t Ann B. \r\n", Some("Ann B.")),
            ("<b>&\u{1d11e}", Some("<b>&\u{1d11e}")),
            (&long, Some(&*long)),
            (&format!("{long}x"), None),
            ("", None),
            (" \n", None),
            ("two\nlines", None),
            ("two\u{2028}lines", None),
            ("\u{7}", None),
        ] {
            assert_eq!(name(text), expected, "{text:?}");
        }
    }
}
