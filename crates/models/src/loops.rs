//! Datagrams that would be answered for ever: a server's own, and those of another server that answers as well.
//!
//! A sender's address can be forged. A datagram that names the server itself as its sender would come back to it as the next one; one that names another
//! server that answers (echo, RFC 862; chargen, RFC 864; another of these) would go to and fro between the two until one of them ends.

use std::net::{IpAddr, SocketAddr, UdpSocket};

/// Ports of a system's own services, which answer and do not ask: echo, chargen, DNS, NTP. inetd(8) answers none of them either.
const FIRST_USER_PORT: u16 = 1024;

/// So many times the same datagram is answered to the same sender, if it comes again and again; then once it is not, which is all that it takes to end a
/// loop. A client whose messages are numbered never gets there.
const REPEATS: u32 = 10_000;

/// So many other datagrams may come between two that are the same: a loop comes round sooner. After so many another is watched; a prime, since what
/// comes in turns could be passed over for ever by a number that its length divides.
const OTHERS: u32 = 4093;

/// Judges senders, for one socket.
pub(crate) struct Loops {
    own: SocketAddr,
    /// The datagram that is watched, its sender, how often it has come, and how many others have come since.
    watched: Vec<u8>,
    sender: Option<SocketAddr>,
    repeats: u32,
    others: u32,
}

impl Loops {
    pub(crate) fn new(own: SocketAddr) -> Loops {
        Loops { own, watched: Vec::new(), sender: None, repeats: 0, others: 0 }
    }

    /// Whether a sender is no client: this server itself, or a service of the system's.
    pub(crate) fn is_service(&self, sender: SocketAddr) -> bool {
        sender.port() < FIRST_USER_PORT || (sender.port() == self.own.port() && self.is_own(sender.ip()))
    }

    fn is_own(&self, ip: IpAddr) -> bool {
        let (ip, own) = (ip.to_canonical(), self.own.ip().to_canonical());
        // Bound to all addresses it has all of this machine's. Nobody can bind to another machine's.
        if own.is_unspecified() { UdpSocket::bind((ip, 0)).is_ok() } else { ip == own }
    }

    /// Takes note of a datagram, of which a comparison with the one that is watched is all that it costs. True: it has come so often from this
    /// sender that it goes round in a loop, and must not be answered.
    pub(crate) fn is_endless(&mut self, datagram: &[u8], sender: SocketAddr) -> bool {
        if self.sender == Some(sender) && self.watched == datagram {
            self.repeats += 1;
            self.others = 0;
            let is_endless = self.repeats > REPEATS;
            if is_endless {
                self.repeats = 0;
            }
            return is_endless;
        }
        self.others += 1;
        if self.others > OTHERS || self.sender.is_none() {
            self.watched.clear();
            self.watched.extend_from_slice(datagram);
            (self.sender, self.repeats, self.others) = (Some(sender), 1, 0);
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn neither_the_server_nor_a_service_of_the_systems_is_a_client() {
        let loops = Loops::new(address("127.0.0.1:9001"));
        assert!(loops.is_service(address("127.0.0.1:9001")));
        assert!(loops.is_service(address("[::ffff:127.0.0.1]:9001")));
        assert!(loops.is_service(address("192.0.2.1:7")) && loops.is_service(address("192.0.2.1:19")));
        for client in ["127.0.0.1:9002", "127.0.0.2:9001", "192.0.2.1:1024"] {
            assert!(!loops.is_service(address(client)), "{client}");
        }
        for everywhere in ["0.0.0.0:9001", "[::]:9001"] {
            let loops = Loops::new(address(everywhere));
            assert!(
                loops.is_service(address("127.0.0.1:9001")) && loops.is_service(address("127.0.0.7:9001"))
            );
            // An address for documentation (RFC 5737), which no machine has.
            assert!(!loops.is_service(address("192.0.2.1:9001")));
        }
    }

    #[test]
    fn what_goes_round_in_a_loop_is_left_unanswered_once() {
        let (mut loops, other) = (Loops::new(address("127.0.0.1:9001")), address("127.0.0.1:9002"));
        for _ in 0..3 {
            let answered = (0..).take_while(|_| !loops.is_endless(b"round", other)).count();
            assert_eq!(answered, REPEATS as usize);
        }
    }

    #[test]
    fn a_loop_is_found_among_other_datagrams_and_those_are_answered() {
        let (mut loops, other) = (Loops::new(address("127.0.0.1:9001")), address("127.0.0.1:9002"));
        let client = address("127.0.0.1:9003");
        let mut number = 0_u32;
        let rounds = (0..10 * REPEATS).take_while(|_| {
            for _ in 0..50 {
                number += 1;
                assert!(!loops.is_endless(&number.to_ne_bytes(), client));
            }
            !loops.is_endless(b"round", other)
        });
        assert!(rounds.count() < 3 * REPEATS as usize);
    }
}
