//! Engine.IO v4 as a server speaks it.

use std::collections::VecDeque;
use std::time::Instant;

mod interface;

pub use interface::{
    ContentType, Effect, Endpoint, EngineSettings, Publish, Published, Query, Receipt, Reply, Request,
};

use crate::Port;

/// Every Engine.IO session of one server.
#[derive(Debug)]
pub struct Engines {
    effects: VecDeque<Effect>,
}

impl Engines {
    /// A server without sessions.
    pub fn new(_settings: &EngineSettings) -> Engines {
        Engines { effects: VecDeque::new() }
    }

    /// Takes what a connection asks.
    pub fn handle(&mut self, _port: Port, _request: Request, _now: Instant) {}

    /// Delivers what was published to the sockets in the room of that name. `receipt`: of the [`Effect::Publish`] that it came from.
    pub fn published(&mut self, _message: Published<'_>, _receipt: Option<Receipt>, _now: Instant) {}

    /// Tells who wanted to publish that it was refused.
    pub fn not_published(&mut self, _receipt: Receipt, _reason: &str, _now: Instant) {}

    /// The next thing to be done, in order.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// When [`handle_timeout`](Engines::handle_timeout) should be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, _now: Instant) {}

    /// Ends all sessions, because the server ends: sockets are disconnected, polls are answered.
    pub fn close_all(&mut self, _now: Instant) {}
}
