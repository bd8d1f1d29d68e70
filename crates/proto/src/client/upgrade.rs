//! How a Socket.IO connection comes from polling to a WebSocket (<https://socket.io/docs/v4/engine-io-protocol/#upgrade>): a GET opens the
//! session, and a WebSocket that names it is probed and takes over.
//!
//! Clients in browsers go on polling meanwhile. This one has nothing to say before it has the WebSocket, so no GET is held and none need be waited for.

use serde::Deserialize;

use super::polling::session_id;
use crate::{Client, ClientPlan, Output, PollingError, Responses, socketio};

/// The GET by which a session is opened that is to go on over a WebSocket.
#[derive(Debug)]
pub struct UpgradingClient {
    output: Output,
    responses: Responses,
    plan: ClientPlan,
}

/// What came of it.
#[derive(Debug)]
pub enum Opened {
    /// The client of the WebSocket that takes over: on a connection of its own, which has not been written to. It is open when the server has agreed.
    Client(Box<Client>),
    /// The server does not let us in, does not upgrade, or speaks something else: what came instead.
    Rejected(String),
}

/// What of the packet that opens a session is looked at.
#[derive(Deserialize)]
struct Handshake {
    #[serde(default)]
    upgrades: Vec<String>,
}

impl UpgradingClient {
    /// A connection that was just opened; the request is in the output. The plan's path ends with a query without `transport`.
    pub fn new(plan: &ClientPlan) -> UpgradingClient {
        let mut output = Output::retaining();
        let ClientPlan { path, host, .. } = plan;
        output.copy(format!("GET {path}&transport=polling HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes());
        UpgradingClient { output, responses: Responses::new(plan.max_message_bytes), plan: plan.clone() }
    }

    /// Takes what has come; `None` as long as it is not all of the answer. `seed` as for [`Client::new`].
    ///
    /// # Errors
    /// What the server did wrong. The connection cannot go on.
    pub fn receive(&mut self, mut input: &[u8], seed: u64) -> Result<Option<Opened>, PollingError> {
        let Some(response) = self.responses.next(&mut input)? else { return Ok(None) };
        let (status, body) = (response.head.status, response.body);
        let opened = body.strip_prefix(b"0").filter(|_| status == 200);
        let handshake = opened.and_then(|json| serde_json::from_slice::<Handshake>(json).ok());
        let sid = session_id(body).map(str::to_owned);
        let shown = socketio::shown(body);
        let described = || self.responses.described();
        Ok(Some(match (handshake, sid) {
            (Some(Handshake { upgrades }), Some(sid)) if upgrades.iter().any(|to| to == "websocket") => {
                let path = format!("{}&transport=websocket&sid={sid}", self.plan.path);
                let plan = ClientPlan { path, ..self.plan.clone() };
                Opened::Client(Box::new(Client::upgrading(&plan, seed)))
            }
            (Some(_), Some(_)) => {
                Opened::Rejected(format!("{} which offers no upgrade to websocket: {shown}", described()))
            }
            _ => Opened::Rejected(format!("{}: {}", described(), shown.escape_debug())),
        }))
    }

    /// The connection has ended. An answer without a length ends with it.
    ///
    /// # Errors
    /// The answer is not complete.
    pub fn end(&mut self, seed: u64) -> Result<Option<Opened>, PollingError> {
        self.responses.finish()?;
        self.receive(&[], seed)
    }

    /// Requests that were answered so far.
    pub fn answers(&self) -> u64 {
        self.responses.answers()
    }

    /// The bytes to write.
    pub fn output(&mut self) -> &mut Output {
        &mut self.output
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ClientEvent, Dialect};

    fn client() -> UpgradingClient {
        UpgradingClient::new(&ClientPlan {
            host: "h:1".into(),
            path: "/socket.io/?EIO=4".into(),
            max_message_bytes: 1 << 20,
            dialect: Dialect::SocketIo,
        })
    }

    fn answer(body: &str) -> String {
        format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    }

    fn written(output: &mut Output) -> Vec<u8> {
        let bytes = output.single().unwrap_or_default().to_vec();
        output.consume(bytes.len());
        bytes
    }

    #[test]
    fn a_session_is_opened_by_a_get_and_a_websocket_takes_over() {
        let mut polling = client();
        assert!(
            written(polling.output()).starts_with(b"GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\n")
        );
        let whole = answer(r#"0{"sid":"a_1","upgrades":["websocket"],"pingInterval":25000}"#);
        let (first, rest) = whole.split_at(30);
        assert!(polling.receive(first.as_bytes(), 7).unwrap().is_none());
        let Some(Opened::Client(mut client)) = polling.receive(rest.as_bytes(), 7).unwrap() else { panic!() };
        let request = String::from_utf8(written(client.output())).unwrap();
        assert!(
            request.starts_with("GET /socket.io/?EIO=4&transport=websocket&sid=a_1 HTTP/1.1\r\n"),
            "{request}"
        );
        let key = request.split("Sec-WebSocket-Key: ").nth(1).unwrap().split("\r\n").next().unwrap();
        let accept = crate::websocket::accept_key(key.as_bytes());
        let head = format!(
            "HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
        );
        assert_eq!(client.next(&mut &mut *head.into_bytes()).unwrap(), None);
        // A masked frame of six bytes.
        assert_eq!(written(client.output()).len(), 2 + 4 + 6);
        assert_eq!(client.next(&mut &mut *b"\x81\x063probe".to_vec()).unwrap(), None);
        // The upgrade, and the namespace behind it.
        assert_eq!(written(client.output()).len(), (2 + 4 + 1) + (2 + 4 + 2));
        assert_eq!(client.next(&mut &mut *b"\x81\x0240".to_vec()).unwrap(), Some(ClientEvent::Upgraded));
    }

    #[test]
    fn a_server_that_does_not_upgrade_is_told_by_what_it_said() {
        for (body, words) in [
            (r#"0{"sid":"a","upgrades":[]}"#, "offers no upgrade to websocket: 0{"),
            (r#"0{"sid":"a b","upgrades":["websocket"]}"#, "200 OK (text/plain): 0{"),
            ("<html>", "200 OK (text/plain): <html>"),
        ] {
            let opened = client().receive(answer(body).as_bytes(), 7).unwrap();
            let Some(Opened::Rejected(said)) = opened else { panic!("{opened:?}") };
            assert!(said.contains(words), "{said}");
        }
        let opened = client().receive(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", 7).unwrap();
        let Some(Opened::Rejected(said)) = opened else { panic!("{opened:?}") };
        assert_eq!(said, "404 Not Found: ");
    }
}
