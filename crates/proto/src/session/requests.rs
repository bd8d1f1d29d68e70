//! A connection while it is HTTP: one request after the other, each answered at once, when the exchange has answered, or when something is published.

use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};

use super::login;
use super::room::no_memory;
use super::route::{self, Wanted};
use super::websocket::Room;
use super::{Behind, HIGH_WATER_BYTES, Session, Stage, going_away};
use crate::http::{Answer, Handshake, Next, ReplyTo, Rules};
use crate::topics::{PublishError, Since};
use crate::{Cursor, Format, Outgoing, Reply, Request, TopicName, engine, poll, sse};

/// Bytes per second of a body on average over each handshake timeout; one that comes more slowly is answered with 408. Nothing that a client pays for less may
/// be held for long.
const MIN_BODY_RATE: f64 = 1024.0;

/// A request whose answer is not known yet.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) reply_to: ReplyTo,
    pub(super) what: Pending,
    /// What came behind the request.
    pub(super) input: BytesMut,
    /// The peer will send no more, but wants its answer.
    pub(super) has_ended: bool,
}

/// What is waited for.
#[derive(Debug)]
pub(super) enum Pending {
    /// The events of a topic. In a box, since it is answered at once: what is held for long must not be as large.
    Poll(Box<Poll>),
    /// The same, and if there is none the next one.
    LongPoll { timeout: Duration, is_held: bool },
    /// The events of a topic, before an event stream begins.
    Stream,
    /// The same before a WebSocket on the topic begins.
    Topic(Box<Handshake>),
    /// The number of what was published.
    Publish,
    /// The sign-in's answer.
    Login(login::Question),
    /// Engine.IO's answer. It may take its time.
    Engine { is_held: bool },
    /// Engine.IO's word on a WebSocket.
    EngineUpgrade(Box<Handshake>),
}

/// A short poll.
#[derive(Debug)]
pub(super) struct Poll {
    topic: TopicName,
    since: Option<Cursor>,
    /// The client has the answer with these tags already.
    if_none_match: Option<String>,
}

impl Pending {
    /// Whether it waits for something that may never come, so that its peer's end is the end of it.
    pub(super) fn is_held(&self) -> bool {
        match self {
            Pending::LongPoll { .. } | Pending::Stream | Pending::Topic(_) => true,
            Pending::Engine { is_held } => *is_held,
            Pending::EngineUpgrade(_) => true,
            Pending::Poll(_) | Pending::Publish | Pending::Login(_) => false,
        }
    }

    /// Whether the exchange answers it at once, also when the server ends; such a GET of Engine.IO's it has answered by then.
    pub(super) fn is_about_to_be_answered(&self) -> bool {
        match self {
            Pending::LongPoll { is_held, .. } => !is_held,
            Pending::Poll(_) | Pending::Publish | Pending::Login(_) | Pending::Engine { .. } => true,
            Pending::Stream | Pending::Topic { .. } | Pending::EngineUpgrade { .. } => false,
        }
    }

    /// What it is answered with when the server ends, if its protocol has a word for that.
    pub(super) fn farewell(&self) -> Option<Answer> {
        match self {
            Pending::Engine { is_held: true } => {
                let content_type = engine::ContentType::Text.as_str();
                Some(Answer::of(content_type, 200, engine::CLOSE_PACKET))
            }
            _ => None,
        }
    }
}

impl Waiting {
    /// Whether it is a long poll that has found nothing.
    pub(super) fn takes_publications(&self) -> bool {
        matches!(self.what, Pending::LongPoll { is_held: true, .. })
    }
}

impl Session {
    /// Reads requests and serves them, one by one, as long as the input lasts and there is room for their answers.
    pub(super) fn receive_requests(&mut self, mut input: &mut [u8], now: Instant) {
        if let Stage::Http { behind: Some(behind), .. } = &mut self.stage {
            // It was read before the model knew that nothing was to be read.
            return behind.input.extend_from_slice(input);
        }
        self.read_requests(&mut input, now);
        // Something else than requests follows, or an answer has to come first.
        match &mut self.stage {
            Stage::Waiting(waiting) => waiting.input.extend_from_slice(input),
            Stage::WebSocket(_) => self.receive_frames(input, now),
            Stage::Http { behind, .. } if !input.is_empty() => {
                *behind = Some(Box::new(Behind { input: (&*input).into(), since: now, has_ended: false }));
            }
            _ => {}
        }
    }

