//! The process that serves one model for one case.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use nix::sys::prctl::set_pdeathsig;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;
use nix::unistd::{Uid, geteuid, setresuid};
use switchboard_models::{
    App, Budget, CorsOrigins, EngineSettings, Guests, Listener, Mechanism, Model, PlainApp, Shutdown, Work,
    Workers,
};

/// The environment variable that makes this program a server, and says how.
pub(crate) const VARIABLE: &str = "SWITCHBOARD_CONFORMANCE_SERVE";

/// Whose processes are counted where a case limits them. Root is not bound by RLIMIT_NPROC, so a server that
/// root starts takes on a user that most likely nothing else on the machine belongs to.
fn nobody_else() -> Uid {
    Uid::from_raw(20_000 + std::process::id() % 40_000)
}

/// How the server of a case is set up.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) app: App,
    pub(crate) listen: SocketAddr,
    /// RLIMIT_NOFILE, soft and hard.
    pub(crate) descriptors: Option<u64>,
    /// RLIMIT_NPROC.
    pub(crate) processes: Option<u64>,
    /// Simulated work per message.
    pub(crate) work: Duration,
    /// Memory that it may take beyond what it has when it begins (RLIMIT_AS).
    pub(crate) memory: Option<u64>,
}

/// Loops of a server that has several: more than there are cores on a small machine, and more than two, so that what
/// is published has others to go to.
pub(crate) const WORKERS: usize = 3;

impl Settings {
    /// As by default, but for the grace: most cases stop their server with clients that do not say goodbye; and for the heartbeat: most clients answer no
    /// ping, and a busy machine may take longer than its period.
    pub(crate) fn for_model(model: &Model) -> Settings {
        let listen = "127.0.0.1:0".parse().expect("an address");
        let workers = (model.workers == Workers::OnePerCore).then_some(WORKERS);
        let app = App { grace: Duration::from_secs(1), heartbeat: None, workers, ..App::default() };
        Settings { app, listen, descriptors: None, processes: None, work: Duration::ZERO, memory: None }
    }

    /// What [`serve`] reads: words in the order of `decode`.
    pub(crate) fn encode(&self, model: &Model) -> String {
        let app = &self.app;
        let number = |value: Option<u64>| value.map_or("none".to_owned(), |value| value.to_string());
        let milliseconds = |time: Duration| time.as_millis().to_string();
        [
            model.name.to_owned(),
            self.listen.to_string(),
            number(app.max_connections.map(|n| n as u64)),
            app.max_message_bytes.to_string(),
            app.max_unsent_bytes.to_string(),
            milliseconds(app.handshake_timeout),
            app.heartbeat.map_or("none".to_owned(), milliseconds),
            milliseconds(app.grace),
            if app.plain == PlainApp::Echo { "echo" } else { "broadcast" }.to_owned(),
            number(self.descriptors),
            number(self.processes),
            milliseconds(self.work),
            number(app.workers.map(|n| n as u64)),
            milliseconds(app.busy_poll),
            milliseconds(app.keep_alive),
            app.history_events.to_string(),
            app.history_bytes.to_string(),
            app.max_topics.to_string(),
            milliseconds(app.sse_heartbeat),
            app.tick.map_or("none".to_owned(), milliseconds),
            match &app.cors {
                CorsOrigins::SameOrigin => "none".to_owned(),
                CorsOrigins::Any => "*".to_owned(),
                CorsOrigins::List(origins) => origins.join(","),
            },
            milliseconds(app.engine.ping_interval),
            milliseconds(app.engine.ping_timeout),
            milliseconds(app.engine.connect_timeout),
            app.engine.max_payload_bytes.to_string(),
            number(app.engine.max_sessions.map(|n| n as u64)),
            app.memory.max_bytes().to_string(),
            number(app.max_per_address.map(|n| n as u64)),
            milliseconds(app.login_expiry),
            milliseconds(app.worker_patience),
            number(self.memory),
        ]
        .join(" ")
    }

