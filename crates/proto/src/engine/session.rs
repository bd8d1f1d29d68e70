use std::time::Instant;

use super::interface::Endpoint;
use super::packet::{self, Outgoing};
use super::sid::Secret;
use crate::Port;
use crate::socketio_server::Sockets;

/// One session. What only some have is in a box, since there may be a hundred thousand that are idle.
#[derive(Debug)]
pub(crate) struct Session {
    pub(super) secret: Secret,
    pub(super) endpoint: Endpoint,
    /// A ping was sent that is not answered; `heartbeat` ends the patience for it. Else it is when to ping.
    pub(super) pinged: bool,
    /// Something came since the ping, or since the patience was last renewed: a pong may stand behind much else.
    pub(super) heard: bool,
    pub(super) heartbeat: Instant,
    pub(super) transport: Transport,
    /// What Socket.IO has to know of it.
    pub(crate) sockets: Sockets,
}

#[derive(Debug)]
pub(super) enum Transport {
    Polling(Box<Polling>),
    WebSocket(Port),
}

#[derive(Debug, Default)]
pub(super) struct Polling {
    /// A GET that waits for something to be sent.
    pub(super) poll: Option<Port>,
    /// A POST whose body is on its way.
    pub(super) post: Option<Port>,
    /// What waits for a GET.
    pub(super) unsent: Vec<Outgoing>,
    /// What `unsent` takes, by [`Outgoing::cost_bytes`].
    pub(super) unsent_bytes: usize,
    pub(super) upgrade: Option<Upgrade>,
}

/// A WebSocket that may become the transport (protocol section "Upgrade").
#[derive(Debug)]
pub(super) struct Upgrade {
    pub(super) port: Port,
    /// The probe was answered: the client waits for its GET to come back, and no GET is held from here on.
    pub(super) probed: bool,
    /// When the client must have finished.
    pub(super) finish_by: Instant,
}

impl Session {
    /// When something has to be done about it.
    pub(super) fn deadline(&self) -> Instant {
        let upgrade = match &self.transport {
            Transport::Polling(polling) => polling.upgrade.as_ref().map(|upgrade| upgrade.finish_by),
            Transport::WebSocket(_) => None,
        };
        [upgrade, self.sockets.connect_by()].into_iter().flatten().fold(self.heartbeat, Instant::min)
    }

    pub(super) fn polling(&mut self) -> Option<&mut Polling> {
        match &mut self.transport {
            Transport::Polling(polling) => Some(polling),
            Transport::WebSocket(_) => None,
        }
    }
}

impl Polling {
    /// The body for a GET that need not wait any longer.
    pub(super) fn take_payload(&mut self) -> Option<bytes::Bytes> {
        if self.unsent.is_empty() {
            let is_probed = self.upgrade.as_ref().is_some_and(|upgrade| upgrade.probed);
            return is_probed.then_some(packet::NOOP);
        }
        self.unsent_bytes = 0;
        Some(packet::encode_payload(&std::mem::take(&mut self.unsent)))
    }
}
