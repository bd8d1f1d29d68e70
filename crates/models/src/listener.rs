use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use switchboard_proto::App;

use crate::{Mechanism, Model};

/// Receive buffer asked for on a datagram socket: datagrams that find it full are lost. The kernel gives
/// `net.core.rmem_max` at the most.
const UDP_RECEIVE_BYTES: usize = 4 << 20;

/// Silence before the kernel's first keep-alive probe, time between probes, and number of unanswered probes before it gives up (tcp(7)).
const KEEPALIVE_AFTER: Duration = Duration::from_secs(60);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(15);
const KEEPALIVE_PROBES: u32 = 4;

/// A bound socket: listening for connections, or receiving datagrams.
#[derive(Debug)]
pub struct Listener {
    pub(crate) socket: ListenerSocket,
    local_addr: SocketAddr,
    /// Others may bind the same port: SO_REUSEPORT is set.
    is_shared: bool,
    peer_patience: Option<Duration>,
}

#[derive(Debug)]
pub(crate) enum ListenerSocket {
    Tcp { socket: TcpListener, backlog: i32 },
    Udp { socket: UdpSocket, receive_bytes: usize },
}

impl Listener {
    /// Binds the kind of socket that `model` serves. `[::]` takes IPv4 as well.
    ///
    /// # Errors
    /// The system's: the address is in use, also after 250 ms; or it is not this machine's, or not permitted.
    pub fn bind(model: &Model, address: SocketAddr, app: &App) -> io::Result<Listener> {
        let bound = while_in_use(|| Listener::bind_once(model, address, app), std::thread::sleep);
        bound.map_err(|error| match error.kind() {
            ErrorKind::AddrInUse => {
                let port = address.port();
                let text = format!(
                    "{error}: another process uses port {port} (find it with `ss -lntup 'sport = {port}'`); end that process, or choose another port with --listen"
                );
                io::Error::new(ErrorKind::AddrInUse, text)
            }
            _ => error,
        })
    }

    fn bind_once(model: &Model, address: SocketAddr, app: &App) -> io::Result<Listener> {
        // If the model has no timers for its peers, the kernel must not time them out either.
        let has_timers = model.serves.contains(&Mechanism::Heartbeat);
        let peer_patience = app.peer_patience().filter(|_| has_timers);
        let is_datagram = model.serves.contains(&Mechanism::UdpEcho);
        let is_shared = model.reuses_port;
        if is_shared && address.port() != 0 {
            // Whoever has the port may have it shared too, and then two servers would take turns unnoticed.
            drop(Listener::open(address, is_datagram, false, peer_patience)?);
        }
        Listener::open(address, is_datagram, is_shared, peer_patience)
    }

    fn open(
        address: SocketAddr,
        is_datagram: bool,
        is_shared: bool,
        peer_patience: Option<Duration>,
    ) -> io::Result<Listener> {
        let domain = Domain::for_address(address);
        let socket = if is_datagram {
            Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?
        } else {
            Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?
        };
        if address.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        if is_shared {
            socket.set_reuse_port(true)?;
        }
        let socket = if is_datagram {
            socket.set_recv_buffer_size(UDP_RECEIVE_BYTES)?;
            socket.bind(&address.into())?;
            let receive_bytes = socket.recv_buffer_size()?;
            ListenerSocket::Udp { socket: UdpSocket::from(socket), receive_bytes }
        } else {
            socket.set_reuse_address(true)?;
            // Connections inherit these from the listener on Linux: no system call for each.
            socket.set_tcp_nodelay(true)?;
            let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_AFTER).with_interval(KEEPALIVE_EVERY);
            socket.set_tcp_keepalive(&keepalive.with_retries(KEEPALIVE_PROBES))?;
            // A time beyond the range of the option, an i32 of milliseconds, is not set.
            let peer_patience = peer_patience.filter(|time| time.as_millis() <= i32::MAX as u128);
            socket.set_tcp_user_timeout(peer_patience)?;
            socket.bind(&address.into())?;
            let backlog = longest_backlog();
            socket.listen(backlog)?;
            ListenerSocket::Tcp { socket: TcpListener::from(socket), backlog }
        };
        let local_addr = match &socket {
            ListenerSocket::Tcp { socket, .. } => socket.local_addr()?,
            ListenerSocket::Udp { socket, .. } => socket.local_addr()?,
        };
        Ok(Listener { socket, local_addr, is_shared, peer_patience })
    }

    /// This and others on the same port, `n` in all, among which the kernel spreads what comes (SO_REUSEPORT, socket(7)).
    pub(crate) fn times(self, n: usize) -> io::Result<Vec<Listener>> {
        debug_assert!(self.is_shared, "the model says that it reuses the port");
        let is_datagram = matches!(self.socket, ListenerSocket::Udp { .. });
        let (address, peer_patience) = (self.local_addr, self.peer_patience);
        let others = (1..n).map(|_| Listener::open(address, is_datagram, true, peer_patience));
        std::iter::once(Ok(self)).chain(others).collect()
    }

    /// Why this kernel cannot have several listeners on one port, if it cannot.
    pub(crate) fn obstacle() -> Option<String> {
        let shared =
            Socket::new(Domain::IPV4, Type::STREAM, None).and_then(|socket| socket.set_reuse_port(true));
        shared.err().map(|error| format!("SO_REUSEPORT: {error}; it needs Linux 3.9"))
    }

    /// The address with the real port, where port 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    pub(crate) fn into_tcp(self) -> io::Result<TcpListener> {
        match self.socket {
            ListenerSocket::Tcp { socket, .. } => Ok(socket),
            ListenerSocket::Udp { .. } => Err(io::Error::other("this model needs a listener for TCP")),
        }
    }

    pub(crate) fn into_udp(self) -> io::Result<UdpSocket> {
        match self.socket {
            ListenerSocket::Udp { socket, .. } => Ok(socket),
            ListenerSocket::Tcp { .. } => Err(io::Error::other("this model needs a socket for UDP")),
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.socket {
            ListenerSocket::Tcp { socket, .. } => socket.as_fd(),
            ListenerSocket::Udp { socket, .. } => socket.as_fd(),
        }
    }
}

