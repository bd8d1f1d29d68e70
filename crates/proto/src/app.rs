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
    /// What a server without paths does with a datagram, or with bytes.
    pub plain: PlainApp,
    /// What is computed for each message that comes in, before it is answered or passed on.
    pub work: Work,
    /// Processes or threads that serve side by side, in the models that have several. `None`: as many as the model thinks right.
    pub workers: Option<usize>,
    /// Cores that worker 0, 1, … are bound to, over and over. Empty: wherever the system puts them.
    pub cpus: Vec<usize>,
    /// How long an event loop goes on asking before it blocks. Zero: it blocks at once.
    pub busy_poll: Duration,
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
            plain: PlainApp::Echo,
            work: Work::NONE,
            workers: None,
            cpus: Vec::new(),
            busy_poll: Duration::ZERO,
        }
    }
}

/// What a server does with a datagram, or with bytes, where there is no request that could choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlainApp {
    /// Return it to its sender.
    Echo,
    /// Send it to everyone heard from lately, its sender included.
    Broadcast,
}
