//! One memory budget for several processes: what each has charged, where all can add it up.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use switchboard_proto::{App, Budget, Ledger};

use crate::places::Shared;

/// Processes that have a place of their own. The charges of those beyond them are known only to be somebody's, and stay if they are killed.
const PLACES: usize = 1 << 16;

/// What all processes use together, and the parent's and each child's part of it: so that the part of one that is no more can be given back.
#[derive(Clone)]
pub(crate) struct SharedLedger(Arc<Inner>);

struct Inner {
    /// The sum, and then the parts.
    counters: Shared,
    /// The place of this process. Each process has its own copy of this, since it has forked.
    place: AtomicUsize,
}

impl SharedLedger {
    /// The same server with a ledger that its processes share, and that ledger.
    pub(crate) fn open(app: &App) -> io::Result<(Arc<App>, SharedLedger)> {
        let counters = Shared::new(2 + PLACES)?;
        let ledger = SharedLedger(Arc::new(Inner { counters, place: AtomicUsize::new(1) }));
        let memory = Budget::with_ledger(app.memory.max_bytes(), ledger.clone());
        Ok((Arc::new(App { memory, ..app.clone() }), ledger))
    }

    /// To be called in a child that has just been made.
    pub(crate) fn take_place(&self, child: usize) {
        self.0.place.store(place(child), Ordering::Relaxed);
    }

    /// Gives back what a child had charged that has ended.
    pub(crate) fn clear(&self, child: usize) {
        if place(child) > 0 {
            let bytes = self.0.counters.as_slice()[place(child)].swap(0, Ordering::Relaxed);
            self.sum().fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    fn sum(&self) -> &AtomicUsize {
        &self.0.counters.as_slice()[0]
    }

    /// This process's part, if it has a place.
    fn part(&self) -> Option<&AtomicUsize> {
        let place = self.0.place.load(Ordering::Relaxed);
        (place > 0).then(|| &self.0.counters.as_slice()[place])
    }
}

/// 0: it has none.
fn place(child: usize) -> usize {
    if child < PLACES { 2 + child } else { 0 }
}

impl Ledger for SharedLedger {
    fn add(&self, bytes: usize) -> usize {
        if let Some(part) = self.part() {
            part.fetch_add(bytes, Ordering::Relaxed);
        }
        self.sum().fetch_add(bytes, Ordering::Relaxed) + bytes
    }

    fn give_back(&self, bytes: usize) {
        if let Some(part) = self.part() {
            part.fetch_sub(bytes, Ordering::Relaxed);
        }
        self.sum().fetch_sub(bytes, Ordering::Relaxed);
    }

    fn used_bytes(&self) -> usize {
        self.sum().load(Ordering::Relaxed)
    }
}

impl fmt::Debug for SharedLedger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SharedLedger({})", self.used_bytes())
    }
}

#[cfg(test)]
mod tests {
    use switchboard_proto::Charge;

    use super::*;

    #[test]
    fn what_a_child_had_charged_is_given_back_when_it_is_no_more() {
        let (app, ledger) = SharedLedger::open(&App::default()).unwrap();
        let mut parents = Charge::default();
        parents.set(&app.memory, 10_000).unwrap();
        let before = app.memory.used_bytes();
        for child in [0, 5, PLACES - 1] {
            ledger.take_place(child);
            let mut killed = Charge::default();
            killed.set(&app.memory, 1 << 20).unwrap();
            std::mem::forget(killed);
            assert_eq!(app.memory.used_bytes(), before + (1 << 20));
            ledger.clear(child);
            assert_eq!(app.memory.used_bytes(), before);
        }
        ledger.0.place.store(1, Ordering::Relaxed);
        drop(parents);
        assert_eq!(app.memory.used_bytes(), 0);
    }
}
