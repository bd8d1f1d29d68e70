use std::time::Duration;

use crate::work::Work;

/// What a server offers and tolerates: the settings that every session of one server shares.
#[derive(Debug, Clone)]
pub struct App {
    /// Name of the model that serves, for the page at `/`.
    pub served_by: &'static str,
    /// Connections held at once; one more is refused. `None`: what the machine allows.
    pub max_connections: Option<usize>,
    /// Longest message accepted, over all its fragments; for datagrams the longest returned whole.
    pub max_message_bytes: usize,
    /// Bytes that may wait for a subscriber that does not read before it is closed with 1013.
    pub max_unsent_bytes: usize,
    /// How long a request head may take from the accept on; then 408.
    pub handshake_timeout: Duration,
    /// A WebSocket that was silent for so long is pinged, and closed after as long again.
    pub heartbeat: Option<Duration>,
    /// How long a server that was told to stop waits for its clients' answers to close 1001.
    pub grace: Duration,
    /// What a datagram server does with a datagram.
    pub udp: UdpApp,
    /// What is computed for each message that comes in, before it is answered or passed on.
    pub work: Work,
}

impl Default for App {
    fn default() -> App {
        App {
            served_by: "switchboard",
            max_connections: None,
            max_message_bytes: 16 << 20,
            max_unsent_bytes: 4 << 20,
            handshake_timeout: Duration::from_secs(10),
            heartbeat: None,
            grace: Duration::from_secs(5),
            udp: UdpApp::Echo,
            work: Work::NONE,
        }
    }
}

/// What a datagram server does with a datagram: there is no request that could choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UdpApp {
    /// Return it to its sender.
    Echo,
    /// Send it to everyone heard from lately, its sender included.
    Broadcast,
}
