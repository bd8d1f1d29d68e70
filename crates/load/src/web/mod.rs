//! What is asked and heard over HTTP, on one connection: requests and their answers, short and long polls, server-sent events, and the POSTs
//! that publish what others hear. (Socket.IO needs two connections, and is [`switchboard_proto::PollingClient`].)

mod events;
mod feed;
mod get;
mod news;
mod post;
mod updates;

use std::time::Duration;

use switchboard_proto::{Content, Output, ResponseError, Responses};

use crate::plan::LoadPlan;
use crate::stamp::Stamp;
use crate::target::{Mechanism, Publisher, Target};

use events::Events;
pub(crate) use feed::Feed;
use get::Get;
use news::News;
use post::Post;

/// An answer that is longer than this, and than a hundred messages, is not waited for.
const MOST_BODY_BYTES: usize = 16 << 20;

/// What has come on a connection.
pub(crate) enum Heard<'a> {
    /// It is what was asked for: messages may be sent, or are heard from now on.
    Open,
    /// A message.
    Message(&'a [u8]),
    /// Something else that is none, and that nobody has asked for.
    Other,
    /// The answer to the oldest request; whether it is right.
    Answer { is_right: bool },
    /// An answer that brings nothing.
    Nothing,
    /// The server no longer had what came before.
    Gap,
    /// The server does not let us in, or speaks something else: what came instead.
    Refused(String),
    /// It cannot go on.
    Failed(String),
}

/// One HTTP connection.
pub(crate) enum Web {
    Get(Get),
    News(News),
    Events(Events),
    Post(Post),
}

impl Web {
    /// A connection that was just opened to hear something, and to go on behind `since` if that is known; `None` if the mechanism is another.
    pub(crate) fn new(plan: &LoadPlan, target: &Target, since: Option<&str>) -> Option<Web> {
        let most_bytes = plan.payload_bytes.saturating_mul(100).max(MOST_BODY_BYTES);
        Some(match target.mechanism {
            Mechanism::Get | Mechanism::Poll => Web::Get(Get::new(target, plan.revalidate, most_bytes)),
            Mechanism::Longpoll | Mechanism::PollEvery => Web::News(News::new(target, most_bytes, since)),
            Mechanism::Sse => Web::Events(Events::new(target, most_bytes, since)),
            _ => return None,
        })
    }

    /// A connection that was just opened to publish.
    pub(crate) fn publishing(publisher: &Publisher, payload_bytes: usize) -> Web {
        Web::Post(Post::new(publisher, payload_bytes))
    }

    /// Takes what has come.
    pub(crate) fn receive(&mut self, input: &[u8], hear: &mut dyn FnMut(Heard<'_>)) {
        let done = match self {
            Web::Get(get) => get.receive(input, hear),
            Web::News(news) => news.receive(input, hear),
            Web::Events(events) => events.receive(input, hear),
            Web::Post(post) => post.receive(input, hear),
        };
        if let Err(error) = done {
            hear(Heard::Failed(error.to_string()));
        }
    }

    /// The connection has ended: an answer without a length ends with it.
    pub(crate) fn end(&mut self, hear: &mut dyn FnMut(Heard<'_>)) {
        match self.responses().finish() {
            Ok(()) => self.receive(&[], hear),
            Err(error) => hear(Heard::Failed(error.to_string())),
        }
    }

    /// Another connection takes the place of this one, which the server has closed in order. `pending`: requests that were not answered, and are made
    /// again. `false`: nothing was answered on it, so that another would do no better, or what was asked cannot be asked twice.
    pub(crate) fn begin_again(&mut self, pending: usize, is_stuck: bool) -> bool {
        match self {
            Web::Get(get) => get.begin_again(pending, is_stuck),
            Web::News(news) => news.begin_again(),
            Web::Post(post) => post.begin_again(),
            // Events that are published meanwhile would be lost silently.
            Web::Events(_) => false,
        }
    }

    /// Whether the server has said that it closes the connection behind the answer that has come.
    pub(crate) fn is_over(&self) -> bool {
        match self {
            Web::Get(get) => get.responses().is_over(),
            Web::News(news) => news.responses().is_over(),
            Web::Post(post) => post.responses().is_over(),
            Web::Events(_) => false,
        }
    }

    fn responses(&mut self) -> &mut Responses {
        match self {
            Web::Get(get) => get.responses_mut(),
            Web::News(news) => news.responses_mut(),
            Web::Events(events) => events.responses_mut(),
            Web::Post(post) => post.responses_mut(),
        }
    }

    /// Queues the next message: a request, or a POST that carries a stamp.
    pub(crate) fn send(&mut self, stamp: Stamp) {
        match self {
            Web::Get(get) => get.ask(),
            Web::Post(post) => post.publish(stamp),
            // They only listen.
            Web::News(_) | Web::Events(_) => {}
        }
    }

    /// Asks what is new, of one who does so by the clock. `false`: the answer to the last request is still on its way.
    pub(crate) fn ask(&mut self) -> bool {
        match self {
            Web::News(news) => news.ask_if_idle(),
            Web::Get(_) | Web::Events(_) | Web::Post(_) => false,
        }
    }

    /// Where it would go on if it were lost.
    pub(crate) fn cursor(&self) -> Option<String> {
        match self {
            Web::News(news) => news.cursor(),
            Web::Events(events) => events.last_id(),
            Web::Get(_) | Web::Post(_) => None,
        }
    }

    /// How long the server wants those to wait who have lost it, if it says so.
    pub(crate) fn retry(&self) -> Option<Duration> {
        match self {
            Web::Events(events) => events.retry(),
            _ => None,
        }
    }

    /// What to call the end of the connection by the server.
    pub(crate) fn ended(&self) -> String {
        match self {
            // It is what the head of a stream says or does not say that ends it, and not a number of requests.
            Web::Events(_) => "closed".into(),
            _ => format!("closed by the server after {} answers", self.answers()),
        }
    }

    /// Requests that were answered so far.
    pub(crate) fn answers(&self) -> u64 {
        match self {
            Web::Get(get) => get.answers(),
            Web::News(news) => news.answers(),
            Web::Events(_) => 0,
            Web::Post(post) => post.answers(),
        }
    }

    /// The bytes to write.
    pub(crate) fn output(&mut self) -> &mut Output {
        match self {
            Web::Get(get) => get.output(),
            Web::News(news) => news.output(),
            Web::Events(events) => events.output(),
            Web::Post(post) => post.output(),
        }
    }
}

/// A GET without anything that is not needed.
fn get_request(path: &str, host: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").into_bytes()
}

/// Whether an answer has begun that will not end.
fn is_endless(responses: &Responses) -> bool {
    responses.under_way().is_some_and(|head| head.content == Content::EventStream)
}

type Done = Result<(), ResponseError>;
