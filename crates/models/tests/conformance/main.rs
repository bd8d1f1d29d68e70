//! One conformance suite for every model: each case talks to a served port, as any client would.
//!
//! The clients are bytes written and read by hand (`client`, `frames`) and `tungstenite`. Nothing here uses the
//! codec of `switchboard-proto`: what a client and a server share can be wrong on both sides and still agree.
//!
//! A trial is named `MODEL::case`, for every model of [`MODELS`] that serves what the case needs. It has a server
//! to itself: this program again, in a process of its own (`child`), since `fork` must fork a single-threaded
//! process and signals and limits belong to a whole process.
//!
//! What cannot be tried on this machine, such as a model whose system call the kernel lacks, is `ignored`, with the reason before its name.
//!
//! Every read has a deadline ([`client::PATIENCE`]), and no case waits for less than the event that it is about.

// The harness is not the program under test, and who runs it reads what it says.
#![allow(clippy::disallowed_macros)]

mod answers;
mod backpressure;
mod broadcast;
mod child;
mod client;
mod close;
mod cors;
mod echo;
mod engine_client;
mod engine_ends;
mod engine_refusals;
mod engineio;
mod event_stream;
mod events;
mod failures;
mod fragments;
mod frames;
mod framing;
mod http;
mod keep_alive;
mod leaving;
mod limits;
mod login;
mod long_polling;
mod mechanisms;
mod names;
mod orderly_end;
mod polling;
mod raw;
mod refusals;
mod restart;
mod resuming;
mod server;
mod shutdown;
mod slow_readers;
mod socketio;
mod socketio_refusals;
mod suspended;
mod timers;
mod too_big;
mod udp;
mod upgrade;
mod urgent;
mod utf8;
mod work;
mod workers;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};

use libtest_mimic::{Arguments, Failed, Trial};
use switchboard_models::{MODELS, Mechanism, Model};

use crate::child::Settings;
use crate::server::Server;

/// Every case, by the part of the server that it is about.
const CASES: &[&[Case]] = &[
    http::CASES,
    answers::CASES,
    keep_alive::CASES,
    upgrade::CASES,
    echo::CASES,
    framing::CASES,
    urgent::CASES,
    fragments::CASES,
    utf8::CASES,
    close::CASES,
    too_big::CASES,
    backpressure::CASES,
    broadcast::CASES,
    slow_readers::CASES,
    leaving::CASES,
    polling::CASES,
    long_polling::CASES,
    event_stream::CASES,
    mechanisms::CASES,
    names::CASES,
    resuming::CASES,
    limits::CASES,
    login::CASES,
    engineio::CASES,
    engine_ends::CASES,
    engine_refusals::CASES,
    socketio::CASES,
    socketio_refusals::CASES,
    cors::CASES,
    refusals::CASES,
    timers::CASES,
    suspended::CASES,
    shutdown::CASES,
    restart::CASES,
    orderly_end::CASES,
    udp::CASES,
    raw::CASES,
    work::CASES,
    workers::CASES,
    failures::CASES,
];

/// Something that a user would see of a server.
#[derive(Clone, Copy)]
struct Case {
    name: &'static str,
    /// What a model must serve for the case to make sense. `None`: every model.
    needs: Option<Mechanism>,
    /// Whether it has several connections at the same time.
    together: bool,
    /// Which of these models it is about.
    only: fn(&Model) -> bool,
    /// What this machine lacks for it. The trial is `ignored` then, and never `ok`.
    lacks: fn(&Model) -> Option<String>,
    settings: fn(&mut Settings),
    run: fn(&mut Server),
}

impl Case {
    /// The same case, on a server that is set up differently.
    const fn with(self, settings: fn(&mut Settings)) -> Case {
        Case { settings, ..self }
    }

    /// The same case, which has several connections at the same time.
    const fn together(self) -> Case {
        Case { together: true, ..self }
    }

    /// The same case, for some of the models only.
    const fn only(self, only: fn(&Model) -> bool) -> Case {
        Case { only, ..self }
    }

