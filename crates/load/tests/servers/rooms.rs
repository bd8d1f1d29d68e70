//! A Socket.IO server with one room, `t`, on both transports, with the upgrade from one to the other; what is POSTed goes to the room.

use std::collections::VecDeque;
use std::io::{BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Condvar, Mutex};

use tungstenite::protocol::Role;
use tungstenite::{Message, WebSocket};

use super::serve;
use super::web::{Copies, Request, ok};

/// How a session gets its packets.
enum Member {
    WebSocket(Box<WebSocket<TcpStream>>),
    Polling(Arc<Session>),
}

#[derive(Default)]
struct Session {
    packets: Mutex<VecDeque<String>>,
    said: Condvar,
}

#[derive(Default)]
struct Server {
    sessions: Mutex<Vec<Arc<Session>>>,
    room: Mutex<Room>,
}

#[derive(Default)]
struct Room {
    members: Vec<Arc<Mutex<Member>>>,
    published: u64,
}

impl Member {
    fn say(&mut self, packet: &str) {
        match self {
            // Whoever has gone hears nothing.
            Member::WebSocket(socket) => drop(socket.send(Message::text(packet))),
            Member::Polling(session) => {
                session.packets.lock().unwrap().push_back(packet.to_owned());
                session.said.notify_all();
            }
        }
    }
}

/// What a receiver (in the order of joining) is sent of each event is what `copies` makes of it. `upgrades`: what is offered to who polls;
/// `joined`: the acknowledgement of who joins.
pub(crate) fn room_server(upgrades: &'static str, joined: &'static str, copies: impl Copies) -> SocketAddr {
    let server = Arc::new(Server::default());
    serve(move |stream| {
        let mut head = [0; 4096];
        let head = loop {
            let Ok(n @ 1..) = stream.peek(&mut head) else { return };
            if head[..n].windows(4).any(|end| end == b"\r\n\r\n") {
                break String::from_utf8_lossy(&head[..n]).into_owned();
            }
        };
        match head.contains("Upgrade: websocket") {
            true => server.websocket(stream, head.contains("sid="), joined),
            false => server.http(stream, upgrades, joined, &copies),
        }
    })
}

impl Server {
    fn websocket(&self, stream: TcpStream, has_session: bool, joined: &str) {
        let writing = stream.try_clone().unwrap();
        let Ok(mut socket) = tungstenite::accept(stream) else { return };
        let writer = Member::WebSocket(Box::new(WebSocket::from_raw_socket(writing, Role::Server, None)));
        let member = Arc::new(Mutex::new(writer));
        if !has_session {
            member.lock().unwrap().say(r#"0{"sid":"1","upgrades":[],"pingInterval":25000}"#);
        }
        while let Ok(message) = socket.read() {
            if let Message::Text(packet) = message {
                self.heard(&member, packet.as_str(), joined);
            }
        }
    }

    fn http(&self, stream: TcpStream, upgrades: &str, joined: &str, copies: &impl Copies) {
        let mut writer = stream.try_clone().unwrap();
        let mut reader = BufReader::new(stream);
        while let Some(request) = Request::read(&mut reader) {
            let sid = request.parameter("sid").and_then(|sid| sid.parse::<usize>().ok());
            let session = |sid: usize| Arc::clone(&self.sessions.lock().unwrap()[sid]);
            let body = match (&*request.method, request.path(), sid) {
                ("POST", "/publish", _) => self.publish(&request.body, copies),
                ("GET", _, None) => {
                    let mut sessions = self.sessions.lock().unwrap();
                    sessions.push(Arc::default());
                    format!(
                        r#"0{{"sid":"{}","upgrades":[{upgrades}],"maxPayload":1000000}}"#,
                        sessions.len() - 1
                    )
                }
                ("GET", _, Some(sid)) => {
                    let session = session(sid);
                    let packets = session.packets.lock().unwrap();
                    let mut packets = session.said.wait_while(packets, |packets| packets.is_empty()).unwrap();
                    packets.drain(..).collect::<Vec<_>>().join("\u{1e}")
                }
                (_, _, sid) => {
                    let member = Arc::new(Mutex::new(Member::Polling(session(sid.unwrap()))));
                    for packet in request.body.split('\u{1e}') {
                        self.heard(&member, packet, joined);
                    }
                    "ok".to_owned()
                }
            };
            if writer.write_all(ok("text/plain; charset=UTF-8", &body).as_bytes()).is_err() {
                return;
            }
        }
    }

    /// Does what a packet asks for.
    fn heard(&self, member: &Arc<Mutex<Member>>, packet: &str, joined: &str) {
        let answers: &[&str] = match packet {
            "2probe" => &["3probe"],
            "40" => &[r#"40{"sid":"x"}"#, r#"42["auth",{}]"#, "2"],
            r#"420["join","t"]"# => {
                // Nothing is published between the two.
                let mut room = self.room.lock().unwrap();
                room.members.push(Arc::clone(member));
                member.lock().unwrap().say(joined);
                return;
            }
            _ => &[],
        };
        answers.iter().for_each(|answer| member.lock().unwrap().say(answer));
    }

    fn publish(&self, data: &str, copies: &impl Copies) -> String {
        let mut room = self.room.lock().unwrap();
        let number = room.published;
        room.published += 1;
        for (receiver, member) in room.members.iter().enumerate() {
            for copy in copies(receiver, number, data.to_owned()) {
                let packet = format!(r#"42["message","{copy}",{{"topic":"t","id":{}}}]"#, number + 1);
                member.lock().unwrap().say(&packet);
            }
        }
        format!(r#"{{"id":{}}}"#, number + 1)
    }
}
