//! One connection as a server sees it, whatever it comes to speak.
//!
//! Its life is in this file and nothing else changes the stage; what it does in two of its stages has a file each: `requests` while it is HTTP,
//! `websocket` once it is that. What stands under which path is in `route`; the sign-in's part of that is in `login`.

mod login;
mod questions;
mod requests;
mod room;
mod route;
mod site;
mod websocket;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;

use self::questions::Questions;
use self::requests::Waiting;
use self::websocket::WebSocket;
use crate::engine;
use crate::http::{self, Answer, Reader, ReplyTo};
use crate::{Address, App, Charge, Cursor, Format, Guest, Outgoing, Output, Reply, Request, TopicName, sse};

/// Unsent output above which a session stops reading, until its peer takes some of it: backpressure.
const HIGH_WATER_BYTES: usize = 64 << 10;

/// What may come behind a request that is held until something is published: it must be read, or its peer's end would not be noticed.
const MAX_PIPELINED_BYTES: usize = 1 << 20;

/// What a refusal calls the limit for each address.
pub(crate) const PER_ADDRESS: &str = "per-address";

/// How long a connection whose last answer is written goes on reading, and discarding, what its peer still
/// sends. A close with unread input would turn into a reset, and a reset overtakes the answer.
pub const LINGER: Duration = Duration::from_secs(2);

/// One connection as a server sees it, whatever it comes to speak.
///
/// Feed it with [`receive`](Session::receive), [`receive_eof`](Session::receive_eof),
/// [`handle_timeout`](Session::handle_timeout), [`deliver`](Session::deliver) and [`reply`](Session::reply); after each of these take its
/// events, write its output and do as [`wants`](Session::wants) says.
#[derive(Debug)]
pub struct Session {
    app: Arc<App>,
    stage: Stage,
    output: Output,
    questions: Questions,
    subscription: Option<Box<Subscription>>,
    /// When `handle_timeout` has something to do. What that is depends on the stage.
    deadline: Option<Instant>,
    /// What it contributes to the tally: data messages received, and their bytes.
    messages: u64,
    bytes: u64,
    is_dropped: bool,
    is_refused: bool,
    /// Something of Engine.IO's belongs to this connection, and must hear of its end.
    has_engine: bool,
    /// What it asked for last is a poll, so that its client may be about to ask for what came since.
    polls: bool,
    /// The server ends: the next request is the last.
    is_leaving: bool,
    /// The exchange knows of a subscription of this connection's.
    has_subscribed: bool,
    /// What is charged of what has arrived and is not whole, or waits.
    input: Charge,
    /// Where it comes from, if each address may have only so much.
    origin: Option<Box<Origin>>,
}

/// Where a connection comes from, and its place among those that come from there.
#[derive(Debug)]
struct Origin {
    address: Address,
    _guest: Option<Guest>,
}

/// Where a connection is in its life. It goes to and fro between the first two while it is HTTP, and otherwise only downwards in this list.
#[derive(Debug)]
enum Stage {
    /// Reading requests. Deadline: the handshake timeout of the one that has begun, or the patience for the next (`is_used`).
    /// `written`, here and below: so much was written when it was last looked at. `behind`: what came behind a request whose answer, or that of one before
    /// it, is still to be written.
    Http { reader: Reader, is_used: bool, written: u64, behind: Option<Box<Behind>> },
    /// A request is with the exchange, or waits for something to be published. Deadline: the end of a long poll.
    Waiting(Box<Waiting>),
    /// Deadline: the heartbeat, or the end of the patience for an answer to our close.
    WebSocket(WebSocket),
    /// An event stream, which carries what is published. Deadline: the heartbeat. `behind`: what was written, if anything waited then.
    Stream { behind: Option<u64> },
    /// The last answer is in the output; input is discarded until the peer ends. Deadline: `LINGER`.
    Drain { finished: bool, written: u64 },
    /// Write the rest, then close at once. Deadline: `LINGER`.
    Flush { written: u64 },
    /// Close the socket.
    Done,
}

/// Requests that are read on when there is room for their answers.
#[derive(Debug)]
struct Behind {
    input: BytesMut,
    since: Instant,
    /// The peer will send no more, but wants its answers.
    has_ended: bool,
}

