//! What outlives a connection, or belongs to several: the topics with their history, the sessions of Engine.IO, the ticker.
//!
//! One server has one exchange, wherever its connections are. A loop that is the whole server owns it; threads share it behind a lock; where connections are
//! in processes it is with their parent, and what is asked and answered travels there and back. Like everything here it has no socket and no clock: requests
//! and times go in, effects come out.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::engine::{self, EngineSettings, Engines, Published};
use crate::login::{self, Logins};
use crate::lookout::Lookout;
use crate::socketio_server::CHAT_TOPIC;
use crate::topics::{PublishError, Since, Topics};
use crate::{App, Budget, Cursor, EventName, Format, Kind, Outgoing, Port, TopicName, poll};

/// The topic that the ticker publishes on.
const TICK_TOPIC: &str = "tick";

/// What a stream is replayed at a time. The rest stays in the history until its client has taken that.
const PORTION_BYTES: usize = 64 << 10;

/// What a connection asks of the exchange.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Request {
    /// What there is on a topic after an event. Answered by [`Reply::Since`] at once.
    Since {
        /// The topic's name.
        topic: TopicName,
        /// The last event that the client has had.
        since: Option<Cursor>,
        /// A portion of it is enough, since the rest is asked for when that is written. Otherwise it is as much as one answer may be long.
        is_portion: bool,
    },
    /// The same for somebody who gets what follows from now on.
    Subscribe {
        /// The topic's name.
        topic: TopicName,
        /// The last event that the client has had.
        since: Option<Cursor>,
        /// As above.
        is_portion: bool,
    },
    /// An event for everyone on a topic. Answered by [`Reply::Published`] at once.
    Publish {
        /// The topic's name.
        topic: TopicName,
        /// The event's name, if it has one.
        event: Option<EventName>,
        /// Whether the data are text.
        kind: Kind,
        /// What is published.
        data: Bytes,
        /// Whether the publisher wants to know its number. That it is not published it is told in any case.
        is_answered: bool,
    },
    /// Nothing more of what is published: a long poll has been answered, or the connection ends.
    Unsubscribe {
        /// The topic of the subscription.
        topic: Arc<str>,
        /// How its events were taken.
        format: Format,
    },
    /// Something of the sign-in's. Answered by [`Reply::Login`] at once.
    Login(login::Request),
    /// Something for a session of Engine.IO.
    Engine(engine::Request),
}

/// What a connection hears from the exchange.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Reply {
    /// What there is on a topic.
    Since(Since),
    /// The number of the event that was published.
    Published(Result<u64, PublishError>),
    /// What the sign-in says.
    Login(login::Reply),
    /// Something from a session of Engine.IO.
    Engine(engine::Reply),
}

/// What follows from a request, or from the passing of time.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Effect {
    /// To be given to every subscriber of its topic, in the order in which effects come.
    Publish(Arc<Outgoing>),
    /// To be given to that connection, unless it has ended.
    Reply(Port, Reply),
}

impl Request {
    /// What the exchange is told when a connection is gone that has a subscription or a session.
    pub const FAREWELL: Request = Request::Engine(engine::Request::Gone);

    /// Whether it is the last of its connection.
    pub fn is_farewell(&self) -> bool {
        *self == Request::FAREWELL
    }

    /// Whether an answer comes at once, and nothing after it.
    pub fn is_answered_at_once(&self) -> bool {
        match self {
            Request::Since { .. }
            | Request::Publish { .. }
            | Request::Unsubscribe { .. }
            | Request::Login(_) => true,
            Request::Subscribe { .. } => false,
            // Even a POST may have to wait for another request that it has overtaken.
            Request::Engine(request) => *request == engine::Request::Gone,
        }
    }

    /// Charges what is long in a request that has come from another process.
    pub fn charge(&mut self, budget: &Budget) {
        if let Request::Publish { data, .. }
        | Request::Engine(
            engine::Request::Post { body: data, .. } | engine::Request::Message { data, .. },
        ) = self
        {
            *data = budget.keep(std::mem::take(data));
        }
    }

