//! What was published, by topic: the number of each event, and as many of the latest as are held for those who come later.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use thiserror::Error;

use crate::subscriptions::Subscriptions;
use crate::{App, Budget, Charge, Cursor, Epoch, Kind, Outgoing, Port};

/// What the names of reserved topics begin with.
pub(crate) const RESERVED_PREFIX: &str = crate::login::TOPIC_PREFIX;

/// Places of events that are gone which are not worth looking for.
const SPARE_PLACES: usize = 64;

/// What is charged at a time for all topics and events together.
const CHARGED_AT_ONCE: usize = 64 << 10;

/// What a topic takes, its entries in all tables included, without its events.
fn name_bytes(name: &str) -> usize {
    name.len() + 256
}

/// Every topic of one server. Its memory is bounded: by the number of topics, by the events that each holds, and by the bytes that all hold together.
#[derive(Debug)]
pub(crate) struct Topics {
    topics: HashMap<Arc<str>, Topic>,
    /// The topics of the events that are held, the oldest event first, so that it is known which goes when there are too many bytes.
    /// An event that its own topic has let go leaves its place here behind until it comes to the front.
    order: VecDeque<(Arc<str>, u64)>,
    held: Held,
    /// What the names of the topics take, and the topics themselves.
    names_bytes: usize,
    memory: Budget,
    /// What is charged for all that.
    charge: Charge,
    max_topics: usize,
    /// Topics that are there for somebody else's reason, and do not count.
    reserved: usize,
    max_events: usize,
    max_bytes: usize,
    epoch: Option<Epoch>,
    subscriptions: Subscriptions,
    /// The topics that may be forgotten, the least recently used one first: when each was used and its name. An entry may be older than the last use of its
    /// topic; it is brought up to date when it comes to the front. So a use costs a number and nothing else.
    idle: BinaryHeap<Reverse<(u64, Arc<str>)>>,
    /// Uses so far: the time by which the least recently used topic is found.
    uses: u64,
    /// The highest number that a topic had which has been forgotten. A new topic goes on behind it: it may be one of those again.
    forgotten: u64,
}

/// Events that are held.
#[derive(Debug, Default)]
struct Held {
    events: usize,
    bytes: usize,
    /// Those of the bytes that are not charged already because they are many in one piece.
    uncharged_bytes: usize,
}

impl Held {
    fn add(&mut self, event: &Outgoing) {
        self.events += 1;
        self.bytes += event.held_bytes();
        self.uncharged_bytes += event.uncharged_bytes();
    }

    fn remove(&mut self, event: &Outgoing) {
        self.events -= 1;
        self.bytes -= event.held_bytes();
        self.uncharged_bytes -= event.uncharged_bytes();
    }
}

#[derive(Debug, Default)]
struct Topic {
    newest: u64,
    events: VecDeque<Arc<Outgoing>>,
    /// When it was last used.
    used: u64,
    /// It has an entry in `idle`.
    is_idle: bool,
}

/// What a topic has for somebody who comes.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
pub struct Since {
    /// The number of the topic's latest event; 0: there was none.
    pub newest: u64,
    /// The run of the server that has given the numbers, if it has a clock.
    pub epoch: Option<Epoch>,
    /// The client named an event of another run, so that it has had none of these.
    pub restarted: bool,
    /// So many events are no longer held that the client has not had.
    pub missed: u64,
    /// The events that it has not had, in order.
    pub events: Vec<Arc<Outgoing>>,
}

/// Why nothing is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error, serde::Serialize, serde::Deserialize)]
pub enum PublishError {
    /// One more topic would be too many, and none can be forgotten for it.
    #[error("there are {0} topics, and each has subscribers: use one of them, or raise --max-topics")]
    TooManyTopics(usize),
    /// The data are longer than any message may be.
    #[error("messages are limited to {0} bytes: publish less at once, or raise --max-message-bytes")]
    TooLong(usize),
    /// Only the sign-in publishes on the topics of its codes.
    #[error("topics that begin with login: are the sign-in's own: use another name")]
    Reserved,
    /// The server is about to end: what it took now would not be delivered.
    #[error("the server is going away: try again when it is back")]
    GoingAway,
}