/// What the socket was set to, for the log: `backlog 4096`.
impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.socket {
            ListenerSocket::Tcp { backlog, .. } => write!(f, "backlog {backlog}"),
            ListenerSocket::Udp { receive_bytes, .. } => write!(f, "receive buffer {receive_bytes} bytes"),
        }
    }
}

/// Number of retries for an address in use, and the pause between them.
const RETRIES: u32 = 50;
const PAUSE: Duration = Duration::from_millis(5);

/// Tries to bind, and retries for 250 ms while the address is in use: the kernel may still be cleaning up a server that was killed. For io_uring(7) it does
/// so after the process has gone.
fn while_in_use<T>(
    mut bind: impl FnMut() -> io::Result<T>,
    mut pause: impl FnMut(Duration),
) -> io::Result<T> {
    for _ in 0..RETRIES {
        match bind() {
            Err(error) if error.kind() == ErrorKind::AddrInUse => pause(PAUSE),
            result => return result,
        }
    }
    bind()
}

/// The longest queue of connections not accepted yet that the system allows (listen(2)).
fn longest_backlog() -> i32 {
    let somaxconn = std::fs::read_to_string("/proc/sys/net/core/somaxconn");
    somaxconn.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(nix::libc::SOMAXCONN)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv6Addr, TcpStream};

    use super::*;

    #[test]
    fn a_port_that_is_in_use_is_tried_again_for_a_quarter_of_a_second_and_no_longer() {
        for (in_use, expected) in [(0, Ok(())), (3, Ok(())), (u32::MAX, Err(ErrorKind::AddrInUse))] {
            let (mut tries, mut paused) = (0, Duration::ZERO);
            let bind = || {
                tries += 1;
                if tries > in_use { Ok(()) } else { Err(ErrorKind::AddrInUse.into()) }
            };
            let bound = while_in_use(bind, |pause| paused += pause).map_err(|error: io::Error| error.kind());
            assert_eq!((bound, paused), (expected, PAUSE * in_use.min(RETRIES)));
        }
        assert_eq!(PAUSE * RETRIES, Duration::from_millis(250));
        let mut tries = 0;
        let bind = || {
            tries += 1;
            io::Result::<()>::Err(ErrorKind::PermissionDenied.into())
        };
        let bound = while_in_use(bind, |_| panic!("there is nothing to wait for"));
        assert_eq!((bound.map_err(|error| error.kind()), tries), (Err(ErrorKind::PermissionDenied), 1));
    }

    #[test]
    fn a_port_that_another_has_is_called_in_use_with_a_way_out() {
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = other.local_addr().unwrap();
        let error = Listener::bind(&crate::epoll::MODEL, address, &App::default()).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        let text = error.to_string();
        assert!(text.contains("in use") && text.contains("--listen"), "{text}");
    }

    #[test]
    fn accepted_connections_do_not_wait_to_fill_segments() {
        let listener =
            Listener::bind(&crate::epoll::MODEL, "127.0.0.1:0".parse().unwrap(), &App::default()).unwrap();
        let _client = TcpStream::connect(listener.local_addr()).unwrap();
        let (accepted, _) = listener.into_tcp().unwrap().accept().unwrap();
        assert!(accepted.nodelay().unwrap());
    }

    #[test]
    fn the_system_looks_after_peers_that_vanish() {
        let accept = |model, app: &App| {
            let listener = Listener::bind(model, "127.0.0.1:0".parse().unwrap(), app).unwrap();
            let client = TcpStream::connect(listener.local_addr()).unwrap();
            let (accepted, _) = listener.into_tcp().unwrap().accept().unwrap();
            (client, Socket::from(accepted))
        };
        let app = App::default();
        let (_client, accepted) = accept(&crate::epoll::MODEL, &app);
        assert!(accepted.keepalive().unwrap());
        assert_eq!(accepted.tcp_keepalive_time().unwrap(), KEEPALIVE_AFTER);
        assert_eq!(accepted.tcp_keepalive_interval().unwrap(), KEEPALIVE_EVERY);
        assert_eq!(accepted.tcp_keepalive_retries().unwrap(), KEEPALIVE_PROBES);
        // Longer than what a slow reader is granted, who is closed in order.
        let patience = accepted.tcp_user_timeout().unwrap().expect("it is set");
        assert!(patience > 3 * app.heartbeat.unwrap() && patience > 2 * app.sse_heartbeat, "{patience:?}");
        // Where time closes no WebSocket the system does not either.
        let forever = App { heartbeat: None, ..App::default() };
        for (model, app) in [(&crate::epoll::MODEL, &forever), (&crate::raw::MODEL, &app)] {
            let (_client, accepted) = accept(model, app);
            assert!(accepted.keepalive().unwrap());
            assert_eq!(accepted.tcp_user_timeout().unwrap(), None);
        }
    }

    #[test]
    fn the_unspecified_ipv6_address_takes_ipv4_too() {
        let Ok(listener) =
            Listener::bind(&crate::epoll::MODEL, (Ipv6Addr::UNSPECIFIED, 0).into(), &App::default())
        else {
            switchboard_console::log!("this machine has no IPv6: nothing to test");
            return;
        };
        TcpStream::connect(("127.0.0.1", listener.local_addr().port())).unwrap();
    }
}