    /// What it may take in memory, in bytes.
    pub fn held_bytes(&self) -> usize {
        let data = match self {
            Request::Publish { data, .. } => data.len(),
            Request::Engine(engine::Request::Post { body, .. }) => body.len(),
            Request::Engine(engine::Request::Message { data, .. }) => data.len(),
            _ => 0,
        };
        data + size_of::<Request>()
    }
}

impl Effect {
    /// Charges what is long in an effect that has come from another process.
    pub fn charge(&mut self, budget: &Budget) {
        match self {
            Effect::Publish(message) => charge(message, budget),
            Effect::Reply(_, Reply::Since(since)) => {
                since.events.iter_mut().for_each(|event| charge(event, budget));
            }
            Effect::Reply(
                _,
                Reply::Engine(engine::Reply::Answer { body: data, .. } | engine::Reply::Send { data, .. }),
            ) => {
                *data = budget.keep(std::mem::take(data));
            }
            Effect::Reply(..) => {}
        }
    }
}

fn charge(message: &mut Arc<Outgoing>, budget: &Budget) {
    // What has just been read is nobody else's.
    if let Some(message) = Arc::get_mut(message) {
        message.charge(budget);
    }
}

impl Reply {
    /// What it may take in memory, in bytes.
    pub fn held_bytes(&self) -> usize {
        let data = match self {
            Reply::Since(since) => since.events.iter().map(|event| event.data().len()).sum(),
            Reply::Published(_) | Reply::Login(_) => 0,
            Reply::Engine(engine::Reply::Answer { body, .. }) => body.len(),
            Reply::Engine(engine::Reply::Send { data, .. }) => data.len(),
            Reply::Engine(_) => 0,
        };
        data + size_of::<Reply>()
    }
}

/// The one place of a server that all its connections have in common.
#[derive(Debug)]
pub struct Exchange {
    app: Arc<App>,
    topics: Topics,
    logins: Logins,
    engines: Engines,
    /// When the ticker publishes next.
    tick: Option<Instant>,
    effects: VecDeque<Effect>,
    /// Nothing more is published.
    is_closing: bool,
    /// The time of what is being done.
    now: Instant,
    /// When it was last looked what is due.
    looked_at: Instant,
    /// Where the connections are with several threads or processes.
    lookout: Option<Lookout>,
}

impl Exchange {
    /// An exchange on which nothing has been published.
    pub fn new(app: &Arc<App>, now: Instant) -> Exchange {
        Exchange {
            app: app.clone(),
            topics: Topics::new(app),
            logins: Logins::new(app.login_expiry, app.max_per_address),
            engines: Engines::new(&EngineSettings {
                memory: app.memory.clone(),
                max_per_address: app.max_per_address,
                ..app.engine.clone()
            }),
            tick: app.tick.and_then(|period| now.checked_add(period)),
            effects: VecDeque::new(),
            is_closing: false,
            now,
            looked_at: now,
            lookout: None,
        }
    }

    /// One whose connections are with several threads or processes: what a client has sent may not have been handed over when its time is over. So
    /// clients are judged by [`Lookout`].
    pub fn shared(app: &Arc<App>, now: Instant) -> Exchange {
        Exchange { lookout: Some(Lookout::default()), ..Exchange::new(app, now) }
    }

    /// Refuses everything from now on that somebody would have to be told of: the server is about to end. All that was acknowledged before has
    /// been given out as effects, so whoever delivers those before it closes a connection loses nothing. Its own effects are to be taken as well. Harmless when done again.
    pub fn close(&mut self) {
        if !std::mem::replace(&mut self.is_closing, true) {
            self.engines.close_polls();
        }
    }

