//! Publishing by POST, for those who only listen.

use std::collections::VecDeque;

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
    /// What was published and not answered, in order.
    pending: VecDeque<Stamp>,
    workspace: Vec<u8>,
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
            pending: VecDeque::new(),
            workspace: text::workspace(payload_bytes),
        }
    }

    pub(super) fn publish(&mut self, stamp: Stamp) {
        self.pending.push_back(stamp);
        // It is published on the next connection, with all that was not answered here.
        if !self.responses.is_ending() {
            self.write(stamp);
        }
    }

    fn write(&mut self, stamp: Stamp) {
        let tail = self.output.tail();
        tail.extend_from_slice(&self.head);
        let start = tail.len();
        tail.resize(start + self.payload_bytes, 0);
        text::write(stamp, &mut tail[start..], &mut self.workspace);
    }

    /// What the server has not answered it has not read, if it has said that it closes the connection (RFC 9112, 9.6): that is published again. Where it has
    /// said nothing it may have been published, and is not published twice.
    pub(super) fn begin_again(&mut self) -> bool {
        let is_sure = self.responses.is_over() || self.pending.is_empty() && self.answers() > 0;
        if !is_sure || !self.responses.is_between() {
            return false;
        }
        self.responses.begin_again();
        self.output.clear();
        for place in 0..self.pending.len() {
            self.write(self.pending[place]);
        }
        true
    }

    pub(super) fn receive(&mut self, mut input: &[u8], hear: &mut dyn FnMut(Heard<'_>)) -> Done {
        while let Some(response) = self.responses.next(&mut input)? {
            if !(200..300).contains(&response.head.status) {
                hear(Heard::Refused(self.responses.described()));
                return Ok(());
            }
            self.pending.pop_front();
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
