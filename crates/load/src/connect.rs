//! Opening sockets: non-blocking, and from several source addresses where one has too few ports.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

/// Connections that leave from one loopback address. An address has 28,232 ports by default, but those of
/// connections that were closed lately are not free yet.
const PER_SOURCE: u32 = 8192;

/// Which of the loopback addresses a connection leaves from.
pub(crate) fn source_of(connection: u32) -> u32 {
    connection / PER_SOURCE
}

/// Connections that come and go use these many loopback addresses in turn: a port is taken for a minute after its connection was closed.
pub(crate) const SOURCES: u32 = 240;

/// How long is waited for an answer of one address before the next is tried, and for a port to say that nobody takes datagrams there.
pub(crate) const NEXT_ADDRESS: Duration = Duration::from_secs(1);
const NEXT_DATAGRAM_ADDRESS: Duration = Duration::from_millis(100);

/// Addresses of a name that are tried.
const MOST_ADDRESSES: usize = 64;

/// The addresses of a server, in the order in which they are tried: the name's resolution has sorted them (RFC 6724). Connections that one address
/// refuses go to the next; once one has answered, all go there. This is RFC 8305 ("happy eyeballs") without the race.
#[derive(Debug)]
pub(crate) struct Route {
    addresses: Box<[SocketAddr]>,
    current: AtomicU16,
    is_settled: AtomicBool,
}

impl Route {
    /// There is at least one address.
    pub(crate) fn new(mut addresses: Vec<SocketAddr>) -> Route {
        addresses.truncate(MOST_ADDRESSES);
        debug_assert!(!addresses.is_empty(), "a name without an address is an error");
        let is_settled = AtomicBool::new(addresses.len() == 1);
        Route { addresses: addresses.into(), current: AtomicU16::new(0), is_settled }
    }

    /// The address to connect to now, and its place.
    pub(crate) fn current(&self) -> (u16, SocketAddr) {
        let place = self.current.load(Ordering::Relaxed);
        (place, self.addresses[usize::from(place)])
    }

    /// Whether there is more than one address, of which it is not known yet which is the right one.
    pub(crate) fn is_open_question(&self) -> bool {
        !self.is_settled.load(Ordering::Relaxed)
    }

    /// An address has answered.
    pub(crate) fn settle(&self, place: u16) {
        if !self.is_settled.swap(true, Ordering::Relaxed) {
            self.current.store(place, Ordering::Relaxed);
        }
    }

    /// The address at `place` has refused, or does not answer. True: there is another one to try.
    pub(crate) fn try_next(&self, place: u16) -> bool {
        if !self.is_settled.load(Ordering::Relaxed) && usize::from(place) + 1 < self.addresses.len() {
            self.current.fetch_max(place + 1, Ordering::Relaxed);
        }
        self.current.load(Ordering::Relaxed) > place
    }

    /// Finds the first address at which somebody takes datagrams, or where nothing says otherwise. An empty datagram is what a receiver announces itself
    /// by.
    pub(crate) fn probe_datagrams(&self) {
        for (place, address) in (0..).zip(&self.addresses) {
            let unspecified: SocketAddr = match address {
                SocketAddr::V4(_) => ([0; 4], 0).into(),
                SocketAddr::V6(_) => ([0u16; 8], 0).into(),
            };
            let is_refused = UdpSocket::bind(unspecified).and_then(|socket| {
                socket.connect(address)?;
                socket.set_read_timeout(Some(NEXT_DATAGRAM_ADDRESS))?;
                socket.send(&[])?;
                socket.recv(&mut [0; 1])
            });
            match is_refused {
                Err(error)
                    if !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
                _ => return self.settle(place),
            }
        }
    }
}

/// Begins to connect from a source address; the socket is writable when that has succeeded or failed. `receive_bytes`: the size
/// of its receive buffer, if it is not to be the usual one.
pub(crate) fn tcp(
    address: SocketAddr,
    source: u32,
    receive_bytes: Option<usize>,
) -> io::Result<mio::net::TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    if let Some(bytes) = receive_bytes {
        socket.set_recv_buffer_size(bytes)?;
    }
    bind_source(&socket, address, source)?;
    match socket.connect(&address.into()) {
        Err(error) if error.raw_os_error() != Some(nix::libc::EINPROGRESS) => Err(error),
        _ => Ok(mio::net::TcpStream::from_std(socket.into())),
    }
}

/// A socket that sends to the target and hears nobody else.
pub(crate) fn udp(address: SocketAddr, source: u32) -> io::Result<mio::net::UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    bind_source(&socket, address, source)?;
    socket.connect(&address.into())?;
    Ok(mio::net::UdpSocket::from_std(socket.into()))
}

/// Every address in 127.0.0.0/8 is this machine: beyond the first few thousand connections use the next ones.
fn bind_source(socket: &Socket, address: SocketAddr, source: u32) -> io::Result<()> {
    match (address.ip(), source) {
        (IpAddr::V4(address), further @ 1..) if address.is_loopback() => {
            // The port is chosen when the target is known: it need not be free for all others.
            nix::sys::socket::setsockopt(socket, nix::sys::socket::sockopt::IpBindAddressNoPort, &true)?;
            let source = Ipv4Addr::from(u32::from(Ipv4Addr::LOCALHOST) + further);
            socket.bind(&SocketAddr::from((source, 0)).into())
        }
        _ => Ok(()),
    }
}

/// What to call a failure to open a connection, and what it means.
pub(crate) fn kind(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(nix::libc::EMFILE | nix::libc::ENFILE) => {
            "descriptors: raise ulimit -n or use fewer connections".into()
        }
        Some(nix::libc::EADDRNOTAVAIL) => {
            "ports: this source address has no free port left (net.ipv4.ip_local_port_range)".into()
        }
        _ => match error.kind() {
            io::ErrorKind::ConnectionRefused => "connection refused".into(),
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => "reset".into(),
            _ => error.to_string(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(count: u16) -> Route {
        Route::new((1..=count).map(|port| SocketAddr::from(([127, 0, 0, 1], port))).collect())
    }

    #[test]
    fn addresses_are_tried_in_order_until_one_answers() {
        let route = route(3);
        assert_eq!(route.current().0, 0);
        assert!(route.try_next(0));
        // A connection that finds this out later uses the same address.
        assert!(route.try_next(0));
        assert_eq!(route.current().0, 1);
        route.settle(1);
        assert!(!route.try_next(1), "it has answered: what fails now is a failure");
        assert!(route.try_next(0), "one that was on its way to the first goes where the others are");
        assert_eq!(route.current(), (1, SocketAddr::from(([127, 0, 0, 1], 2))));
        assert!(!self::route(1).try_next(0));
        let none = self::route(2);
        assert!(none.try_next(0) && !none.try_next(1));
    }

    #[test]
    fn datagrams_go_to_the_first_address_that_does_not_refuse_them() {
        let open = UdpSocket::bind("127.0.0.1:0").unwrap();
        let closed = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let route = Route::new(vec![closed, open.local_addr().unwrap(), closed]);
        route.probe_datagrams();
        assert_eq!(route.current().0, 1);
    }
}