    /// Takes what a connection asks. Its effects are to be taken before anything else is done.
    pub fn handle(&mut self, port: Port, request: Request, now: Instant) {
        self.now = now;
        match request {
            Request::Since { topic, since, is_portion } => self.tell_since(port, &topic, since, is_portion),
            Request::Subscribe { topic, since, is_portion } => {
                self.topics.subscribe(port, &topic);
                self.tell_since(port, &topic, since, is_portion);
            }
            Request::Publish { topic, event, kind, data, is_answered } => {
                let published =
                    self.admit(&topic, &data).and_then(|()| self.publish(&topic, event.as_ref(), kind, data));
                if is_answered || published.is_err() {
                    self.effects.push_back(Effect::Reply(port, Reply::Published(published)));
                }
            }
            // The models know who gets what is published. Here it only keeps the topic from being forgotten.
            Request::Unsubscribe { .. } => self.topics.unsubscribe(port),
            Request::Login(login::Request::Open { .. } | login::Request::Confirm { .. })
                if self.is_closing =>
            {
                self.effects.push_back(Effect::Reply(port, Reply::Login(login::Reply::GoingAway)));
            }
            Request::Login(request) => {
                let reply = self.logins.handle(request, now);
                self.change_topics();
                self.effects.push_back(Effect::Reply(port, Reply::Login(reply)));
            }
            // To answer that it was taken would promise that what it publishes is delivered.
            Request::Engine(engine::Request::Post { .. }) if self.is_closing => {
                let reply = engine::Reply::Answer {
                    status: 503,
                    content_type: engine::ContentType::Text,
                    body: Bytes::from_static(b"The server is going away.\n"),
                };
                self.effects.push_back(Effect::Reply(port, Reply::Engine(reply)));
            }
            Request::Engine(request) => {
                if request == engine::Request::Gone {
                    self.topics.unsubscribe(port);
                }
                self.engines.handle(port, request, now);
            }
        }
    }