impl Topics {
    pub(crate) fn new(app: &App) -> Topics {
        Topics {
            topics: HashMap::new(),
            order: VecDeque::new(),
            held: Held::default(),
            names_bytes: 0,
            memory: app.memory.clone(),
            charge: Charge::default(),
            max_topics: app.max_topics,
            reserved: 0,
            max_events: app.history_events,
            max_bytes: app.history_bytes,
            epoch: app.epoch(),
            subscriptions: Subscriptions::default(),
            idle: BinaryHeap::new(),
            uses: 0,
            forgotten: 0,
        }
    }

    /// Notes that a connection gets what is published on a topic, and nothing of any other.
    pub(crate) fn subscribe(&mut self, port: Port, topic: &str) {
        let name = self.topics.get_key_value(topic).map(|(name, _)| name.clone());
        let left = self.subscriptions.subscribe(port, name.unwrap_or_else(|| topic.into()));
        self.note_left(left);
    }

    /// Notes that a connection gets nothing any more. Harmless if it did not.
    pub(crate) fn unsubscribe(&mut self, port: Port) {
        let left = self.subscriptions.unsubscribe(port);
        self.note_left(left);
    }

    /// The same for the subscribers that are a room: it is there, or not any more.
    pub(crate) fn note_room(&mut self, topic: &str, is_there: bool) {
        if is_there {
            self.subscriptions.enter(topic.into());
        } else {
            let left = self.subscriptions.leave(topic);
            self.note_left(left);
        }
    }

    /// A topic without subscribers may be forgotten.
    fn note_left(&mut self, left: Option<Arc<str>>) {
        if let Some(name) = left
            && !name.starts_with(RESERVED_PREFIX)
            && let Some(topic) = self.topics.get_mut(&name)
        {
            self.uses += 1;
            topic.used = self.uses;
            if !std::mem::replace(&mut topic.is_idle, true) {
                self.idle.push(Reverse((self.uses, name)));
            }
        }
    }

    /// Forgets the least recently used topic that has no subscribers. False: there is none. `is_kept`: a topic that has subscribers elsewhere.
    fn forget_one(&mut self, is_kept: impl Fn(&str) -> bool) -> bool {
        let mut kept = Vec::new();
        let mut found = None;
        while let Some(Reverse((used, name))) = self.idle.pop() {
            let Some(topic) = self.topics.get_mut(&name) else { continue };
            if self.subscriptions.has(&name) {
                // It comes back when the last of them leaves.
                topic.is_idle = false;
            } else if is_kept(&name) {
                kept.push(Reverse((topic.used, name)));
            } else if topic.used > used {
                self.idle.push(Reverse((topic.used, name)));
            } else {
                found = Some(name);
                break;
            }
        }
        self.idle.extend(kept);
        let Some((name, topic)) = found.and_then(|name| self.topics.remove_entry(&name)) else {
            return false;
        };
        self.forgotten = self.forgotten.max(topic.newest);
        self.release(&name, &topic);
        true
    }

    /// Makes a topic that does not count as one of those that there may be. Whoever does so has a limit of its own, and [forgets](Topics::forget) it.
    pub(crate) fn reserve(&mut self, topic: &str) {
        if self.topics.insert(Arc::from(topic), Topic::default()).is_none() {
            self.reserved += 1;
            self.names_bytes += name_bytes(topic);
        }
    }

    /// Lets a topic go that was reserved, with all that it holds. What is left in `order` goes when it comes to the front.
    pub(crate) fn forget(&mut self, topic: &str) {
        if let Some((name, topic)) = self.topics.remove_entry(topic) {
            self.reserved -= 1;
            self.release(&name, &topic);
        }
    }

    /// Counts no longer what a topic held that has been taken out.
    fn release(&mut self, name: &str, topic: &Topic) {
        topic.events.iter().for_each(|event| self.held.remove(event));
        self.names_bytes -= name_bytes(name);
        self.let_go();
    }

    /// Gives an event its number and holds it. On a new topic it may cost the least recently used one, unless that `is_kept`.
    pub(crate) fn publish(
        &mut self,
        topic: &str,
        event: Option<&str>,
        kind: Kind,
        data: Bytes,
        is_kept: impl Fn(&str) -> bool,
    ) -> Result<Arc<Outgoing>, PublishError> {
        let name = match self.topics.get_key_value(topic) {
            Some((name, _)) => name.clone(),
            None => self.make(topic, is_kept)?,
        };
        self.uses += 1;
        let entry = self.topics.entry(name.clone()).or_default();
        entry.used = self.uses;
        entry.newest += 1;
        let message = Outgoing::new(name.clone(), entry.newest, event, kind, data);
        let message = Arc::new(message.with_epoch(self.epoch).with_budget(&self.memory));
        if self.max_events > 0 && message.held_bytes() <= self.max_bytes {
            self.held.add(&message);
            entry.events.push_back(message.clone());
            if entry.events.len() > self.max_events
                && let Some(oldest) = entry.events.pop_front()
            {
                self.held.remove(&oldest);
            }
            self.order.push_back((name, message.id()));
            self.let_go();
        } else {
            // Those before it cannot be held without it: they are numbered without gaps.
            entry.events.drain(..).for_each(|event| self.held.remove(&event));
        }
        // What is too much is let go with the next event, if it still is by then.
        let _ = self.charge.set(&self.memory, self.charged_bytes());
        Ok(message)
    }

