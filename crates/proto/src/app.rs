use std::time::{Duration, Instant};

use crate::engine::EngineSettings;
use crate::work::Work;
use crate::{Budget, CorsOrigins, Cursor, Epoch, Guests, Since};

/// What a server offers and tolerates: the settings that every session of one server shares.
#[derive(Debug, Clone)]
pub struct App {
    /// Name of the model that serves, for `/about.json`.
    pub served_by: &'static str,
    /// Whether connections are served beside each other. Where each waits for the end of the one before it, pages are told so.
    pub serves_together: bool,
    /// Connections held at once; one more is refused. `None`: what the machine allows.
    pub max_connections: Option<usize>,
    /// Connections that each address may have at once, and as many sessions of Engine.IO and codes of the sign-in. `None`: as many as there may be.
    pub max_per_address: Option<usize>,
    /// The connections that each has.
    pub guests: Guests,
    /// What may be held for all clients together, in one process.
    pub memory: Budget,
    /// Longest message accepted, over all its fragments; for datagrams the longest returned whole.
    pub max_message_bytes: usize,
    /// Bytes that may wait for a subscriber that does not read before it is closed with 1013.
    pub max_unsent_bytes: usize,
    /// How long a request head may take from the accept on; then 408.
    pub handshake_timeout: Duration,
    /// How long a connection may stay open between two requests.
    pub keep_alive: Duration,
    /// A WebSocket that was silent for so long is pinged, and closed after as long again.
    pub heartbeat: Option<Duration>,
    /// How long a server that was told to stop waits for its clients' answers to close 1001.
    pub grace: Duration,
    /// Events that each topic holds for those who come later.
    pub history_events: usize,
    /// What all topics together may hold, in bytes; the oldest events go first.
    pub history_bytes: usize,
    /// Topics that may be published on.
    pub max_topics: usize,
    /// An event stream on which nothing happens carries a comment so often.
    pub sse_heartbeat: Duration,
    /// How often the time is published on the topic `tick`, if at all.
    pub tick: Option<Duration>,
    /// How long a code of the sign-in waits to be confirmed.
    pub login_expiry: Duration,
    /// The pages that may use this server from another origin.
    pub cors: CorsOrigins,
    /// Where Socket.IO is served: a path that begins and ends with a slash.
    pub socketio_path: String,
    /// What sessions of Engine.IO and Socket.IO are granted.
    pub engine: EngineSettings,
    /// When the server was started, and what time it was then since 1970 began: what a server without a clock tells the time by.
    pub started: Option<(Instant, Duration)>,
    /// What a server without paths does with a datagram, or with bytes.
    pub plain: PlainApp,
    /// What is computed for each message that comes in, before it is answered or passed on.
    pub work: Work,
    /// Processes or threads that serve side by side, in the models that have several. `None`: as many as the model thinks right.
    pub workers: Option<usize>,
    /// Cores that worker 0, 1, … are bound to, over and over. Empty: wherever the system puts them.
    pub cpus: Vec<usize>,
    /// How long a worker process may take nothing of what is published while others wait for it; then it is replaced.
    pub worker_patience: Duration,
    /// How long an event loop goes on asking before it blocks. Zero: it blocks at once.
    pub busy_poll: Duration,
}

impl App {
    /// How long the system should go on with a peer that acknowledges nothing: longer than what any peer is granted that reads slowly, which is told so
    /// and closed in order. `None`: as long as the system likes, since without a heartbeat a WebSocket may take nothing for any time.
    pub fn peer_patience(&self) -> Option<Duration> {
        // Pinged, not heard, and one period more if it was working off a backlog.
        let websocket = self.heartbeat?.checked_mul(3)?;
        let stream = self.sse_heartbeat.checked_mul(2)?;
        let engine = self.engine.ping_interval.checked_add(self.engine.ping_timeout)?;
        let longest =
            [websocket, stream, engine, self.keep_alive, self.handshake_timeout].into_iter().max()?;
        longest.checked_add(longest / 3)
    }
}

impl Default for App {
    fn default() -> App {
        App {
            served_by: "switchboard",
            serves_together: true,
            max_connections: None,
            max_per_address: None,
            guests: Guests::default(),
            memory: Budget::new(1 << 30),
            max_message_bytes: 16 << 20,
            max_unsent_bytes: 4 << 20,
            handshake_timeout: Duration::from_secs(10),
            keep_alive: Duration::from_secs(60),
            heartbeat: Some(Duration::from_secs(30)),
            grace: Duration::from_secs(5),
            history_events: 1024,
            history_bytes: 64 << 20,
            max_topics: 10_000,
            sse_heartbeat: Duration::from_secs(15),
            tick: None,
            login_expiry: Duration::from_secs(60),
            cors: CorsOrigins::SameOrigin,
            socketio_path: "/socket.io/".into(),
            engine: EngineSettings::default(),
            started: None,
            plain: PlainApp::Echo,
            work: Work::NONE,
            workers: None,
            cpus: Vec::new(),
            worker_patience: Duration::from_secs(10),
            busy_poll: Duration::ZERO,
        }
    }
}

impl App {
    /// The time at `now` in milliseconds since 1970 began, or since nobody knows when.
    pub fn unix_time_ms(&self, now: Instant) -> u64 {
        let time = self.started.map_or(Duration::ZERO, |(at, time)| time + now.saturating_duration_since(at));
        time.as_millis() as u64
    }

    /// What tells the numbers that this server gives to events from those of a server before it; `None` if it does not know when it was started.
    pub fn epoch(&self) -> Option<Epoch> {
        self.started.and_then(|(_, time)| Epoch::starting_at(time))
    }

    /// The tag of a poll's answer. Two servers may give the same numbers to other events.
    pub(crate) fn etag(&self, found: &Since, since: Option<Cursor>) -> String {
        let newest = Cursor { id: found.newest, epoch: found.epoch };
        match since {
            Some(since) => format!("\"{newest}-{since}\""),
            None => format!("\"{newest}\""),
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