    /// The next thing to be done, in order. What one request leads to may be much, and is worked out as it is taken.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        loop {
            if let Some(effect) = self.effects.pop_front() {
                return Some(effect);
            }
            while let Some((room, is_there)) = self.engines.poll_room() {
                self.topics.note_room(&room, is_there);
            }
            match self.engines.poll_effect()? {
                engine::Effect::Reply(port, reply) => return Some(Effect::Reply(port, Reply::Engine(reply))),
                engine::Effect::Publish(publish) => {
                    let engine::Publish { topic, event, kind, data, receipt } = *publish;
                    let result = self
                        .admit(&topic, &data)
                        .and_then(|()| self.number(&topic, event.as_deref(), kind, data));
                    match result {
                        Ok(message) => {
                            self.engines.published(published(&message), Some(receipt), self.now);
                            self.effects.push_back(Effect::Publish(message));
                        }
                        Err(error) => self.engines.not_published(receipt, &error.to_string(), self.now),
                    }
                }
                engine::Effect::Since(question) => {
                    let engine::Since { topic, since, receipt } = *question;
                    // As long as what such a session may send itself.
                    let found = self.topics.since(&topic, since, self.app.engine.max_payload_bytes);
                    let json = poll::encode(&topic, &found);
                    self.engines.tell_since(receipt, &String::from_utf8_lossy(&json), self.now);
                }
            }
        }
    }

    /// When [`handle_timeout`](Exchange::handle_timeout) should be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let pause = self.lookout.as_ref().and_then(Lookout::poll_timeout);
        // What is overdue waits for the end of the pause, and what comes due does not.
        let engines = match pause {
            None => self.engines.poll_timeout(),
            Some(_) => self.engines.poll_timeout_after(self.looked_at),
        };
        [self.tick, self.logins.poll_timeout(), pause, engines].into_iter().flatten().min()
    }

    /// Does what is due at `now`. Harmless when nothing is. All that clients have sent until then must have been handed over, unless this is
    /// [`shared`](Exchange::shared).
    pub fn handle_timeout(&mut self, now: Instant) {
        let Some(mut lookout) = self.lookout.take() else {
            return self.handle_timeout_as_heard(now, Some(now));
        };
        self.handle_timeout_as_heard(now, None);
        let overdue = |exchange: &Exchange| exchange.engines.next_deadline().filter(|due| *due <= now);
        let mut judged = lookout.judge(overdue(self), now);
        if judged.is_some() {
            self.handle_timeout_as_heard(now, judged);
            judged = lookout.judge(overdue(self), now);
        }
        debug_assert!(judged.is_none(), "a pause that has just begun is over");
        self.lookout = Some(lookout);
    }

    /// Does what is due at `now`, but judges clients only by what was due at `heard`: all that they had sent by then is
    /// handed over. `None`: judges nobody.
    pub fn handle_timeout_as_heard(&mut self, now: Instant, heard: Option<Instant>) {
        (self.now, self.looked_at) = (now, now);
        if let (Some(due), Some(period)) = (self.tick, self.app.tick)
            && due <= now
        {
            // What was slept through is not made up for.
            let next = due.checked_add(period).filter(|next| *next > now).or_else(|| now.checked_add(period));
            self.tick = next;
            let data = format!("{}", self.app.unix_time_ms(now));
            // One topic too many is the publishers' business; the ticker goes without.
            let _ = self.publish(&TopicName::own(TICK_TOPIC), None, Kind::Text, data.into());
        }
        self.logins.handle_timeout(now);
        self.change_topics();
        self.engines.handle_timeout_as_heard(now, heard);
    }

    fn tell_since(&mut self, port: Port, topic: &str, since: Option<Cursor>, is_portion: bool) {
        let max_bytes = if is_portion { PORTION_BYTES } else { self.app.max_unsent_bytes };
        let since = self.topics.since(topic, since, max_bytes);
        self.effects.push_back(Effect::Reply(port, Reply::Since(since)));
    }

    /// Does for the topics of the sign-in's codes what follows from what became of them.
    fn change_topics(&mut self) {
        while let Some(change) = self.logins.poll_change() {
            match change {
                login::Change::Opened { topic } => self.topics.reserve(&topic),
                login::Change::Ended { topic, event, data } => {
                    // There is no limit for a topic that is there.
                    let (topic, event) = (TopicName::own(&topic), EventName::own(event));
                    let _ = self.publish(&topic, Some(&event), Kind::Text, data.into());
                }
                login::Change::Forgotten { topic } => self.topics.forget(&topic),
            }
        }
    }

    /// Whether somebody else than the server itself may publish this, by whichever mechanism. What the names may be is in their types.
    fn admit(&self, topic: &TopicName, data: &Bytes) -> Result<(), PublishError> {
        let limit = self.app.max_message_bytes;
        if self.is_closing {
            Err(PublishError::GoingAway)
        } else if topic.starts_with(login::TOPIC_PREFIX) {
            Err(PublishError::Reserved)
        } else if data.len() > limit {
            Err(PublishError::TooLong(limit))
        } else {
            Ok(())
        }
    }

    fn publish(
        &mut self,
        topic: &TopicName,
        event: Option<&EventName>,
        kind: Kind,
        data: Bytes,
    ) -> Result<u64, PublishError> {
        let message = self.number(topic, event.map(|event| &**event), kind, data)?;
        self.engines.published(published(&message), None, self.now);
        let id = message.id();
        self.effects.push_back(Effect::Publish(message));
        Ok(id)
    }

    fn number(
        &mut self,
        topic: &str,
        event: Option<&str>,
        kind: Kind,
        data: Bytes,
    ) -> Result<Arc<Outgoing>, PublishError> {
        // Whoever speaks Socket.IO takes part in the chat, without a room of that name.
        let has_sessions = self.engines.sessions() > 0;
        self.topics.publish(topic, event, kind, data, |name| has_sessions && name == CHAT_TOPIC)
    }
}

fn published(message: &Outgoing) -> Published<'_> {
    Published {
        topic: message.topic(),
        id: message.id(),
        event: message.event(),
        kind: message.kind(),
        data: message.data(),
    }
}
