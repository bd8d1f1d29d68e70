//! What was published, by topic: the number of each event, and as many of the latest as are held for those who come later.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use thiserror::Error;

use crate::{App, Cursor, Epoch, Kind, Outgoing};

/// Places of events that are gone which are not worth looking for.
const SPARE_PLACES: usize = 64;

/// Every topic of one server. Its memory is bounded: by the number of topics, by the events that each holds, and by the bytes that all hold together.
#[derive(Debug)]
pub(crate) struct Topics {
    topics: HashMap<Arc<str>, Topic>,
    /// The topics of the events that are held, the oldest event first, so that it is known which goes when there are too many bytes.
    /// An event that its own topic has let go leaves its place here behind until it comes to the front.
    order: VecDeque<(Arc<str>, u64)>,
    held_events: usize,
    held_bytes: usize,
    max_topics: usize,
    /// Topics that are there for somebody else's reason, and do not count.
    reserved: usize,
    max_events: usize,
    max_bytes: usize,
    epoch: Option<Epoch>,
}

#[derive(Debug, Default)]
struct Topic {
    newest: u64,
    events: VecDeque<Arc<Outgoing>>,
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
    /// One more topic would be too many.
    #[error("there are {0} topics already: use one of them, or raise --max-topics")]
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
            held_events: 0,
            held_bytes: 0,
            max_topics: app.max_topics,
            reserved: 0,
            max_events: app.history_events,
            max_bytes: app.history_bytes,
            epoch: app.epoch(),
        }
    }

    /// Makes a topic that does not count as one of those that there may be. Whoever does so has a limit of its own, and [forgets](Topics::forget) it.
    pub(crate) fn reserve(&mut self, topic: &str) {
        if self.topics.insert(Arc::from(topic), Topic::default()).is_none() {
            self.reserved += 1;
        }
    }

    /// Lets a topic go that was reserved, with all that it holds. What is left in `order` goes when it comes to the front.
    pub(crate) fn forget(&mut self, topic: &str) {
        if let Some(topic) = self.topics.remove(topic) {
            self.reserved -= 1;
            self.held_events -= topic.events.len();
            self.held_bytes -= topic.events.iter().map(|event| event.held_bytes()).sum::<usize>();
            self.let_go();
        }
    }

    /// Gives an event its number and holds it.
    pub(crate) fn publish(
        &mut self,
        topic: &str,
        event: Option<&str>,
        kind: Kind,
        data: Bytes,
    ) -> Result<Arc<Outgoing>, PublishError> {
        let name = match self.topics.get_key_value(topic) {
            Some((name, _)) => name.clone(),
            None if self.topics.len() - self.reserved >= self.max_topics => {
                return Err(PublishError::TooManyTopics(self.max_topics));
            }
            None => Arc::from(topic),
        };
        let entry = self.topics.entry(name.clone()).or_default();
        entry.newest += 1;
        let message = Outgoing::new(name.clone(), entry.newest, event, kind, data);
        let message = Arc::new(message.with_epoch(self.epoch));
        if self.max_events > 0 && message.held_bytes() <= self.max_bytes {
            self.held_events += 1;
            self.held_bytes += message.held_bytes();
            entry.events.push_back(message.clone());
            if entry.events.len() > self.max_events
                && let Some(oldest) = entry.events.pop_front()
            {
                self.held_events -= 1;
                self.held_bytes -= oldest.held_bytes();
            }
            self.order.push_back((name, message.id()));
            self.let_go();
        } else {
            // Those before it cannot be held without it: they are numbered without gaps.
            self.held_events -= entry.events.len();
            self.held_bytes -= entry.events.drain(..).map(|event| event.held_bytes()).sum::<usize>();
        }
        Ok(message)
    }

    /// Lets the oldest events go, of whichever topic, until what is held is little enough.
    fn let_go(&mut self) {
        while let Some((name, id)) = self.order.front() {
            let events = self.topics.get_mut(name).map(|topic| &mut topic.events);
            // Not any more, if the topic has let it go before, or was itself let go.
            let held = events.filter(|events| events.front().is_some_and(|event| event.id() == *id));
            if held.is_some() && self.held_bytes <= self.max_bytes {
                break;
            }
            if let Some(event) = held.and_then(VecDeque::pop_front) {
                self.held_events -= 1;
                self.held_bytes -= event.held_bytes();
            }
            self.order.pop_front();
        }
        // A topic that many publish on must not fill this behind the event of one that nobody does.
        if self.order.len() > 2 * self.held_events + SPARE_PLACES {
            let topics = &self.topics;
            let first = |name: &Arc<str>| topics.get(name)?.events.front().map(|first| first.id());
            self.order.retain(|(name, id)| first(name).is_some_and(|first| first <= *id));
        }
    }

    /// What somebody has not had who had `since` last; who comes for the first time (`None`) has missed nothing. To who had an event of another run of the
    /// server everything is new.
    ///
    /// At most about `max_bytes` of data at once, but at least one event: who asks again gets the rest.
    pub(crate) fn since(&self, topic: &str, since: Option<Cursor>, max_bytes: usize) -> Since {
        let topic = self.topics.get(topic);
        let newest = topic.map_or(0, |topic| topic.newest);
        let nothing = Since { newest, epoch: self.epoch, ..Since::default() };
        let Some(since) = since else { return nothing };
        let since = since.within(self.epoch, newest);
        let restarted = since.is_none();
        let since = since.unwrap_or(0);
        let Some(topic) = topic else { return Since { restarted, ..nothing } };
        // They are numbered without gaps, so the place follows from the number.
        let oldest = newest + 1 - topic.events.len() as u64;
        let missed = oldest.saturating_sub(since + 1);
        let skipped = (since + 1).saturating_sub(oldest) as usize;
        let mut bytes = 0;
        let fits = |event: &&Arc<Outgoing>| {
            let is_first = bytes == 0;
            bytes += event.data().len() + 1;
            is_first || bytes <= max_bytes
        };
        let events = topic.events.iter().skip(skipped).take_while(fits).cloned().collect();
        Since { restarted, missed, events, ..nothing }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn topics(max_topics: usize, history_events: usize, history_bytes: usize) -> Topics {
        Topics::new(&App { max_topics, history_events, history_bytes, ..App::default() })
    }

    fn publish(topics: &mut Topics, topic: &str, data: &'static str) -> u64 {
        topics.publish(topic, None, Kind::Text, Bytes::from_static(data.as_bytes())).unwrap().id()
    }

    fn ids(since: &Since) -> Vec<u64> {
        since.events.iter().map(|event| event.id()).collect()
    }

    #[test]
    fn ids_rise_by_one_in_each_topic() {
        let mut topics = topics(10, 10, 1 << 20);
        assert_eq!(publish(&mut topics, "a", "1"), 1);
        assert_eq!(publish(&mut topics, "b", "1"), 1);
        assert_eq!(publish(&mut topics, "a", "2"), 2);
        assert_eq!(ids(&topics.since("a", Some(0.into()), usize::MAX)), [1, 2]);
        assert_eq!(ids(&topics.since("a", Some(1.into()), usize::MAX)), [2]);
        assert_eq!(ids(&topics.since("a", Some(2.into()), usize::MAX)), [0; 0]);
        assert_eq!(
            (topics.since("a", None, 0).newest, topics.since("nothing", Some(3.into()), 0).newest),
            (2, 0)
        );
    }

    #[test]
    fn what_is_no_longer_held_is_counted_as_missed() {
        let mut topics = topics(10, 3, 1 << 20);
        (0..5).for_each(|_| assert_ne!(publish(&mut topics, "a", "x"), 0));
        let since = topics.since("a", Some(0.into()), usize::MAX);
        assert_eq!((ids(&since), since.missed, since.newest), (vec![3, 4, 5], 2, 5));
        assert_eq!(topics.since("a", Some(2.into()), usize::MAX).missed, 0);
        assert!(!topics.since("a", Some(5.into()), usize::MAX).restarted);
    }

    #[test]
    fn to_who_had_an_event_of_another_run_all_that_is_held_is_new() {
        let (this, other): (Option<Epoch>, Option<Epoch>) = ("2".parse().ok(), "1".parse().ok());
        let started = Some((Instant::now(), Duration::from_millis(2)));
        let mut topics = Topics::new(&App { history_events: 3, started, ..App::default() });
        (0..5).for_each(|_| assert_ne!(publish(&mut topics, "a", "x"), 0));
        let since = |topic, id, epoch| topics.since(topic, Some(Cursor { id, epoch }), usize::MAX);
        // The smaller number, the same one, the larger one; and that of a server without a clock, which only the larger one gives away.
        for cursor in [(2, other), (5, other), (77, other), (0, other), (77, None), (77, this)] {
            let since = since("a", cursor.0, cursor.1);
            assert_eq!((ids(&since), since.missed, since.restarted), (vec![3, 4, 5], 2, true), "{cursor:?}");
            assert_eq!((since.newest, since.epoch), (5, this));
        }
        for cursor in [(3, this), (3, None)] {
            let since = since("a", cursor.0, cursor.1);
            assert_eq!((ids(&since), since.missed, since.restarted), (vec![4, 5], 0, false), "{cursor:?}");
        }
        // Nothing has been said there since the server was started again: that as well has to be told.
        let nothing = since("b", 3, other);
        assert_eq!((nothing.newest, nothing.epoch, nothing.restarted), (0, this, true));
        assert!(!since("b", 0, this).restarted);
        assert_eq!(topics.since("a", None, 0).epoch, this);
    }

    #[test]
    fn all_topics_together_hold_no_more_bytes_than_they_may() {
        let one =
            Outgoing::new("a".into(), 1, None, Kind::Text, Bytes::from_static(b"0123456789")).held_bytes();
        let mut topics = topics(10, 100, 4 * one);
        (0..3).for_each(|_| assert_ne!(publish(&mut topics, "a", "0123456789"), 0));
        (0..3).for_each(|_| assert_ne!(publish(&mut topics, "b", "0123456789"), 0));
        assert_eq!(topics.held_bytes, 4 * one);
        assert_eq!(ids(&topics.since("a", Some(0.into()), usize::MAX)), [3]);
        assert_eq!(ids(&topics.since("b", Some(0.into()), usize::MAX)), [1, 2, 3]);
        // One that does not fit at all is numbered and passed on, and whoever comes later has missed it.
        let big = Bytes::from(vec![b'x'; 5 * one]);
        assert_eq!(topics.publish("b", None, Kind::Text, big).unwrap().id(), 4);
        let since = topics.since("b", Some(1.into()), usize::MAX);
        assert_eq!((ids(&since), since.missed), (vec![], 3));
        (0..100).for_each(|_| assert_ne!(publish(&mut topics, "c", "0123456789"), 0));
        assert_eq!((topics.held_bytes, topics.held_events), (4 * one, 4));
    }

    #[test]
    fn a_busy_topic_costs_no_memory_behind_a_quiet_one() {
        let mut topics = topics(10, 2, 1 << 20);
        publish(&mut topics, "quiet", "x");
        (0..1000).for_each(|_| assert_ne!(publish(&mut topics, "busy", "x"), 0));
        assert!(topics.order.len() <= 2 * topics.held_events + SPARE_PLACES + 1, "{}", topics.order.len());
        assert_eq!(ids(&topics.since("quiet", Some(0.into()), 0)), [1]);
    }

    #[test]
    fn an_answer_is_no_longer_than_it_may_be() {
        let mut topics = topics(10, 100, 1 << 20);
        (0..5).for_each(|_| assert_ne!(publish(&mut topics, "a", "0123456789"), 0));
        assert_eq!(ids(&topics.since("a", Some(0.into()), 25)), [1, 2]);
        assert_eq!(ids(&topics.since("a", Some(2.into()), 0)), [3]);
    }

    #[test]
    fn a_topic_that_is_forgotten_leaves_nothing_behind() {
        let mut topics = topics(1, 10, 1 << 20);
        publish(&mut topics, "a", "x");
        for round in 0..1000 {
            // It does not count as one of those that there may be.
            let name = format!("reserved {round}");
            topics.reserve(&name);
            assert_eq!(topics.publish(&name, None, Kind::Text, Bytes::from_static(b"y")).unwrap().id(), 1);
            assert_eq!(ids(&topics.since(&name, Some(0.into()), usize::MAX)), [1]);
            topics.forget(&name);
            assert_eq!(topics.since(&name, None, 0).newest, 0);
        }
        topics.forget("never reserved");
        assert_eq!((topics.topics.len(), topics.held_events, topics.reserved), (1, 1, 0));
        assert!(topics.order.len() <= 2 + SPARE_PLACES + 1, "{}", topics.order.len());
        assert_eq!(ids(&topics.since("a", Some(0.into()), usize::MAX)), [1]);
        let refused = topics.publish("b", None, Kind::Text, Bytes::new());
        assert_eq!(refused.unwrap_err(), PublishError::TooManyTopics(1));
        // What is held still goes by its age when there is too much.
        topics.max_bytes = topics.held_bytes;
        publish(&mut topics, "a", "z");
        assert_eq!(ids(&topics.since("a", Some(0.into()), usize::MAX)), [2]);
    }

    #[test]
    fn one_topic_more_than_there_may_be_is_refused() {
        let mut topics = topics(2, 10, 1 << 20);
        publish(&mut topics, "a", "x");
        publish(&mut topics, "b", "x");
        let refused = topics.publish("c", None, Kind::Text, Bytes::new());
        assert_eq!(refused.unwrap_err(), PublishError::TooManyTopics(2));
        assert_eq!(publish(&mut topics, "a", "y"), 2);
    }
}