/// What a connection gets of what is published.
#[derive(Debug)]
struct Subscription {
    topic: TopicName,
    format: Format,
    /// Where that ends in what is [written](Output::written) which was published before it came: however much that is, it does not count as being behind.
    replayed: u64,
    /// The last event that it was replayed.
    last: u64,
    /// Not all that was published before has been replayed.
    replay: Option<Box<Replay>>,
}

/// What is left to be replayed stays in the history, where what is published meanwhile follows it, and is asked for in portions as its client takes them.
#[derive(Debug)]
struct Replay {
    since: Instant,
    is_asked: bool,
}

/// What the session would do next with its socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wants {
    /// Read, and hand over what comes.
    pub read: bool,
    /// Write what the output holds.
    pub write: bool,
}

/// Why the server closes a connection of its own accord.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason {
    /// The server is about to end: 1001.
    GoingAway,
    /// A subscriber that does not read as fast as others publish: 1013.
    TooSlow,
    /// It holds more than is left of `--max-memory`: 1013.
    NoMemory,
}

/// What one session contributes to the server's tally.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Data messages received: over a WebSocket, or in the body of a request.
    pub messages: u64,
    /// Payload bytes of those messages.
    pub bytes: u64,
    /// This subscriber was closed because it did not read.
    pub is_dropped: bool,
    /// This connection was let in but could not become what it asked for.
    pub is_refused: bool,
}

impl Session {
    /// A connection that was just accepted.
    pub fn server(app: &Arc<App>, now: Instant) -> Session {
        Session {
            app: app.clone(),
            stage: Stage::Http { reader: Reader::default(), is_used: false, written: 0, behind: None },
            output: Output::default(),
            questions: Questions::default(),
            subscription: None,
            deadline: now.checked_add(app.handshake_timeout),
            messages: 0,
            bytes: 0,
            is_dropped: false,
            is_refused: false,
            has_engine: false,
            polls: false,
            is_leaving: false,
            has_subscribed: false,
            input: Charge::default(),
            origin: None,
        }
    }

    /// Takes note of where it comes from. If that has as many connections as it may have, the next thing is a refusal.
    pub fn came_from(&mut self, address: Address, now: Instant) {
        match self.app.guests.admit(Some(address)) {
            Ok(guest) => self.origin = Some(Box::new(Origin { address, _guest: guest })),
            Err(error) => {
                self.is_refused = true;
                self.last_answer(&http::refused(PER_ADDRESS, &error.to_string()), &ReplyTo::default(), now);
            }
        }
    }

    /// Takes the bytes that were read. They are unmasked in place; only what is incomplete is kept.
    pub fn receive(&mut self, bytes: &mut [u8], now: Instant) {
        match &mut self.stage {
            Stage::Http { .. } => self.receive_requests(bytes, now),
            Stage::Waiting(waiting) => {
                waiting.input.extend_from_slice(bytes);
                // Further requests may be sent before this one is answered, but not without end.
                if waiting.what.is_held() && waiting.input.len() > MAX_PIPELINED_BYTES {
                    self.answer_instead(too_much_behind(), now);
                }
            }
            Stage::WebSocket(_) => self.receive_frames(bytes, now),
            // Whoever opened an event stream has nothing more to say.
            Stage::Stream { .. } | Stage::Drain { .. } | Stage::Flush { .. } | Stage::Done => return,
        }
        self.account(now);
    }

    /// Takes note that the peer will send no more. What was promised to it is still written; what it only waited for is not.
    pub fn receive_eof(&mut self, now: Instant) {
        match &mut self.stage {
            Stage::Waiting(waiting) if !waiting.what.is_held() => waiting.has_ended = true,
            Stage::Http { behind: Some(behind), .. } => behind.has_ended = true,
            _ if self.output.is_empty() => self.end(),
            _ => self.flush(now),
        }
    }

    /// Takes what the exchange has to say: to what was asked, or unasked to a session of Engine.IO.
    pub fn reply(&mut self, reply: Reply, now: Instant) {
        match (&mut self.stage, reply) {
            (Stage::Waiting(_), reply) => self.answer_waiting(reply, now),
            (Stage::WebSocket(_), Reply::Engine(reply)) => self.engine_says(reply, now),
            (Stage::Http { .. }, Reply::Engine(reply)) => self.refuse_body(reply, now),
            (Stage::WebSocket(_) | Stage::Stream { .. }, Reply::Since(found)) => {
                self.go_on_replaying(&found, now)
            }
            (Stage::WebSocket(_), Reply::Published(Err(error))) => self.not_published(error, now),
            // It came too late.
            _ => return,
        }
        self.account(now);
    }

