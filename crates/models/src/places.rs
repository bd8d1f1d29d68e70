//! `--max-connections` over several workers: a count that threads and processes share.

use std::io;
use std::num::NonZeroUsize;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::libc::c_void;
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};

/// The connections that each worker holds, in memory that stays shared when a process forks.
///
/// Each worker writes its own count, so that the places of one that died can be given back.
#[derive(Clone)]
pub(crate) struct Places {
    counts: Arc<Shared>,
    max: usize,
}

impl Places {
    /// Places for `max` connections over all workers.
    pub(crate) fn new(workers: usize, max: usize) -> io::Result<Places> {
        Ok(Places { counts: Arc::new(Shared::new(workers)?), max })
    }

    /// Takes a place for a connection, if there is one. Two workers that take the last one at the same moment may both
    /// be told that there is none; never are there more than `max`.
    pub(crate) fn enter(&self, worker: usize) -> bool {
        self.counts.as_slice()[worker].fetch_add(1, Ordering::SeqCst);
        let all: usize = self.counts.as_slice().iter().map(|count| count.load(Ordering::SeqCst)).sum();
        if all > self.max {
            self.leave(worker);
        }
        all <= self.max
    }

    /// Gives a place back.
    pub(crate) fn leave(&self, worker: usize) {
        self.counts.as_slice()[worker].fetch_sub(1, Ordering::SeqCst);
    }

    /// Whether another worker holds less.
    pub(crate) fn another_has_less(&self, worker: usize) -> bool {
        let counts = self.counts.as_slice();
        let mine = counts[worker].load(Ordering::SeqCst);
        counts.iter().any(|count| count.load(Ordering::SeqCst) < mine)
    }

    /// Gives back what a worker held that is no more, and says how many places that were.
    pub(crate) fn clear(&self, worker: usize) -> usize {
        self.counts.as_slice()[worker].swap(0, Ordering::SeqCst)
    }

    pub(crate) fn max(&self) -> usize {
        self.max
    }
}

/// An anonymous shared mapping (mmap(2)) of counters.
pub(crate) struct Shared {
    counters: NonNull<c_void>,
    length: usize,
}

impl Shared {
    /// So many counters, all zero.
    pub(crate) fn new(length: usize) -> io::Result<Shared> {
        let bytes = NonZeroUsize::new(length * size_of::<AtomicUsize>()).expect("there is a worker");
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing.
        let counters = unsafe { mmap_anonymous(None, bytes, protection, MapFlags::MAP_SHARED) }?;
        Ok(Shared { counters, length })
    }

    pub(crate) fn as_slice(&self) -> &[AtomicUsize] {
        // SAFETY: the mapping is page-aligned, zeroed, so long, lives as long as this, and is only used atomically.
        unsafe { std::slice::from_raw_parts(self.counters.cast().as_ptr(), self.length) }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: nobody has a slice of it any more. It fails for no mapping that was made.
        let _ = unsafe { munmap(self.counters, self.length * size_of::<AtomicUsize>()) };
    }
}

// SAFETY: it is memory, owned by this value, that is only used through atomics.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_never_more_than_the_most() {
        let places = Places::new(2, 3).unwrap();
        assert!(places.enter(0) && places.enter(1) && places.enter(1));
        assert!(!places.enter(0) && !places.enter(1));
        places.leave(0);
        assert!(places.enter(1));
        assert!(!places.enter(0));
        assert_eq!((places.clear(1), places.clear(1)), (3, 0));
        assert!(places.enter(0) && places.enter(0) && places.enter(0) && !places.enter(0));
    }
}