    /// The same with what came behind a request that has been answered. What has to wait once more stays where it is: there may be many requests.
    pub(super) fn go_on(&mut self, mut input: BytesMut, now: Instant) {
        let mut rest = &mut input[..];
        self.read_requests(&mut rest, now);
        let left = rest.len();
        input.advance(input.len() - left);
        match &mut self.stage {
            Stage::Waiting(waiting) => waiting.input = input,
            Stage::WebSocket(_) => self.receive_frames(&mut input, now),
            Stage::Http { behind, .. } if !input.is_empty() => {
                *behind = Some(Box::new(Behind { input, since: now, has_ended: false }));
            }
            _ => {}
        }
    }

    /// Whether the body of the request comes at a rate that is worth waiting for. To be asked whenever its time is up.
    pub(super) fn is_body_coming(&mut self) -> bool {
        let bytes = (MIN_BODY_RATE * self.app.handshake_timeout.as_secs_f64()) as u64;
        match &mut self.stage {
            Stage::Http { reader, .. } => reader.has_taken(bytes.max(1)),
            _ => false,
        }
    }

    /// Takes requests from the start of `input` as long as each is answered at once and its client takes the answers.
    fn read_requests(&mut self, input: &mut &mut [u8], now: Instant) {
        let app = self.app.clone();
        let rules = Rules { origins: &app.cors, max_body: &|request| route::max_body_bytes(&app, request) };
        while let Stage::Http { reader, is_used, .. } = &mut self.stage {
            if self.output.len() > HIGH_WATER_BYTES && !input.is_empty() {
                return;
            }
            let (was_idle, was_in_body) = (reader.is_idle(), reader.begun().is_some());
            let mut interim = Vec::new();
            let next = reader.next(input, &rules, &mut interim);
            if !interim.is_empty() {
                self.output.copy(&interim);
            }
            match next {
                Next::Incomplete => {
                    // A request has its time from its first byte on; the first one of all from the accept on.
                    let has_begun = was_idle && *is_used && !reader.is_idle();
                    let begun = reader.begun().filter(|_| !was_in_body);
                    // So has a body, from the end of its head on, and again as long as enough of it comes.
                    if has_begun || begun.is_some() {
                        self.deadline = now.checked_add(app.handshake_timeout);
                    }
                    if let Some(begun) = begun.and_then(|request| route::post_begun(&app, request)) {
                        self.has_engine = true;
                        self.ask(Request::Engine(begun));
                    }
                    return;
                }
                Next::Refused(answer, reply_to) => {
                    // What is known of the POST is only its beginning.
                    if self.has_engine && answer.status() == 413 {
                        self.ask(Request::Engine(engine::Request::PostTooLong));
                    }
                    return self.last_answer(&answer, &reply_to, now);
                }
                Next::Request(request) => {
                    let reply_to = ReplyTo::new(&request, &app.cors);
                    self.serve(request, reply_to, now);
                }
            }
        }
    }

    fn serve(&mut self, request: crate::http::Request, reply_to: ReplyTo, now: Instant) {
        let app = self.app.clone();
        app.work.perform();
        let reply_to = ReplyTo { keep_alive: reply_to.keep_alive && !self.is_leaving, ..reply_to };
        let if_none_match = request.if_none_match.clone();
        let wanted = match route::route(&app, request) {
            Ok(wanted) => wanted,
            Err(answer) => return self.answer(&answer, &reply_to, now),
        };
        self.polls = matches!(wanted, Wanted::LongPoll { .. } | Wanted::Engine(engine::Request::Get(_)));
        if self.is_leaving && !self.polls {
            return self.last_answer(&going_away(), &reply_to, now);
        }
        let what = match wanted {
            Wanted::Answer(answer) => return self.answer(&answer, &reply_to, now),
            Wanted::Asset(answer) => {
                // A browser loads what belongs to a page over several connections at a time, the one that brought the page among them. Where they are served one after the
                // other, each has to end for the next.
                let keep_alive = reply_to.keep_alive && app.serves_together;
                return self.answer(&answer, &ReplyTo { keep_alive, ..reply_to }, now);
            }
            Wanted::Echo { handshake } => return self.upgrade(&handshake, Room::Echo, now),
            Wanted::Poll { topic, since } => {
                self.ask(Request::Since { topic: topic.clone(), since, is_portion: false });
                Pending::Poll(Box::new(Poll { topic, since, if_none_match }))
            }
            Wanted::LongPoll { topic, since, timeout } => {
                self.subscribe(topic, Format::Poll, since);
                Pending::LongPoll { timeout, is_held: false }
            }
            Wanted::Stream { topic, since } => {
                self.subscribe(topic, Format::EventStream, since);
                Pending::Stream
            }
            Wanted::Topic { handshake, topic, format, since } => {
                self.subscribe(topic, format, since);
                Pending::Topic(handshake)
            }
            Wanted::Publish { topic, event, kind, data } => {
                self.count(data.len());
                if !app.memory.has_room(data.len()) {
                    self.is_refused = true;
                    return self.answer(&no_memory(), &reply_to, now);
                }
                let data = app.memory.keep(data);
                self.ask(Request::Publish { topic, event, kind, data, is_answered: true });
                Pending::Publish
            }
            Wanted::Login { question, mut request } => {
                if let crate::login::Request::Open { from } = &mut request {
                    *from = self.origin.as_ref().map(|origin| origin.address);
                }
                self.ask(Request::Login(request));
                Pending::Login(question)
            }
            Wanted::Engine(mut request) => {
                self.say_where_from(&mut request);
                let is_held = matches!(request, engine::Request::Get(_));
                if let engine::Request::Post { body, .. } = &mut request {
                    self.count(body.len());
                    *body = app.memory.keep(std::mem::take(body));
                }
                self.has_engine = true;
                self.ask(Request::Engine(request));
                Pending::Engine { is_held }
            }
            Wanted::EngineUpgrade { handshake, mut request } => {
                self.say_where_from(&mut request);
                self.has_engine = true;
                self.ask(Request::Engine(request));
                Pending::EngineUpgrade(handshake)
            }
        };
        self.stage =
            Stage::Waiting(Box::new(Waiting { reply_to, what, input: BytesMut::new(), has_ended: false }));
        self.deadline = None;
    }

