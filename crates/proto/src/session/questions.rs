//! What a session asks of the exchange and has not been taken yet.

use std::cell::RefCell;
use std::collections::VecDeque;

use crate::Request;

/// Queues that a thread keeps for the next session that has something to ask, and how many requests each may have room for.
const SPARES: usize = 16;
const SPARE_REQUESTS: usize = 16;

thread_local! {
    #[expect(clippy::vec_box, reason = "it is the boxes that are kept")]
    static SPARE: RefCell<Vec<Box<VecDeque<Request>>>> = const { RefCell::new(Vec::new()) };
}

/// A queue that is not there while it is empty: most sessions have nothing to ask most of the time.
#[derive(Debug, Default)]
pub(super) struct Questions(
    #[expect(clippy::box_collection, reason = "8 bytes of every idle connection in place of 32")]
    Option<Box<VecDeque<Request>>>,
);

impl Questions {
    pub(super) fn push(&mut self, request: Request) {
        let spare = || SPARE.with_borrow_mut(Vec::pop).unwrap_or_default();
        self.0.get_or_insert_with(spare).push_back(request);
    }

    pub(super) fn pop(&mut self) -> Option<Request> {
        let request = self.0.as_mut()?.pop_front();
        if let Some(empty) =
            self.0.take_if(|requests| requests.is_empty() && requests.capacity() <= SPARE_REQUESTS)
        {
            SPARE.with_borrow_mut(|spares| {
                if spares.len() < SPARES {
                    spares.push(empty);
                }
            });
        }
        self.0.take_if(|requests| requests.is_empty());
        request
    }
}
