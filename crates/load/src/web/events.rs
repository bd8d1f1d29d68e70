//! Server-sent events: one request whose answer does not end.

use std::time::Duration;

use switchboard_proto::{Content, EventStream, Output, Part, Responses, ServerEvent};

use super::{Done, Heard};
use crate::target::Target;

/// The event by which a server says that its history did not reach back far enough.
const GAP: &[u8] = b"gap";

/// One subscriber.
pub(crate) struct Events {
    output: Output,
    responses: Responses,
    stream: EventStream,
    /// The id of the last event that had one: where a client that lost its connection goes on.
    last_id: Vec<u8>,
}

impl Events {
    /// `last_id`: that of the last event that was had on another connection.
    pub(super) fn new(target: &Target, most_bytes: usize, last_id: Option<&str>) -> Events {
        let Target { path, host, .. } = target;
        let mut output = Output::retaining();
        let goes_on = last_id.map(|id| format!("Last-Event-ID: {id}\r\n")).unwrap_or_default();
        let accepts = "Accept: text/event-stream";
        output.copy(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{accepts}\r\n{goes_on}\r\n").as_bytes());
        Events {
            output,
            responses: Responses::new(0),
            stream: EventStream::new(most_bytes),
            last_id: last_id.unwrap_or_default().into(),
        }
    }

    /// Where it would go on.
    pub(super) fn last_id(&self) -> Option<String> {
        (!self.last_id.is_empty()).then(|| String::from_utf8_lossy(&self.last_id).into_owned())
    }

    /// How long the server wants those to wait who have lost it, if it says so.
    pub(super) fn retry(&self) -> Option<Duration> {
        self.stream.retry_ms().map(Duration::from_millis)
    }

    pub(super) fn receive(&mut self, mut input: &[u8], hear: &mut dyn FnMut(Heard<'_>)) -> Done {
        while let Some(part) = self.responses.next_part(&mut input)? {
            match part {
                Part::Head(head) if (100..200).contains(&head.status) => {}
                Part::Head(head) if head.status == 200 && head.content == Content::EventStream => {
                    hear(Heard::Open)
                }
                Part::Head(head) => {
                    let expected =
                        if head.status == 200 { " where text/event-stream was expected" } else { "" };
                    hear(Heard::Refused(self.responses.described() + expected));
                    return Ok(());
                }
                Part::Body(mut piece) => loop {
                    match self.stream.next(&mut piece) {
                        Ok(None) => break,
                        Ok(Some(event)) => {
                            if let Some(id) = event.id {
                                self.last_id.clear();
                                self.last_id.extend_from_slice(id);
                            }
                            match event {
                                ServerEvent { name: GAP, .. } => hear(Heard::Gap),
                                ServerEvent { data, .. } => hear(Heard::Message(data)),
                            }
                        }
                        Err(error) => {
                            hear(Heard::Failed(error.to_string()));
                            return Ok(());
                        }
                    }
                },
                Part::End => {}
            }
        }
        Ok(())
    }

    pub(super) fn output(&mut self) -> &mut Output {
        &mut self.output
    }

    pub(super) fn responses_mut(&mut self) -> &mut Responses {
        &mut self.responses
    }
}
