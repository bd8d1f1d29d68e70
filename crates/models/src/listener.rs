use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};

use socket2::{Domain, Protocol, Socket, Type};

use crate::{Mechanism, Model};

/// Receive buffer asked for on a datagram socket: datagrams that find it full are lost. The kernel gives
/// `net.core.rmem_max` at the most.
const UDP_RECEIVE_BYTES: usize = 4 << 20;

/// A bound socket: listening for connections, or receiving datagrams.
#[derive(Debug)]
pub struct Listener {
    pub(crate) socket: ListenerSocket,
    local_addr: SocketAddr,
    /// Others may bind the same port: SO_REUSEPORT is set.
    is_shared: bool,
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
    /// The system's: the address is in use, not this machine's, or not permitted.
    pub fn bind(model: &Model, address: SocketAddr) -> io::Result<Listener> {
        let is_datagram = model.serves.contains(&Mechanism::UdpEcho);
        let is_shared = model.reuses_port;
        if is_shared && address.port() != 0 {
            // Whoever has the port may have it shared too, and then two servers would take turns unnoticed.
            drop(Listener::open(address, is_datagram, false)?);
        }
        Listener::open(address, is_datagram, is_shared)
    }

    fn open(address: SocketAddr, is_datagram: bool, is_shared: bool) -> io::Result<Listener> {
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
            // Connections inherit this from the listener on Linux: one system call less for each.
            socket.set_tcp_nodelay(true)?;
            socket.bind(&address.into())?;
            let backlog = longest_backlog();
            socket.listen(backlog)?;
            ListenerSocket::Tcp { socket: TcpListener::from(socket), backlog }
        };
        let local_addr = match &socket {
            ListenerSocket::Tcp { socket, .. } => socket.local_addr()?,
            ListenerSocket::Udp { socket, .. } => socket.local_addr()?,
        };
        Ok(Listener { socket, local_addr, is_shared })
    }

    /// This and others on the same port, `n` in all, among which the kernel spreads what comes (SO_REUSEPORT, socket(7)).
    pub(crate) fn times(self, n: usize) -> io::Result<Vec<Listener>> {
        debug_assert!(self.is_shared, "the model says that it reuses the port");
        let is_datagram = matches!(self.socket, ListenerSocket::Udp { .. });
        let address = self.local_addr;
        let others = (1..n).map(|_| Listener::open(address, is_datagram, true));
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
    fn accepted_connections_do_not_wait_to_fill_segments() {
        let listener = Listener::bind(&crate::epoll::MODEL, "127.0.0.1:0".parse().unwrap()).unwrap();
        let _client = TcpStream::connect(listener.local_addr()).unwrap();
        let (accepted, _) = listener.into_tcp().unwrap().accept().unwrap();
        assert!(accepted.nodelay().unwrap());
    }

    #[test]
    fn the_unspecified_ipv6_address_takes_ipv4_too() {
        let Ok(listener) = Listener::bind(&crate::epoll::MODEL, (Ipv6Addr::UNSPECIFIED, 0).into()) else {
            switchboard_console::log!("this machine has no IPv6: nothing to test");
            return;
        };
        TcpStream::connect(("127.0.0.1", listener.local_addr().port())).unwrap();
    }
}