    fn say_where_from(&self, request: &mut engine::Request) {
        if let engine::Request::Get(query) | engine::Request::Upgrade(query) = request {
            query.from = self.origin.as_ref().map(|origin| origin.address);
        }
    }

    fn count(&mut self, bytes: usize) {
        self.messages += 1;
        self.bytes += bytes as u64;
    }

    /// Takes what was waited for.
    pub(super) fn answer_waiting(&mut self, reply: Reply, now: Instant) {
        let Stage::Waiting(waiting) = &mut self.stage else { return };
        match (&mut waiting.what, reply) {
            (Pending::Poll(poll), Reply::Since(found)) => {
                let Poll { topic, since, if_none_match } = &**poll;
                let tag = self.app.etag(&found, *since);
                let has_it =
                    if_none_match.as_deref().is_some_and(|tags| crate::http::etag::matches(tags, &tag));
                let answer = match has_it {
                    true => Answer::not_modified(tag),
                    false => Answer::json(200, poll::encode(topic, &found)).with("ETag", tag),
                };
                self.answer_it(&answer.with("Cache-Control", "no-cache"), now);
            }
            (Pending::LongPoll { timeout, is_held }, Reply::Since(found)) => {
                let is_empty = found.events.is_empty() && found.missed == 0 && !found.restarted;
                if is_empty && self.is_leaving {
                    return self.answer_instead(going_away(), now);
                }
                if is_empty {
                    *is_held = true;
                    self.deadline = now.checked_add(*timeout);
                    return;
                }
                let topic = self.subscription.as_ref().map(|subscription| &*subscription.topic);
                let json = poll::encode(topic.unwrap_or_default(), &found);
                self.answer_it(&Answer::json(200, json), now);
            }
            (Pending::Stream, Reply::Since(found)) => self.begin_stream(&found, now),
            (Pending::Topic(handshake), Reply::Since(found)) => {
                let handshake = std::mem::take(handshake);
                let input = std::mem::take(&mut waiting.input);
                self.upgrade(&handshake, Room::Topic, now);
                self.begin_topic(&found, now);
                self.go_on(input, now);
            }
            (Pending::Publish, Reply::Published(Ok(id))) => {
                self.answer_it(&Answer::json(202, format!("{{\"id\":{id}}}")), now);
            }
            (Pending::Publish, Reply::Published(Err(error))) => match error {
                // What stands behind it would be answered the same.
                PublishError::GoingAway => self.answer_instead(not_published(error), now),
                _ => self.answer_it(&not_published(error), now),
            },
            (Pending::Login(question), Reply::Login(reply)) => {
                let answer = login::answer(question, reply);
                self.answer_it(&answer, now);
            }
            (Pending::Engine { .. }, Reply::Engine(engine::Reply::Answer { status, content_type, body })) => {
                self.has_engine = false;
                self.answer_it(&Answer::of(content_type.as_str(), status, body), now);
            }
            (
                Pending::EngineUpgrade(_),
                Reply::Engine(engine::Reply::Answer { status, content_type, body }),
            ) => {
                self.has_engine = false;
                self.answer_it(&Answer::of(content_type.as_str(), status, body), now);
            }
            (Pending::EngineUpgrade(handshake), Reply::Engine(engine::Reply::Accept)) => {
                let handshake = std::mem::take(handshake);
                let input = std::mem::take(&mut waiting.input);
                self.upgrade(&handshake, Room::Engine, now);
                self.go_on(input, now);
            }
            // An answer to what was asked before, which nobody waits for any more.
            _ => {}
        }
    }

