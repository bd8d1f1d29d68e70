//! One file per way in which a server waits for its connections, and the registry of them all.
//!
//! In reading order, each with one idea more than the one that it names in [`Model::after`]:
//!
//! | family | models |
//! |---|---|
//! | one at a time | [`iterative`] |
//! | processes | [`fork`](mod@fork), [`prefork`], [`prefork_reuseport`] |
//! | threads | [`threads`], [`threads_direct`], [`pool`] |
//! | asking | [`spin`], [`select`], [`poll`] |
//! | told | [`epoll_level`], [`epoll`], [`reactors`], [`epoll_workers`]; [`raw`] is their ceiling |
//! | tasks | [`mod@tokio`], [`tokio_multi`] |
//! | completion | [`uring`], [`uring_reactors`]; [`raw_uring`] is their ceiling |
//! | datagrams | [`udp`], [`udp_epoll`], [`udp_mmsg`], [`udp_reuseport`], [`udp_uring`] |
//!
//! What they share stands beside them:
//!
//! | module | what it holds |
//! |---|---|
//! | `listener`, `accept` | making the listening socket; taking connections from it, and refusing those that a limit forbids with an answer |
//! | `readiness` | the loop of the models that ask or are told who is ready: all but the waiting |
//! | `roster`, `table`, `line` | the connections of one loop, their timers and subscribers; those of a loop that asks who is ready; reading and writing one |
//! | `blocking`, `hub` | one connection served by blocking calls; what the threads that do so share |
//! | `parent`, `child`, `relay` | the two kinds of process of `fork`, and how a broadcast travels between processes |
//! | `crew`, `places`, `post`, `mailbox`, `handoff` | several workers that are one server; the connections they may hold together; the exchange that threads share; a queue that wakes a loop; work for a pool |
//! | `tasks`, `task_socket` | a connection as a task, for both runtimes of `tokio`; its socket |
//! | `ring`, `completion` | a ring with its buffers; the loop over it |
//! | `datagrams`, `loops` | what is answered to a datagram; which are not, since they would come back for ever |
//! | `shutdown`, `limits`, `tally` | what their names say |
//!
//! To add a model: write one file with a `MODEL`, whose `serve` returns when [`Shutdown`] is triggered and every
//! client has been told; add it to [`MODELS`]. The command, the lab, the benchmarks and the conformance suite read
//! that list and nothing else.

mod accept;
mod backlog;
mod blocking;
mod buffers;
mod child;
mod clock;
mod completion;
mod crew;
mod datagrams;
mod desk;
mod handoff;
mod hub;
mod ledger;
mod limits;
mod line;
mod listener;
mod loops;
mod mailbox;
mod model;
mod parent;
mod places;
mod post;
mod readiness;
mod relay;
mod ring;
mod roster;
mod shutdown;
mod sync;
mod table;
mod tally;
mod task_socket;
mod tasks;
mod write;

pub mod epoll;
pub mod epoll_level;
pub mod epoll_workers;
pub mod fork;
pub mod iterative;
pub mod poll;
pub mod pool;
pub mod prefork;
pub mod prefork_reuseport;
pub mod raw;
pub mod raw_uring;
pub mod reactors;
pub mod select;
pub mod spin;
pub mod threads;
pub mod threads_direct;
pub mod tokio;
pub mod tokio_multi;
pub mod udp;
pub mod udp_epoll;
pub mod udp_mmsg;
pub mod udp_reuseport;
pub mod udp_uring;
pub mod uring;
pub mod uring_reactors;

pub use crew::{confine, threads_may_have_descriptors_each};
pub use limits::{available_memory, keep_freed_memory, raise_descriptor_limit};
pub use listener::Listener;
pub use model::{Family, Mechanism, Model, Workers};
pub use shutdown::Shutdown;
pub use switchboard_proto::engine::EngineSettings;
pub use switchboard_proto::{App, Budget, CorsOrigins, Guests, PlainApp, Work};
pub use tally::Tally;

/// Every model, in reading order: family by family, and each after the one that it adds to.
pub const MODELS: &[Model] = &[
    iterative::MODEL,
    fork::MODEL,
    prefork::MODEL,
    prefork_reuseport::MODEL,
    threads::MODEL,
    threads_direct::MODEL,
    pool::MODEL,
    spin::MODEL,
    select::MODEL,
    poll::MODEL,
    epoll_level::MODEL,
    epoll::MODEL,
    reactors::MODEL,
    epoll_workers::MODEL,
    raw::MODEL,
    tokio::MODEL,
    tokio_multi::MODEL,
    uring::MODEL,
    uring_reactors::MODEL,
    raw_uring::MODEL,
    udp::MODEL,
    udp_epoll::MODEL,
    udp_mmsg::MODEL,
    udp_reuseport::MODEL,
    udp_uring::MODEL,
];

/// The model of that name, hidden ones included.
pub fn find(name: &str) -> Option<&'static Model> {
    MODELS.iter().find(|model| model.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_model_stands_with_its_family_and_after_the_one_that_it_adds_to() {
        for (place, model) in MODELS.iter().enumerate() {
            let before = &MODELS[..place];
            assert!(!before.iter().any(|other| other.name == model.name), "{} stands twice", model.name);
            if let Some(after) = model.after {
                assert!(
                    before.iter().any(|other| other.name == after),
                    "{after} does not come before {}",
                    model.name
                );
            }
            assert!(model.source.contains(&format!("name: \"{}\"", model.name)), "{}", model.name);
        }
        assert!(MODELS.is_sorted_by_key(|model| model.family));
    }
}
