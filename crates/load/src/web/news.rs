//! What is new since the last answer: long polls, of which the server holds each until there is something, and short ones that are made by the
//! clock. Either way the answer says where to go on.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use switchboard_proto::{Content, Cursor, Output, Responses};

use super::{Done, Heard, get_request, is_endless, updates};
use crate::target::{Mechanism, Target, parameter};

/// One subscriber. It never has two requests under way.
///
/// It learns the newest id by a short poll, so that nothing that is published from then on can be missed, and asks for what follows. One that goes
/// on where another was asks for that at once.
pub(crate) struct News {
    output: Output,
    responses: Responses,
    /// A request up to the id.
    before_id: Vec<u8>,
    /// What stands behind that.
    behind_id: Vec<u8>,
    topic: String,
    /// The newest event that is known; `None` before the first answer.
    newest: Option<Cursor>,
    /// The first request was answered.
    is_open: bool,
    /// What is asked next is decided by the clock, and not by what was answered.
    by_the_clock: bool,
    /// A request is under way.
    is_asking: bool,
    decoded: Vec<u8>,
    /// Requests that were answered on the connections before this one.
    answers_before: u64,
}

impl News {
    pub(super) fn new(target: &Target, most_bytes: usize, since: Option<&str>) -> News {
        let Target { path, host, .. } = target;
        let (file, query) = path.split_once('?').unwrap_or((path, ""));
        let folder = file.rsplit_once('/').map_or("", |(folder, _)| folder);
        let by_the_clock = target.mechanism == Mechanism::PollEvery;
        let short = match query {
            _ if by_the_clock => path.clone(),
            "" => format!("{folder}/poll"),
            query => format!("{folder}/poll?{query}"),
        };
        let separator = if query.is_empty() { '?' } else { '&' };
        let mut news = News {
            output: Output::retaining(),
            responses: Responses::new(most_bytes),
            before_id: format!("GET {path}{separator}since=").into_bytes(),
            behind_id: format!(" HTTP/1.1\r\nHost: {host}\r\n\r\n").into_bytes(),
            topic: parameter(query, "topic").unwrap_or_default().to_owned(),
            newest: since.and_then(|since| since.parse().ok()),
            is_open: false,
            by_the_clock,
            is_asking: true,
            decoded: Vec::new(),
            answers_before: 0,
        };
        match news.newest {
            Some(_) => news.ask(),
            None => news.output.copy(&get_request(&short, host)),
        }
        news
    }

    pub(super) fn receive(&mut self, mut input: &[u8], hear: &mut dyn FnMut(Heard<'_>)) -> Done {
        while let Some(response) = self.responses.next(&mut input)? {
            let head = response.head;
            if !std::mem::take(&mut self.is_asking) {
                hear(Heard::Failed("an answer came without a request".into()));
                return Ok(());
            }
            // Where it goes on where another was, the first answer may have events already.
            let knows_where = self.newest.is_some();
            let is_fine = head.status == 204 && !self.by_the_clock
                || head.status == 200 && head.content == Content::Json;
            if knows_where && is_fine && !std::mem::replace(&mut self.is_open, true) {
                hear(Heard::Open);
            }
            if head.status == 204 && knows_where && !self.by_the_clock {
                hear(Heard::Nothing);
                self.ask();
                continue;
            }
            let decoded = &mut self.decoded;
            let (mut is_empty, mut last) = (true, 0);
            let newest = match head {
                _ if head.status != 200 => Err(String::new()),
                _ if head.content != Content::Json => Err(" where application/json was expected".to_owned()),
                _ => updates::read(response.body, &self.topic, |event| {
                    is_empty = false;
                    last = event.id.max(last);
                    match event.data() {
                        _ if !knows_where => {}
                        updates::Data::Text(text) => hear(Heard::Message(text.as_bytes())),
                        updates::Data::Base64(text) => {
                            decoded.clear();
                            // What cannot be decoded is no message that anybody sent.
                            let _ = STANDARD.decode_vec(text, decoded);
                            hear(Heard::Message(decoded));
                        }
                        updates::Data::None => hear(Heard::Message(b"")),
                    }
                })
                .map_err(|reason| format!(" that is no news: {reason}")),
            };
            match newest {
                Err(wrong) => {
                    let answer = self.responses.described() + &wrong;
                    hear(match self.is_open {
                        true => Heard::Failed(format!("answered with {answer}")),
                        false => Heard::Refused(answer),
                    });
                    return Ok(());
                }
                Ok(newest) => {
                    self.newest = Some(Cursor { id: newest.id.max(last), ..newest });
                    if !std::mem::replace(&mut self.is_open, true) {
                        hear(Heard::Open);
                    } else if is_empty {
                        hear(Heard::Nothing);
                    }
                    if !self.by_the_clock {
                        self.ask();
                    }
                }
            }
        }
        if is_endless(&self.responses) {
            hear(Heard::Refused(self.responses.described() + " which does not end"));
        }
        Ok(())
    }

    pub(super) fn begin_again(&mut self) -> bool {
        let answers = self.answers();
        if !self.is_open || !self.responses.is_between() || answers == std::mem::replace(&mut self.answers_before, answers) {
            return false;
        }
        self.responses.begin_again();
        self.output.clear();
        if self.is_asking {
            self.ask();
        }
        true
    }

    /// Its time has come to ask. `false`: the answer to the last request is still on its way.
    pub(super) fn ask_if_idle(&mut self) -> bool {
        let is_idle = !self.is_asking && self.is_open;
        if is_idle {
            self.ask();
        }
        is_idle
    }

    fn ask(&mut self) {
        use std::io::Write;
        self.is_asking = true;
        let tail = self.output.tail();
        tail.extend_from_slice(&self.before_id);
        // Writing to a vector does not fail.
        let _ = match self.newest {
            Some(newest) => write!(tail, "{newest}"),
            None => write!(tail, "0"),
        };
        tail.extend_from_slice(&self.behind_id);
    }

    /// Where it would go on.
    pub(super) fn cursor(&self) -> Option<String> {
        self.newest.map(|newest| newest.to_string())
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