    /// The same case, which needs something that a machine may lack.
    const fn unless(self, lacks: fn(&Model) -> Option<String>) -> Case {
        Case { lacks, ..self }
    }

    fn concerns(&self, model: &Model) -> bool {
        let needs = self.needs.into_iter().chain(self.together.then_some(Mechanism::Together));
        needs.into_iter().all(|mechanism| model.serves.contains(&mechanism)) && (self.only)(model)
    }

    fn run(&self, model: &'static Model) -> Result<(), Failed> {
        let mut settings = Settings::for_model(model);
        (self.settings)(&mut settings);
        let mut server = Server::start(model, &settings);
        // The message of the panic is on stderr already; what the server said belongs to it.
        catch_unwind(AssertUnwindSafe(|| (self.run)(&mut server)))
            .map_err(|_| Failed::from(format!("the server said:\n{}", server.log())))
    }
}

/// A part of all trials, chosen by a seed: `CONFORMANCE_SAMPLE=3:7` is a third of them, the seventh such.
struct Sample {
    part: u64,
    seed: u64,
}

impl Sample {
    fn asked_for() -> Option<Sample> {
        let text = std::env::var("CONFORMANCE_SAMPLE").ok()?;
        let parsed =
            text.split_once(':').and_then(|(part, seed)| Some((part.parse().ok()?, seed.parse().ok()?)));
        let (part, seed) = parsed.filter(|(part, _)| *part > 0).unwrap_or_else(|| {
            panic!("CONFORMANCE_SAMPLE={text}: must be like 3:7, a third of all trials by the seed 7")
        });
        println!("a sample of the trials: CONFORMANCE_SAMPLE={part}:{seed}");
        Some(Sample { part, seed })
    }

    fn has(&self, name: &str) -> bool {
        let mut hasher = DefaultHasher::new();
        (self.seed, name).hash(&mut hasher);
        hasher.finish().is_multiple_of(self.part)
    }
}

/// `case!(f)` for every model, `case!(Echo, f)` for those that serve it.
macro_rules! case {
    ($run:ident) => {
        crate::Case {
            name: stringify!($run),
            needs: None,
            together: false,
            only: |_| true,
            lacks: |_| None,
            settings: |_| {},
            run: $run,
        }
    };
    ($needs:ident, $run:ident) => {
        crate::Case {
            name: stringify!($run),
            needs: Some(switchboard_models::Mechanism::$needs),
            together: false,
            only: |_| true,
            lacks: |_| None,
            settings: |_| {},
            run: $run,
        }
    };
}
pub(crate) use case;

fn lacks_ipv6(_: &Model) -> Option<String> {
    std::net::TcpListener::bind("[::1]:0").err().map(|error| format!("no IPv6: {error}"))
}

fn main() {
    // Before anything else, and before there is a second thread: this process may be a server.
    if let Ok(settings) = std::env::var(child::VARIABLE) {
        child::serve(&settings);
        return;
    }
    // Some cases hold over a thousand connections.
    switchboard_models::raise_descriptor_limit().expect("a process may raise its soft limit to its hard one");
    let mut arguments = Arguments::from_args();
    // Many cases wait for a timer: on a small machine that leaves time for others.
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    arguments.test_threads.get_or_insert(2 * cores);
    let mut trials = Vec::new();
    for model in MODELS {
        let obstacle = (model.obstacle)();
        for case in CASES.iter().copied().flatten().filter(|case| case.concerns(model)) {
            let trial = Trial::test(format!("{}::{}", model.name, case.name), || case.run(model));
            trials.push(match obstacle.clone().or_else(|| (case.lacks)(model)) {
                None => trial,
                Some(lacking) => trial.with_kind(lacking).with_ignored_flag(true),
            });
        }
    }
    if let Some(sample) = Sample::asked_for() {
        trials.retain(|trial| sample.has(trial.name()));
    }
    libtest_mimic::run(&arguments, trials).exit();
}