    /// Does what is due at `now`. Harmless when nothing is.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.use_room(now);
        if self.deadline.is_none_or(|deadline| now < deadline) {
            return;
        }
        if self.is_body_coming() {
            self.deadline = now.checked_add(self.app.handshake_timeout);
            return;
        }
        match &self.stage {
            Stage::Http { reader, is_used: true, .. } if reader.is_idle() => {
                let patience = if self.is_leaving { LINGER } else { self.app.keep_alive };
                self.go_on_while_taken(patience, now);
            }
            Stage::Http { .. } => {
                let limit = self.app.handshake_timeout;
                let text = format!("The request took longer than {limit:?}.\n");
                self.last_answer(&Answer::new(408, text), &ReplyTo::default(), now);
            }
            Stage::Waiting(_) => self.waited_long_enough(now),
            Stage::WebSocket(socket) if !socket.close_sent => self.heartbeat(now),
            Stage::Stream { behind } => {
                // A stream from which nothing is taken for as long as this is not read any more.
                if *behind == Some(self.output.written()) {
                    return self.end();
                }
                let behind = (!self.output.is_empty()).then_some(self.output.written());
                if behind.is_none() {
                    self.output.copy(sse::HEARTBEAT);
                }
                self.stage = Stage::Stream { behind };
                self.deadline = now.checked_add(self.app.sse_heartbeat);
            }
            _ => self.go_on_while_taken(LINGER, now),
        }
    }

    /// Ends, unless its peer still has something to take and has taken some of it since this was last asked: a long answer over a slow line takes its time.
    fn go_on_while_taken(&mut self, patience: Duration, now: Instant) {
        let is_left = !self.output.is_empty();
        let now_written = self.output.written();
        match &mut self.stage {
            Stage::Http { written, .. } | Stage::Drain { written, .. } | Stage::Flush { written }
                if is_left && *written != now_written =>
            {
                *written = now_written;
                self.deadline = now.checked_add(patience);
            }
            _ => self.end(),
        }
    }

    /// Takes a message that somebody published on the topic that this session has subscribed to. A peer that is too far behind is closed
    /// instead.
    pub fn deliver(&mut self, message: &Outgoing, now: Instant) {
        match &self.stage {
            Stage::WebSocket(socket) if socket.takes_publications() => {}
            Stage::Stream { .. } => {}
            Stage::Waiting(waiting) if waiting.takes_publications() => {
                return self.answer_publication(message, now);
            }
            // It gets what follows its subscription, and that has not been answered yet.
            _ => return,
        }
        let Some(Subscription { format, replayed, last, replay, .. }) = self.subscription.as_deref() else {
            return;
        };
        if replay.is_some() || message.id() <= *last {
            return;
        }
        let bytes = message.encoded(*format);
        let behind = self.output.len() - replayed.saturating_sub(self.output.written()) as usize;
        // A single message may be longer than the limit: somebody who keeps up is never dropped for it.
        if behind > 0 && behind + bytes.len() > self.app.max_unsent_bytes {
            self.close(CloseReason::TooSlow, now);
        } else {
            self.output.share_charged(bytes);
            if self.output.account(&self.app.memory).is_err() {
                self.give_up(now);
            }
        }
    }

    /// The topic that it has subscribed to, and how it takes what is published there.
    pub fn subscription(&self) -> Option<(&Arc<str>, Format)> {
        self.subscription.as_ref().map(|subscription| (subscription.topic.shared(), subscription.format))
    }

    /// Whether it takes what is published and has nothing to write before it: then the server may write what is
    /// [encoded](Outgoing::encoded) itself, and tell of it by [`Output::begun`].
    pub fn is_up_to_date(&self) -> bool {
        let takes_publications = match &self.stage {
            Stage::WebSocket(socket) => socket.takes_publications(),
            Stage::Stream { .. } => true,
            _ => false,
        };
        let is_replaying =
            || self.subscription.as_ref().is_some_and(|subscription| subscription.replay.is_some());
        takes_publications && self.output.is_empty() && !is_replaying()
    }

    /// Begins to close: a WebSocket by a close frame, anything else when what it was promised is written.
    pub fn close(&mut self, why: CloseReason, now: Instant) {
        match (&mut self.stage, why) {
            (Stage::WebSocket(_), why) => self.close_websocket(why, now),
            (Stage::Stream { .. }, CloseReason::TooSlow | CloseReason::NoMemory) => {
                // An event stream has no words for it: its client comes again, and says what it has had.
                self.is_dropped = true;
                self.end();
            }
            (Stage::Stream { .. }, CloseReason::GoingAway) => {
                // What it has not read yet has been promised to somebody.
                self.flush(now);
                self.deadline = now.checked_add(self.app.grace);
            }
            (Stage::Http { reader, .. }, CloseReason::GoingAway) if reader.is_idle() && self.polls => {
                // Something may have been published between its last poll and the next, which is on its way.
                self.begin_leaving(now);
            }
            (Stage::Http { reader, .. }, _) if reader.is_idle() => match self.output.is_empty() {
                true => self.end(),
                false => self.flush(now),
            },
            (Stage::Http { .. }, _) => self.last_answer(&going_away(), &ReplyTo::default(), now),
            (Stage::Waiting(waiting), CloseReason::GoingAway) if waiting.what.is_about_to_be_answered() => {
                // What the exchange says is true, and behind it there is nothing more.
                waiting.reply_to.keep_alive = false;
                self.begin_leaving(now);
            }
            (Stage::Waiting(waiting), _) => {
                let answer = waiting.what.farewell().unwrap_or_else(going_away);
                self.answer_instead(answer, now);
            }
            _ => {}
        }
    }

    /// Answers what was asked with a refusal after all: to be called when it asks for something, by a server that has not the means.
    pub fn refuse(&mut self, limit: &'static str, sentence: &str, now: Instant) {
        self.is_refused = true;
        match &self.stage {
            Stage::Waiting(_) => self.answer_instead(http::refused(limit, sentence), now),
            _ => self.end(),
        }
    }

    /// The next thing that the exchange must know, in order.
    pub fn poll_event(&mut self) -> Option<Request> {
        let request = self.questions.pop();
        match &request {
            Some(Request::Subscribe { .. }) => self.has_subscribed = true,
            Some(Request::Unsubscribe { .. }) => self.has_subscribed = false,
            _ => {}
        }
        request
    }

    /// What the exchange must know when the connection is gone, for whatever reason. To be asked once, at the end.
    pub fn poll_farewell(&mut self) -> Option<Request> {
        let has_engine = std::mem::take(&mut self.has_engine);
        let has_subscribed = std::mem::take(&mut self.has_subscribed);
        (has_engine || has_subscribed).then_some(Request::FAREWELL)
    }

    /// When [`handle_timeout`](Session::handle_timeout) should be called, if nothing else happens before.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.has_room_since().or(self.deadline)
    }

    /// Whether the output has room again for what waits for that: requests that were read, or a replay. [`poll_timeout`](Session::poll_timeout) is due
    /// then, and the client is not judged by it. So it needs no second look at what has come.
    pub fn has_room(&self) -> bool {
        self.has_room_since().is_some()
    }

    /// Goes on with what has waited for room, if there is some. Harmless when nothing waits.
    pub fn use_room(&mut self, now: Instant) {
        if self.has_room() {
            self.go_on_with_room(now);
            self.account(now);
        }
    }

    /// True once, when the last byte of the output is written and no more will follow while the peer may
    /// still send: the moment for `shutdown(SHUT_WR)`.
    pub fn poll_finish(&mut self) -> bool {
        match &mut self.stage {
            Stage::Drain { finished, .. } if !*finished && self.output.is_empty() => {
                *finished = true;
                true
            }
            _ => false,
        }
    }

    /// The bytes to write.
    pub fn output(&mut self) -> &mut Output {
        &mut self.output
    }

    /// Whether the socket is to be closed.
    pub fn is_over(&self) -> bool {
        match &self.stage {
            Stage::Done => true,
            Stage::Flush { .. } => self.output.is_empty(),
            _ => false,
        }
    }

    /// What to do next with the socket. Neither: nothing, until somebody else has something for the session.
    pub fn wants(&self) -> Wants {
        let write = !self.output.is_empty();
        let keeps_up = self.output.len() <= HIGH_WATER_BYTES;
        match &self.stage {
            // What waits is read first.
            Stage::Http { behind: Some(_), .. } => Wants { read: false, write },
            Stage::Http { .. } | Stage::WebSocket(_) | Stage::Stream { .. } => {
                Wants { read: keeps_up, write }
            }
            // What is held is held until its peer ends, which only reading tells. Any other answer is about to come.
            Stage::Waiting(waiting) => {
                let read = waiting.what.is_held() || waiting.input.len() <= HIGH_WATER_BYTES;
                Wants { read, write }
            }
            Stage::Drain { .. } => Wants { read: true, write },
            Stage::Flush { .. } => Wants { read: false, write },
            Stage::Done => Wants { read: false, write: false },
        }
    }

    /// Whether nothing follows from its output's being written: it goes on reading, and neither finishes nor ends.
    pub fn only_listens(&self) -> bool {
        !matches!(self.stage, Stage::Drain { .. } | Stage::Flush { .. } | Stage::Done) && self.wants().read
    }

    /// What this session contributes to the tally.
    pub fn counts(&self) -> Counts {
        let Session { messages, bytes, is_dropped, is_refused, .. } = *self;
        Counts { messages, bytes, is_dropped, is_refused }
    }

    fn ask(&mut self, request: Request) {
        self.questions.push(request);
    }

    fn subscribe(&mut self, topic: TopicName, format: Format, since: Option<Cursor>) {
        let subscription = Subscription { topic: topic.clone(), format, replayed: 0, last: 0, replay: None };
        self.subscription = Some(Box::new(subscription));
        // The client of a long poll asks for the rest itself.
        let is_portion = format != Format::Poll;
        self.ask(Request::Subscribe { topic, since, is_portion });
    }

    fn unsubscribe(&mut self) {
        if let Some(subscription) = self.subscription.take() {
            let Subscription { topic, format, .. } = *subscription;
            self.ask(Request::Unsubscribe { topic: topic.shared().clone(), format });
        }
    }

    /// Takes no more part in what others do.
    fn leave(&mut self) {
        self.unsubscribe();
        if std::mem::take(&mut self.has_engine) {
            self.ask(Request::Engine(engine::Request::Gone));
        }
    }

    /// Reads the next request, or waits for it.
    fn listen(&mut self, now: Instant) {
        let written = self.output.written();
        self.stage = Stage::Http { reader: Reader::default(), is_used: true, written, behind: None };
        self.deadline = now.checked_add(self.app.keep_alive);
    }

    /// Goes on until one more answer is given, but not for long.
    fn begin_leaving(&mut self, now: Instant) {
        if !std::mem::replace(&mut self.is_leaving, true) {
            self.deadline = now.checked_add(LINGER.min(self.app.grace));
        }
    }

    fn drain(&mut self, now: Instant) {
        self.leave();
        self.stage = Stage::Drain { finished: false, written: self.output.written() };
        self.deadline = now.checked_add(LINGER);
    }

    fn flush(&mut self, now: Instant) {
        self.leave();
        self.stage = Stage::Flush { written: self.output.written() };
        self.deadline = now.checked_add(LINGER);
    }

    fn end(&mut self) {
        self.leave();
        self.stage = Stage::Done;
    }

    /// Answers a request that waits with something else than it waits for, and ends.
    fn answer_instead(&mut self, answer: Answer, now: Instant) {
        if let Stage::Waiting(waiting) = &mut self.stage {
            let reply_to = std::mem::take(&mut waiting.reply_to);
            self.last_answer(&answer, &reply_to, now);
        }
    }

    /// An answer behind which nothing more is read.
    fn last_answer(&mut self, answer: &Answer, reply_to: &ReplyTo, now: Instant) {
        let reply_to = ReplyTo { keep_alive: false, ..reply_to.clone() };
        answer.encode_head(&reply_to, self.output.tail());
        self.output.share(answer.body(&reply_to));
        self.drain(now);
    }
}

fn too_much_behind() -> Answer {
    Answer::new(503, format!("More than {MAX_PIPELINED_BYTES} bytes came behind a request that waits.\n"))
}

fn going_away() -> Answer {
    Answer::new(503, "The server is going away.\n").with("Retry-After", "1")
}