    /// Engine.IO does not want the body that is on its way.
    pub(super) fn refuse_body(&mut self, reply: engine::Reply, now: Instant) {
        let (Stage::Http { reader, .. }, engine::Reply::Answer { status, content_type, body }) =
            (&self.stage, reply)
        else {
            return;
        };
        let reply_to = reader.begun().map(|request| ReplyTo::new(request, &self.app.cors));
        self.has_engine = false;
        self.last_answer(
            &Answer::of(content_type.as_str(), status, body),
            &reply_to.unwrap_or_default(),
            now,
        );
    }

    /// Something was published while a long poll waited for it.
    pub(super) fn answer_publication(&mut self, message: &Outgoing, now: Instant) {
        let json = message.encoded(Format::Poll).clone();
        self.answer_it(&Answer::json(200, json), now);
    }

    /// Nothing was published for as long as it was to wait.
    pub(super) fn waited_long_enough(&mut self, now: Instant) {
        let Stage::Waiting(waiting) = &self.stage else { return };
        if waiting.takes_publications() {
            self.answer_it(&Answer::empty(204), now);
        } else if self.is_leaving {
            let answer = waiting.what.farewell().unwrap_or_else(going_away);
            self.answer_instead(answer, now);
        } else {
            self.deadline = None;
        }
    }

    fn begin_stream(&mut self, found: &Since, now: Instant) {
        let Stage::Waiting(waiting) = &mut self.stage else { return };
        // It ends when the connection does, so that nothing has to be said of each event's length.
        let reply_to = ReplyTo { keep_alive: false, ..std::mem::take(&mut waiting.reply_to) };
        Answer::stream(sse::CONTENT_TYPE)
            .with("Cache-Control", "no-cache")
            .encode(&reply_to, self.output.tail());
        self.output.copy(sse::PREAMBLE);
        let oldest = found.events.first().map_or(found.newest + 1, |event| event.id());
        let last = Cursor { id: oldest - 1, epoch: found.epoch };
        if found.missed > 0 || found.restarted {
            self.output.copy(&sse::encode_gap(last, found.missed, found.restarted));
        } else if found.events.is_empty() {
            self.output.copy(&sse::encode_place(last));
        }
        self.replay(found, now);
        self.stage = Stage::Stream { behind: None };
        self.deadline = now.checked_add(self.app.sse_heartbeat);
    }

    /// Answers the request that waits, and goes on with the next.
    fn answer_it(&mut self, answer: &Answer, now: Instant) {
        let Stage::Waiting(waiting) = &mut self.stage else { return };
        let Waiting { reply_to, input, has_ended, .. } = &mut **waiting;
        let (reply_to, input) = (std::mem::take(reply_to), std::mem::take(input));
        let has_ended = *has_ended;
        self.unsubscribe();
        self.answer(answer, &reply_to, now);
        if !input.is_empty() {
            self.go_on(input, now);
        }
        // Whoever has sent its last request gets no more than its answers.
        if has_ended {
            self.receive_eof(now);
        }
    }

    /// Answers a request, and waits for the next if there may be one.
    fn answer(&mut self, answer: &Answer, reply_to: &ReplyTo, now: Instant) {
        if !self.app.memory.has_room(answer.body(reply_to).len()) {
            self.is_refused = true;
            return self.last_answer(&no_memory(), reply_to, now);
        }
        if !reply_to.keep_alive {
            return self.last_answer(answer, reply_to, now);
        }
        answer.encode_head(reply_to, self.output.tail());
        self.output.share(answer.body(reply_to));
        self.listen(now);
    }
}

/// The answer to a publisher that cannot be helped.
fn not_published(error: PublishError) -> Answer {
    let answer = |status| Answer::new(status, format!("Not published: {error}.\n"));
    match error {
        PublishError::TooManyTopics(_) => answer(503).with(crate::http::REFUSED_HEADER, "topics"),
        PublishError::TooLong(_) => answer(413),
        PublishError::Reserved => answer(403),
        PublishError::GoingAway => going_away(),
    }
}
