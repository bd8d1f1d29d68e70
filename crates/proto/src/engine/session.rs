use std::time::Instant;

use bytes::Bytes;

use super::interface::Endpoint;
use super::packet::{self, Outgoing};
use super::sid::Secret;
use crate::socketio_server::Sockets;
use crate::{Guest, Port};

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
    /// Its place among those of its address, if these are limited.
    pub(super) _guest: Option<Box<Guest>>,
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
    pub(super) poll: Option<Poll>,
    /// A POST whose body is on its way.
    pub(super) post: Option<Port>,
    /// What waits for a GET.
    pub(super) unsent: Vec<Outgoing>,
    /// What `unsent` takes, by [`Outgoing::cost_bytes`].
    pub(super) unsent_bytes: usize,
    /// The same by [`Outgoing::held_bytes`].
    pub(super) held_bytes: usize,
    pub(super) upgrade: Option<Upgrade>,
    /// The client has closed, and nothing is left of the session but this.
    pub(super) closing: Option<Closing>,
}

#[derive(Debug)]
pub(super) struct Poll {
    pub(super) port: Port,
    pub(super) since: Instant,
}

/// A POST with the packet that closes, which is not answered yet: a GET that was sent before it has still to be told.
#[derive(Debug)]
pub(super) struct Closing {
    pub(super) port: Port,
    pub(super) until: Instant,
}

/// A WebSocket that may become the transport (protocol section "Upgrade").
#[derive(Debug)]
pub(super) struct Upgrade {
    pub(super) port: Port,
    /// The probe was answered: the client waits for its GET to come back, and no GET is held for long from here on.
    pub(super) probed: bool,
    /// When the GET that waits is answered by a noop.
    pub(super) release_at: Option<Instant>,
    /// When the client must have finished.
    pub(super) finish_by: Instant,
}

impl Session {
    /// When something has to be done about it.
    pub(super) fn deadline(&self) -> Instant {
        let rare = match &self.transport {
            Transport::Polling(polling) => polling.deadline(),
            Transport::WebSocket(_) => None,
        };
        [rare, self.sockets.connect_by()].into_iter().flatten().fold(self.heartbeat, Instant::min)
    }

    pub(super) fn is_closing(&self) -> bool {
        matches!(&self.transport, Transport::Polling(polling) if polling.closing.is_some())
    }

    pub(super) fn polling(&mut self) -> Option<&mut Polling> {
        match &mut self.transport {
            Transport::Polling(polling) => Some(polling),
            Transport::WebSocket(_) => None,
        }
    }
}

impl Polling {
    /// The body for a GET, if there is something to say.
    pub(super) fn take_payload(&mut self) -> Option<Bytes> {
        if self.unsent.is_empty() {
            return None;
        }
        (self.unsent_bytes, self.held_bytes) = (0, 0);
        Some(packet::encode_payload(&std::mem::take(&mut self.unsent)))
    }

    fn deadline(&self) -> Option<Instant> {
        let upgrade = self.upgrade.as_ref();
        let finish_by = upgrade.map(|upgrade| upgrade.finish_by);
        let release_at = upgrade.and_then(|upgrade| upgrade.release_at);
        let closing = self.closing.as_ref().map(|closing| closing.until);
        [finish_by, release_at, closing].into_iter().flatten().min()
    }
}