    /// What is charged for topics and events, so coarsely that it hardly ever changes while as many come as go.
    fn charged_bytes(&self) -> usize {
        (self.held.uncharged_bytes + self.names_bytes) / CHARGED_AT_ONCE * CHARGED_AT_ONCE
    }

    /// Makes a topic, and forgets another for it if there are too many.
    fn make(&mut self, topic: &str, is_kept: impl Fn(&str) -> bool) -> Result<Arc<str>, PublishError> {
        if self.topics.len() - self.reserved >= self.max_topics && !self.forget_one(is_kept) {
            return Err(PublishError::TooManyTopics(self.max_topics));
        }
        let name: Arc<str> = topic.into();
        let is_idle = !self.subscriptions.has(topic);
        if is_idle {
            self.idle.push(Reverse((self.uses, name.clone())));
        }
        self.names_bytes += name_bytes(topic);
        self.topics.insert(name.clone(), Topic { newest: self.forgotten, is_idle, ..Topic::default() });
        Ok(name)
    }

    /// Lets the oldest events go, of whichever topic, until what is held is little enough.
    fn let_go(&mut self) {
        while let Some((name, id)) = self.order.front() {
            let events = self.topics.get_mut(name).map(|topic| &mut topic.events);
            // Not any more, if the topic has let it go before, or was itself let go.
            let held = events.filter(|events| events.front().is_some_and(|event| event.id() == *id));
            let is_too_much = self.held.bytes > self.max_bytes || self.memory.is_scarce();
            if held.is_some() && !is_too_much {
                break;
            }
            if let Some(event) = held.and_then(VecDeque::pop_front) {
                self.held.remove(&event);
                self.charge.lower(self.charged_bytes());
            }
            self.order.pop_front();
        }
        // A topic that many publish on must not fill this behind the event of one that nobody does.
        if self.order.len() > 2 * self.held.events + SPARE_PLACES {
            let topics = &self.topics;
            let first = |name: &Arc<str>| topics.get(name)?.events.front().map(|first| first.id());
            self.order.retain(|(name, id)| first(name).is_some_and(|first| first <= *id));
        }
    }

    /// What somebody has not had who had `since` last; who comes for the first time (`None`) has missed nothing. To who had an event of another run of the
    /// server everything is new.
    ///
    /// At most about `max_bytes` of data at once, but at least one event: who asks again gets the rest.
    pub(crate) fn since(&mut self, topic: &str, since: Option<Cursor>, max_bytes: usize) -> Since {
        let topic = self.topics.get_mut(topic);
        // A topic that is not there may have been forgotten, with any number up to that.
        let newest = topic.as_ref().map_or(self.forgotten, |topic| topic.newest);
        let nothing = Since { newest, epoch: self.epoch, ..Since::default() };
        let nobody = VecDeque::new();
        let events = match topic {
            Some(topic) => {
                self.uses += 1;
                topic.used = self.uses;
                &topic.events
            }
            None => &nobody,
        };
        let Some(since) = since else { return nothing };
        let since = since.within(self.epoch, newest);
        let restarted = since.is_none();
        let since = since.unwrap_or(0);
        // They are numbered without gaps, so the place follows from the number.
        let oldest = newest + 1 - events.len() as u64;
        let missed = oldest.saturating_sub(since + 1);
        let skipped = (since + 1).saturating_sub(oldest) as usize;
        let mut bytes = 0;
        let fits = |event: &&Arc<Outgoing>| {
            let is_first = bytes == 0;
            bytes += event.data().len() + 1;
            is_first || bytes <= max_bytes
        };
        let events = events.iter().skip(skipped).take_while(fits).cloned().collect();
        Since { restarted, missed, events, ..nothing }
    }
}

#[cfg(test)]
mod tests;
