//! What was published, on its way to the subscribers of one loop.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use switchboard_proto::{Effect, Format, Outgoing, Session};

use super::Roster;
use crate::readiness::Key;

/// Messages of one turn are joined into a piece of at most so many bytes.
const MAX_PIECE_BYTES: usize = 64 << 10;

/// What was written to subscribers without their sessions: it must stay until it is known what became of it.
pub(crate) struct Piece {
    topic: Arc<str>,
    format: Format,
    bytes: Bytes,
}

impl Piece {
    /// Whether it is what this session was sent.
    pub(crate) fn is_for(&self, session: &Session) -> bool {
        session.subscription().is_some_and(|(topic, format)| format == self.format && *topic == self.topic)
    }

    pub(crate) fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

impl<S> Roster<S> {
    /// Gives what was published in this turn to every subscriber here: as one piece to `write`, where nothing waits before it, and else to
    /// the session, which is then looked after. `write` says whether it has taken all. Returns the pieces.
    ///
    /// To a thousand receivers a message is a thousand system calls: what else is done for each of them has to be little. What they ask because of it is
    /// left to [`handle_asked`](Roster::handle_asked), when it is known of all what became of it.
    pub(crate) fn spread(
        &mut self,
        now: Instant,
        mut write: impl FnMut(Key, &mut S, &mut Session, &Bytes) -> bool,
    ) -> Vec<Piece> {
        let mut pieces = Vec::new();
        let was_asking = std::mem::replace(&mut self.is_asking, true);
        for messages in by_topic(std::mem::take(&mut self.published)) {
            for format in Format::STREAMED {
                let topic = messages[0].topic();
                let Some(keys) = self.subscribers.of(topic, format) else { continue };
                let Some(bytes) = in_one_piece(&messages, format, self.app.max_unsent_bytes) else {
                    self.queue_all(&messages, format, now);
                    continue;
                };
                let (mut late, mut unwritten) = (Vec::new(), Vec::new());
                for key in keys {
                    let member = &mut self.members[*key];
                    if member.is_away() || !member.session.is_up_to_date() {
                        late.push(*key);
                    } else if !write(*key, &mut member.socket, &mut member.session, &bytes) {
                        unwritten.push(*key);
                    }
                }
                pieces.push(Piece { topic: topic.clone(), format, bytes });
                late.into_iter().for_each(|key| self.queue(key, &messages, now));
                unwritten.into_iter().for_each(|key| self.touch(key));
            }
            self.answer_polls(&messages, now);
        }
        self.is_asking = was_asking;
        pieces
    }

    /// Queues what was published in this turn for every subscriber here. It is written when they are settled; what they ask is left for later as well.
    pub(super) fn deliver(&mut self, now: Instant) {
        let was_asking = std::mem::replace(&mut self.is_asking, true);
        for messages in by_topic(std::mem::take(&mut self.published)) {
            for format in Format::STREAMED {
                self.queue_all(&messages, format, now);
            }
            self.answer_polls(&messages, now);
        }
        self.is_asking = was_asking;
    }

    fn queue_all(&mut self, messages: &[Arc<Outgoing>], format: Format, now: Instant) {
        let keys: Vec<Key> =
            self.subscribers.of(messages[0].topic(), format).into_iter().flatten().copied().collect();
        keys.into_iter().for_each(|key| self.queue(key, messages, now));
    }

    /// A long poll is answered by the first message, and has no part in what follows until it asks again.
    fn answer_polls(&mut self, messages: &[Arc<Outgoing>], now: Instant) {
        for key in self.subscribers.take_polls(messages[0].topic()) {
            self.queue(key, messages, now);
            // One that has not been told yet whether it has to wait still does.
            if let Some(member) = self.members.get(key)
                && let Some((topic, Format::Poll)) = member.session.subscription()
            {
                self.subscribers.insert(topic, Format::Poll, key);
            }
        }
    }

    /// Gives messages to one session, or keeps them for it while it is away.
    pub(super) fn queue(&mut self, key: Key, messages: &[Arc<Outgoing>], now: Instant) {
        let Some(member) = self.members.get_mut(key) else { return };
        if member.is_away() {
            let effects = messages.iter().cloned().map(Effect::Publish);
            self.postponed.entry(key).or_default().extend(effects);
        } else {
            messages.iter().for_each(|message| member.session.deliver(message, now));
            self.touch(key);
            self.handle_events(key, now);
        }
    }
}

/// What was published, topic by topic.
fn by_topic(mut messages: Vec<Arc<Outgoing>>) -> impl Iterator<Item = Vec<Arc<Outgoing>>> {
    std::iter::from_fn(move || {
        let topic = messages.first()?.topic().clone();
        // As a rule it is one topic.
        let others = messages.extract_if(.., |message| *message.topic() != topic).collect();
        Some(std::mem::replace(&mut messages, others))
    })
}

/// What was published, in one piece: a message, or several that are short. Several long ones, which a receiver may take only a part of, are for its
/// session to queue one by one.
fn in_one_piece(messages: &[Arc<Outgoing>], format: Format, max_unsent_bytes: usize) -> Option<Bytes> {
    let (first, others) = messages.split_first()?;
    if others.is_empty() {
        return Some(first.encoded(format).clone());
    }
    let encoded = messages.iter().map(|message| message.encoded(format));
    let length: usize = encoded.clone().map(Bytes::len).sum();
    (length <= MAX_PIECE_BYTES.min(max_unsent_bytes)).then(|| {
        let mut piece = Vec::with_capacity(length);
        encoded.for_each(|bytes| piece.extend_from_slice(bytes));
        piece.into()
    })
}