    fn decode(text: &str) -> (&'static Model, Settings) {
        let mut words = text.split(' ');
        let mut word = || words.next().expect("as many words as `encode` writes");
        let number = |word: &str| word.parse::<u64>().ok();
        let size = |word: &str| word.parse::<usize>().expect("a size");
        let milliseconds = |word: &str| number(word).map(Duration::from_millis);
        let model = switchboard_models::find(word()).expect("a model");
        let listen = word().parse().expect("an address");
        let mut app = App {
            served_by: model.name,
            serves_together: model.serves.contains(&Mechanism::Together),
            max_connections: number(word()).map(|n| n as usize),
            max_message_bytes: size(word()),
            max_unsent_bytes: size(word()),
            handshake_timeout: milliseconds(word()).expect("a time"),
            heartbeat: milliseconds(word()),
            grace: milliseconds(word()).expect("a time"),
            plain: if word() == "echo" { PlainApp::Echo } else { PlainApp::Broadcast },
            ..App::default()
        };
        let (descriptors, processes) = (number(word()), number(word()));
        let work = milliseconds(word()).expect("a time");
        app.workers = number(word()).map(|n| n as usize);
        app.busy_poll = milliseconds(word()).expect("a time");
        app.keep_alive = milliseconds(word()).expect("a time");
        app.history_events = size(word());
        app.history_bytes = size(word());
        app.max_topics = size(word());
        app.sse_heartbeat = milliseconds(word()).expect("a time");
        app.tick = milliseconds(word());
        app.cors = match word() {
            "none" => CorsOrigins::SameOrigin,
            origins => origins.parse().expect("origins"),
        };
        app.engine = EngineSettings {
            ping_interval: milliseconds(word()).expect("a time"),
            ping_timeout: milliseconds(word()).expect("a time"),
            connect_timeout: milliseconds(word()).expect("a time"),
            max_payload_bytes: size(word()),
            max_sessions: number(word()).map(|n| n as usize),
            max_unsent_bytes: app.max_unsent_bytes,
            ..EngineSettings::default()
        };
        app.memory = Budget::new(size(word()));
        app.max_per_address = number(word()).map(|n| n as usize);
        app.guests = Guests::new(app.max_per_address);
        app.login_expiry = milliseconds(word()).expect("a time");
        app.worker_patience = milliseconds(word()).expect("a time");
        let memory = number(word());
        (model, Settings { app, listen, descriptors, processes, work, memory })
    }
}

/// What this process has by now of what RLIMIT_AS limits.
fn address_space_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux has /proc");
    let line = status.lines().find_map(|line| line.strip_prefix("VmSize:")).expect("a process has a size");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number of KiB") << 10
}

/// Serves as `switchboard serve` does, until a signal ends it.
pub(crate) fn serve(settings: &str) {
    let (model, mut settings) = Settings::decode(settings);
    let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("it is after 1970");
    settings.app.started = Some((Instant::now(), time));
    settings.app.work = Work::calibrated(settings.work, Instant::now);
    match settings.descriptors {
        Some(limit) => setrlimit(Resource::RLIMIT_NOFILE, limit, limit).expect("a limit may be lowered"),
        None => drop(switchboard_models::raise_descriptor_limit().expect("soft may be raised to hard")),
    }
    if let Some(limit) = settings.processes {
        setrlimit(Resource::RLIMIT_NPROC, limit, limit).expect("a limit may be lowered");
        if geteuid().is_root() {
            let user = nobody_else();
            setresuid(user, user, user).expect("root may become anybody");
        }
    }
    // If the suite is killed, nothing of it stays behind.
    set_pdeathsig(Signal::SIGKILL).expect("a process may ask for that");
    let shutdown = Shutdown::on_signals().expect("signals can be handled");
    let listener = Listener::bind(model, settings.listen, &settings.app).expect("port 0 is always free");
    if let Some(memory) = settings.memory {
        let limit = address_space_bytes() + memory;
        setrlimit(Resource::RLIMIT_AS, limit, limit).expect("a limit may be lowered");
    }
    println!("listening on {}", listener.local_addr());
    let tally = (model.serve)(listener, Arc::new(settings.app), shutdown).expect("the server ends well");
    eprintln!(
        "tally {} {} {} {} {} {} {}",
        tally.connections,
        tally.messages,
        tally.bytes,
        tally.refused,
        tally.dropped,
        tally.truncated,
        tally.lost
    );
}
