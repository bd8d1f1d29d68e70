//! Who looks after the exchange when it has something due and no loop waits for that: a thread, made when it is first needed.

use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Instant;

/// A thread that sleeps until something is due.
#[derive(Default)]
pub(crate) struct Clock(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    due: Option<Instant>,
    is_running: bool,
    has_stopped: bool,
}

impl Clock {
    /// Calls `ring` when it is due. It says when it is due next.
    pub(crate) fn set(&self, due: Option<Instant>, ring: impl FnMut() -> Option<Instant> + Send + 'static) {
        let mut state = self.0.state.lock().expect("no thread panics while it holds the time");
        if state.due == due || state.has_stopped {
            return;
        }
        // A later time is noticed when the earlier one has come.
        let is_earlier = due.is_some_and(|due| state.due.is_none_or(|before| due < before));
        state.due = due;
        if !state.is_running && due.is_some() {
            state.is_running = true;
            let shared = self.0.clone();
            drop(state);
            // Without it sessions that have gone silent stay for longer; the server goes on.
            let _ = thread::Builder::new().name("clock".into()).spawn(move || run(&shared, ring));
        } else if is_earlier {
            self.0.changed.notify_one();
        }
    }

    /// Lets the thread end.
    pub(crate) fn stop(&self) {
        self.0.state.lock().expect("no thread panics while it holds the time").has_stopped = true;
        self.0.changed.notify_one();
    }
}

fn run(shared: &Shared, mut ring: impl FnMut() -> Option<Instant>) {
    let mut state = shared.state.lock().expect("no thread panics while it holds the time");
    while !state.has_stopped {
        let now = Instant::now();
        state = match state.due {
            None => shared.changed.wait(state).expect("no thread panics while it holds the time"),
            Some(due) if due > now => {
                let wait = shared.changed.wait_timeout(state, due - now);
                wait.expect("no thread panics while it holds the time").0
            }
            Some(_) => {
                state.due = None;
                drop(state);
                let due = ring();
                let mut state = shared.state.lock().expect("no thread panics while it holds the time");
                // Somebody may have set it meanwhile.
                state.due = match (state.due, due) {
                    (Some(one), Some(other)) => Some(one.min(other)),
                    (one, other) => one.or(other),
                };
                state
            }
        };
    }
}
