use std::collections::HashMap;
use std::sync::Arc;

use indexmap::IndexSet;
use switchboard_proto::Format;

use crate::readiness::Key;

/// The connections that get what is published, by topic, and by the format in which they take it.
#[derive(Default)]
pub(super) struct Subscribers {
    topics: HashMap<Arc<str>, [IndexSet<Key>; Format::ALL.len()]>,
}

impl Subscribers {
    pub(super) fn insert(&mut self, topic: &Arc<str>, format: Format, key: Key) {
        self.topics.entry(topic.clone()).or_default()[format as usize].insert(key);
    }

    pub(super) fn remove(&mut self, topic: &Arc<str>, format: Format, key: Key) {
        if let Some(formats) = self.topics.get_mut(topic) {
            formats[format as usize].swap_remove(&key);
            if formats.iter().all(IndexSet::is_empty) {
                self.topics.remove(topic);
            }
        }
    }

    /// Those of a topic who take it in that format, if there is anyone.
    pub(super) fn of(&self, topic: &Arc<str>, format: Format) -> Option<&IndexSet<Key>> {
        let keys = &self.topics.get(topic)?[format as usize];
        (!keys.is_empty()).then_some(keys)
    }

    /// Takes out those who wait for one event.
    pub(super) fn take_polls(&mut self, topic: &Arc<str>) -> IndexSet<Key> {
        let formats = self.topics.get_mut(topic);
        formats.map(|formats| std::mem::take(&mut formats[Format::Poll as usize])).unwrap_or_default()
    }
}
