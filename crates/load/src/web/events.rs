//! Server-sent events: one request whose answer does not end.

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
}

impl Events {
    pub(super) fn new(target: &Target, most_bytes: usize) -> Events {
        let Target { path, host, .. } = target;
        let mut output = Output::retaining();
        output.copy(
            format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: text/event-stream\r\n\r\n").as_bytes(),
        );
        Events { output, responses: Responses::new(0), stream: EventStream::new(most_bytes) }
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
                        Ok(Some(ServerEvent { name: GAP, .. })) => hear(Heard::Gap),
                        Ok(Some(event)) => hear(Heard::Message(event.data)),
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
}
