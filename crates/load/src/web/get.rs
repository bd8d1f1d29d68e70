//! GETs that are answered at once: anybody's page, or short polling.

use switchboard_proto::{Content, Output, Responses};

use super::{Done, Heard, get_request, is_endless, updates};
use crate::target::{Mechanism, Target, parameter};

/// A connection on which the same is asked again and again.
///
/// The first request is made before any other, to see whether this is the server that it should be.
pub(crate) struct Get {
    output: Output,
    responses: Responses,
    request: Vec<u8>,
    /// The topic whose news the answers have to be, if they have to be news.
    news: Option<String>,
    revalidate: bool,
    /// The version of the answer that is known.
    etag: Vec<u8>,
    is_open: bool,
    /// Requests that were answered on the connections before this one.
    answers_before: u64,
    /// Connections in a row on which nothing was answered: what was on its way when the server closed may be asked again, but not for ever.
    fruitless: u8,
}

const MOST_FRUITLESS: u8 = 3;

impl Get {
    pub(super) fn new(target: &Target, revalidate: bool, most_bytes: usize) -> Get {
        let query = target.path.split_once('?').map_or("", |(_, query)| query);
        let topic = parameter(query, "topic").unwrap_or_default().to_owned();
        let mut get = Get {
            output: Output::retaining(),
            responses: Responses::new(most_bytes),
            request: get_request(&target.path, &target.host),
            news: (target.mechanism == Mechanism::Poll).then_some(topic),
            revalidate,
            etag: Vec::new(),
            is_open: false,
            answers_before: 0,
            fruitless: 0,
        };
        get.ask();
        get
    }

    pub(super) fn ask(&mut self) {
        // It is asked on the next connection, with all that was not answered here.
        if self.responses.is_ending() {
            return;
        }
        let Get { output, request, etag, .. } = self;
        if etag.is_empty() {
            return output.copy(request);
        }
        let tail = output.tail();
        tail.extend_from_slice(&request[..request.len() - 2]);
        tail.extend_from_slice(b"If-None-Match: ");
        tail.extend_from_slice(etag);
        tail.extend_from_slice(b"\r\n\r\n");
    }

    pub(super) fn begin_again(&mut self, pending: usize, is_stuck: bool) -> bool {
        let answers = self.answers();
        let before = std::mem::replace(&mut self.answers_before, answers);
        self.fruitless = if answers > before { 0 } else { self.fruitless + 1 };
        let is_in_order = self.responses.is_between() && self.fruitless <= MOST_FRUITLESS;
        if !self.is_open || !is_in_order && !is_stuck {
            return false;
        }
        self.responses.begin_again();
        self.output.clear();
        (0..pending).for_each(|_| self.ask());
        true
    }

    pub(super) fn receive(&mut self, mut input: &[u8], hear: &mut dyn FnMut(Heard<'_>)) -> Done {
        while let Some(response) = self.responses.next(&mut input)? {
            let head = response.head;
            let is_status = head.status == 200 || head.status == 304 && !self.etag.is_empty();
            let wrong = match (&self.news, head.status) {
                _ if !is_status => Some(String::new()),
                (None, _) | (_, 304) => None,
                (Some(_), _) if head.content != Content::Json => {
                    Some(" where application/json was expected".to_owned())
                }
                (Some(topic), _) => {
                    let news = updates::read(response.body, topic, |_| ());
                    news.err().map(|reason| format!(" that is no news: {reason}"))
                }
            };
            match wrong {
                Some(wrong) if !self.is_open => {
                    hear(Heard::Refused(self.responses.described() + &wrong));
                    return Ok(());
                }
                Some(_) if !is_status => {
                    hear(Heard::Failed(format!("answered with {}", self.responses.described())));
                    return Ok(());
                }
                None if !self.is_open => {
                    self.is_open = true;
                    hear(Heard::Open);
                }
                wrong => hear(Heard::Answer { is_right: wrong.is_none() }),
            }
            if self.revalidate && self.responses.etag() != self.etag && head.status == 200 {
                self.etag.clear();
                self.etag.extend_from_slice(self.responses.etag());
            }
        }
        if is_endless(&self.responses) {
            hear(Heard::Refused(self.responses.described() + " which does not end"));
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
