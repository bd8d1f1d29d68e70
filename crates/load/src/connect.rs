//! Opening sockets: non-blocking, and from several source addresses where one has too few ports.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

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
