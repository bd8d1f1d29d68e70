//! One file per way in which a server waits for its connections, and the registry of them all.
//! (skeleton; the lead is writing this crate)
#![allow(missing_docs)]
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mechanism { Http, Echo, Broadcast, UdpEcho, UdpBroadcast, TcpEcho, Heartbeat }
pub struct Model {
    pub name: &'static str,
    pub about: &'static str,
    pub waits_with: &'static str,
    pub serves: &'static [Mechanism],
    pub limits: &'static [&'static str],
    pub hidden: bool,
    pub serve: fn(Listener, Arc<App>, Shutdown) -> io::Result<Tally>,
}
pub struct App;
pub struct Shutdown;
pub struct Tally;
pub struct Listener;
impl Listener {
    pub fn bind(_model: &Model, _address: SocketAddr) -> io::Result<Listener> { Ok(Listener) }
}
fn none(_: Listener, _: Arc<App>, _: Shutdown) -> io::Result<Tally> { Ok(Tally) }
use Mechanism::*;
const fn m(name: &'static str, serves: &'static [Mechanism], hidden: bool) -> Model {
    Model { name, about: "", waits_with: "", serves, limits: &[], hidden, serve: none }
}
const ALL: &[Mechanism] = &[Http, Echo, Broadcast, Heartbeat];
pub const MODELS: &[Model] = &[
    m("fork", ALL, false), m("threads", ALL, false), m("threads-direct", &[Echo], false), m("select", ALL, false),
    m("poll", ALL, false), m("epoll", ALL, false), m("udp", &[UdpEcho, UdpBroadcast], false), m("raw", &[TcpEcho], true),
];
pub fn find(name: &str) -> Option<&'static Model> { MODELS.iter().find(|model| model.name == name) }
