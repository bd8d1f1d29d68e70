//! What a session holds, and what of it waits until its client has taken something.

use std::time::Instant;

use super::{CloseReason, HIGH_WATER_BYTES, Replay, Session, Stage};
use crate::http::{self, Answer, ReplyTo};
use crate::topics::Since;
use crate::{Charge, OverBudget, Request};

impl Session {
    /// Charges what it holds; gives up what it holds if that is more than there may be.
    pub(super) fn account(&mut self, now: Instant) {
        let budget = &self.app.memory;
        let input = match &self.stage {
            Stage::Http { reader, behind, .. } => {
                reader.held_bytes() + behind.as_ref().map_or(0, |behind| behind.input.capacity())
            }
            Stage::Waiting(waiting) => waiting.input.capacity(),
            Stage::WebSocket(socket) => socket.held_bytes(),
            Stage::Stream { .. } | Stage::Drain { .. } | Stage::Flush { .. } | Stage::Done => 0,
        };
        let input = self.input.set(budget, input);
        let output = self.output.account(budget);
        if input.is_err() || output.is_err() {
            self.give_up(now);
        }
    }

    /// Ends because the server holds too much.
    pub(super) fn give_up(&mut self, now: Instant) {
        self.is_refused = true;
        match &self.stage {
            // What waits to be written was let in before.
            Stage::Http { reader, behind, .. } if reader.is_idle() && behind.is_none() => {
                self.is_refused = false
            }
            Stage::Http { .. } => self.last_answer(&no_memory(), &ReplyTo::default(), now),
            Stage::Waiting(_) => self.answer_instead(no_memory(), now),
            Stage::WebSocket(_) => self.close(CloseReason::NoMemory, now),
            Stage::Stream { .. } => self.end(),
            Stage::Drain { .. } | Stage::Flush { .. } | Stage::Done => {}
        }
        // Nothing of what had come is there any more.
        self.input = Charge::default();
    }

    /// Whether its output has room again for something that has waited for that, and since when it has waited.
    pub(super) fn has_room_since(&self) -> Option<Instant> {
        let waiting = match &self.stage {
            Stage::Http { behind: Some(behind), .. } => behind.since,
            Stage::WebSocket(_) | Stage::Stream { .. } => {
                self.subscription.as_ref()?.replay.as_ref().filter(|replay| !replay.is_asked)?.since
            }
            _ => return None,
        };
        (self.output.len() <= HIGH_WATER_BYTES).then_some(waiting)
    }

    pub(super) fn go_on_with_room(&mut self, now: Instant) {
        if let Stage::Http { behind, .. } = &mut self.stage
            && let Some(behind) = behind.take()
        {
            self.go_on(behind.input, now);
            if behind.has_ended {
                self.receive_eof(now);
            }
        } else if let Some(subscription) = &mut self.subscription
            && let Some(replay) = &mut subscription.replay
        {
            replay.is_asked = true;
            let (topic, since) = (subscription.topic.clone(), Some(subscription.last.into()));
            self.ask(Request::Since { topic, since, is_portion: true });
        }
    }

    /// Queues what was published before it came, or a portion of that.
    pub(super) fn replay(&mut self, found: &Since, now: Instant) {
        let Some(subscription) = &mut self.subscription else { return };
        found.events.iter().for_each(|event| self.output.share_charged(event.encoded(subscription.format)));
        subscription.replayed = self.output.written() + self.output.len() as u64;
        subscription.last = found.events.last().map_or(found.newest, |last| last.id());
        let is_more = subscription.last < found.newest;
        subscription.replay = is_more.then(|| Box::new(Replay { since: now, is_asked: false }));
    }

    /// Takes the next portion of what was published before it came.
    pub(super) fn go_on_replaying(&mut self, found: &Since, now: Instant) {
        if self.subscription.as_ref().is_none_or(|subscription| subscription.replay.is_none()) {
            return;
        }
        match found.missed {
            0 => self.replay(found, now),
            // It has taken so long that what it was to get next is no longer held.
            _ => self.close(CloseReason::TooSlow, now),
        }
    }
}

pub(super) fn no_memory() -> Answer {
    http::refused("memory", &OverBudget.to_string())
}
