//! `mailbox` and `handoff` under loom, which runs them in every order that threads could: nothing is lost and no wake-up is missed.
//!
//! The two modules are compiled here a second time, over loom's primitives instead of those in `src/sync.rs`.

#[path = "../src/handoff.rs"]
mod handoff;
#[path = "../src/mailbox.rs"]
mod mailbox;

/// What `src/sync.rs` has, made of what loom can see through.
mod sync {
    use std::collections::VecDeque;

    pub(crate) use loom::sync::atomic::{AtomicBool, Ordering};
    use loom::sync::{Arc, Condvar, Mutex};

    pub(crate) struct Queue<T>(Mutex<VecDeque<T>>);

    impl<T> Queue<T> {
        pub(crate) fn new() -> Queue<T> {
            Queue(Mutex::new(VecDeque::new()))
        }

        pub(crate) fn push(&self, item: T) {
            self.0.lock().unwrap().push_back(item);
        }

        pub(crate) fn pop(&self) -> Option<T> {
            self.0.lock().unwrap().pop_front()
        }
    }

    /// An eventfd: rung or not, and somebody who waits for that.
    pub(crate) struct Bell(Mutex<bool>, Condvar);

    impl Bell {
        pub(crate) fn new() -> Bell {
            Bell(Mutex::new(false), Condvar::new())
        }

        pub(crate) fn ring(&self) {
            *self.0.lock().unwrap() = true;
            self.1.notify_one();
        }

        pub(crate) fn silence(&self) {
            *self.0.lock().unwrap() = false;
        }

        /// What epoll_wait(2) does.
        pub(crate) fn wait(&self) {
            let mut is_rung = self.0.lock().unwrap();
            while !*is_rung {
                is_rung = self.1.wait(is_rung).unwrap();
            }
        }
    }

    struct Channel<T> {
        state: Mutex<(VecDeque<T>, bool)>,
        changed: Condvar,
    }

    pub(crate) struct Sender<T>(Arc<Channel<T>>);
    pub(crate) struct Receiver<T>(Arc<Channel<T>>);

    pub(crate) fn unbounded<T>() -> (Sender<T>, Receiver<T>) {
        let channel =
            Arc::new(Channel { state: Mutex::new((VecDeque::new(), false)), changed: Condvar::new() });
        (Sender(channel.clone()), Receiver(channel))
    }

    impl<T> Sender<T> {
        pub(crate) fn send(&self, item: T) -> Result<(), ()> {
            self.0.state.lock().unwrap().0.push_back(item);
            self.0.changed.notify_one();
            Ok(())
        }
    }

    impl<T> Drop for Sender<T> {
        fn drop(&mut self) {
            self.0.state.lock().unwrap().1 = true;
            self.0.changed.notify_all();
        }
    }

    impl<T> Receiver<T> {
        pub(crate) fn recv(&self) -> Result<T, ()> {
            let mut state = self.0.state.lock().unwrap();
            loop {
                match state.0.pop_front() {
                    Some(item) => return Ok(item),
                    None if state.1 => return Err(()),
                    None => state = self.0.changed.wait(state).unwrap(),
                }
            }
        }
    }

    impl<T> Clone for Receiver<T> {
        fn clone(&self) -> Receiver<T> {
            Receiver(self.0.clone())
        }
    }
}

use std::sync::Arc;

use handoff::Handoff;
use mailbox::Mailbox;
use sync::Bell;

/// Runs `threads` in every order in which a thread is interrupted three times at the most, which is where nearly all faults of this kind
/// show (Musuvathi and Qadeer, PLDI 2007); every order at all would take hours.
fn explore(threads: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(threads);
}

/// Takes `n` things as a loop does: sleep until the bell, silence it, empty the queue. Loom reports a sleep that nobody ends.
fn take<T>(mailbox: &Mailbox<T>, n: usize) -> Vec<T> {
    let mut taken = Vec::new();
    while taken.len() < n {
        mailbox.bell().wait();
        mailbox.silence();
        taken.extend(std::iter::from_fn(|| mailbox.pop()));
    }
    taken
}

#[test]
fn no_wake_up_is_missed_and_each_sender_is_heard_in_its_order() {
    explore(|| {
        let mailbox = Arc::new(Mailbox::new(Bell::new()));
        let senders = [[1, 2], [11, 12]].map(|items| {
            let mailbox = mailbox.clone();
            loom::thread::spawn(move || items.map(|item| mailbox.push(item)))
        });
        let taken = take(&mailbox, 4);
        senders.into_iter().for_each(|sender| sender.join().map(drop).unwrap());
        for items in [[1, 2], [11, 12]] {
            let heard: Vec<_> = taken.iter().filter(|item| items.contains(item)).collect();
            assert_eq!(heard, [&items[0], &items[1]]);
        }
    });
}

#[test]
fn what_a_loop_puts_in_for_itself_is_there_when_it_looks() {
    explore(|| {
        let mailbox = Arc::new(Mailbox::new(Bell::new()));
        let other = loom::thread::spawn({
            let mailbox = mailbox.clone();
            move || mailbox.push(2)
        });
        mailbox.push_own(1);
        let mut taken: Vec<i32> = std::iter::from_fn(|| mailbox.pop()).collect();
        // If the other's came in between, its ring is still to be heard, and then there is nothing.
        if taken.len() < 2 {
            taken.extend(take(&mailbox, 1));
        }
        other.join().unwrap();
        taken.sort_unstable();
        assert_eq!(taken, [1, 2]);
    });
}

#[test]
fn every_job_is_done_once_and_the_pool_ends_with_its_loop() {
    explore(|| {
        let (handoff, bench) = Handoff::new(Bell::new());
        let pool =
            [bench.clone(), bench].map(|bench| loom::thread::spawn(move || bench.work(|job: i32| job * 10)));
        handoff.submit(1);
        handoff.submit(2);
        let mut done = take(handoff.done(), 2);
        done.sort_unstable();
        assert_eq!(done, [10, 20]);
        drop(handoff);
        pool.into_iter().for_each(|thread| thread.join().unwrap());
    });
}
