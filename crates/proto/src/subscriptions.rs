//! Which topics have subscribers: a topic that has one is not forgotten.

use std::collections::HashMap;
use std::sync::Arc;

use crate::Port;

/// The subscribers of every topic, whether it has been published on or not.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions {
    /// The topic of each connection that has subscribed. Each has one at a time.
    ports: HashMap<Port, Arc<str>>,
    /// Connections, and rooms of Socket.IO, by topic. No count is zero.
    counts: HashMap<Arc<str>, usize>,
}

impl Subscriptions {
    /// Notes the subscription of a connection. Returns the topic that it had before and that nobody has now.
    pub(crate) fn subscribe(&mut self, port: Port, topic: Arc<str>) -> Option<Arc<str>> {
        self.enter(topic.clone());
        self.ports.insert(port, topic).and_then(|before| self.leave(&before))
    }

    /// Forgets the subscription of a connection, if it has one. Returns its topic if that was the last one.
    pub(crate) fn unsubscribe(&mut self, port: Port) -> Option<Arc<str>> {
        let topic = self.ports.remove(&port)?;
        self.leave(&topic)
    }

    /// Counts one subscriber more.
    pub(crate) fn enter(&mut self, topic: Arc<str>) {
        *self.counts.entry(topic).or_default() += 1;
    }

    /// Counts one subscriber less. Returns the topic if it was the last one.
    pub(crate) fn leave(&mut self, topic: &str) -> Option<Arc<str>> {
        let count = self.counts.get_mut(topic)?;
        *count -= 1;
        if *count > 0 {
            return None;
        }
        self.counts.remove_entry(topic).map(|(topic, _)| topic)
    }

    /// Whether a topic has a subscriber.
    pub(crate) fn has(&self, topic: &str) -> bool {
        self.counts.contains_key(topic)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_has_subscribers_until_the_last_one_leaves() {
        let mut subscriptions = Subscriptions::default();
        let gone = |topic: &str| Some(Arc::from(topic));
        assert_eq!(subscriptions.subscribe(Port(1), "a".into()), None);
        assert_eq!(subscriptions.subscribe(Port(2), "a".into()), None);
        subscriptions.enter("a".into());
        assert_eq!(subscriptions.unsubscribe(Port(1)), None);
        // Its end may be told twice.
        assert_eq!(subscriptions.unsubscribe(Port(1)), None);
        assert_eq!(subscriptions.leave("a"), None);
        assert!(subscriptions.has("a"));
        assert_eq!(subscriptions.subscribe(Port(2), "b".into()), gone("a"));
        assert!(!subscriptions.has("a") && subscriptions.has("b"));
        assert_eq!(subscriptions.unsubscribe(Port(2)), gone("b"));
        assert!(subscriptions.ports.is_empty() && subscriptions.counts.is_empty());
    }
}
