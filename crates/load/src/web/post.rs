//! Publishing by POST, for those who only listen.

use switchboard_proto::{Output, Responses};

use super::{Done, Heard};
use crate::stamp::Stamp;
use crate::target::Publisher;
use crate::text;

/// Longest answer to a POST.
const MOST_BODY_BYTES: usize = 64 << 10;

/// The connection of the one who publishes.
pub(crate) struct Post {
    output: Output,
    responses: Responses,
    head: Vec<u8>,
    payload_bytes: usize,
    /// Messages published so far.
    published: u64,
}

impl Post {
    pub(super) fn new(publisher: &Publisher, payload_bytes: usize) -> Post {
        let Publisher { path, host, .. } = publisher;
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: text/plain;charset=UTF-8\r\nContent-Length: {payload_bytes}\r\n\r\n"
        );
        Post {
            output: Output::retaining(),
            responses: Responses::new(MOST_BODY_BYTES),
            head: head.into_bytes(),
            payload_bytes,
            published: 0,
        }
    }

    pub(super) fn publish(&mut self, stamp: Stamp, workspace: &mut [u8]) {
        self.published += 1;
        let tail = self.output.tail();
        tail.extend_from_slice(&self.head);
        let start = tail.len();
        tail.resize(start + self.payload_bytes, 0);
        text::write(stamp, &mut tail[start..], workspace);
    }

    /// What was not answered may have been published, and is not published twice.
    pub(super) fn begin_again(&mut self) -> bool {
        let is_done = self.published > 0 && self.responses.is_between() && self.published == self.answers();
        if is_done {
            self.responses.begin_again();
        }
        is_done
    }

    pub(super) fn receive(&mut self, mut input: &[u8], hear: &mut dyn FnMut(Heard<'_>)) -> Done {
        while let Some(response) = self.responses.next(&mut input)? {
            if !(200..300).contains(&response.head.status) {
                hear(Heard::Refused(self.responses.described()));
                return Ok(());
            }
        }
        Ok(())
    }

    pub(super) fn answers(&self) -> u64 {
        self.responses.answers()
    }

    pub(super) fn output(&mut self) -> &mut Output {
        &mut self.output
    }

    pub(super) fn responses(&self) -> &Responses {
        &self.responses
    }

    pub(super) fn responses_mut(&mut self) -> &mut Responses {
        &mut self.responses
    }
}
