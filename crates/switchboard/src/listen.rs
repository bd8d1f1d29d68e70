//! Parses the address to listen on: `9001`, `:9001`, `localhost:9001`, `0.0.0.0`, `[::1]:9001`.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};

use crate::Failure;

/// The default port.
const USUAL_PORT: u16 = 9001;

/// The accepted forms.
const FORMS: &str =
    "a port, ADDRESS:PORT or [IPV6]:PORT, such as 9001, 127.0.0.1:9001, localhost:9001 or [::]:9001";

/// The addresses of `text`, in the order in which the server tries them. A port alone means that port of 127.0.0.1; an address alone means port 9001.
/// If a name has several addresses, those of IPv4 come first.
pub(crate) fn addresses(text: &str) -> Result<Vec<SocketAddr>, Failure> {
    let refused = |reason: String| Failure::new(2, format!("--listen {text}: {reason}"));
    let (host, port) = split(text.trim()).map_err(|reason| refused(format!("{reason}; it is {FORMS}")))?;
    if let Ok(address) = host.parse::<Ipv4Addr>() {
        return Ok(vec![SocketAddr::from((address, port))]);
    }
    if host.starts_with('[') {
        // With a zone, such as [fe80::1%eth0]: the system resolves that.
        let address =
            format!("{host}:{port}").to_socket_addrs().map_err(|error| refused(error.to_string()))?;
        return Ok(address.collect());
    }
    let mut addresses: Vec<SocketAddr> =
        (host, port).to_socket_addrs().map_err(|error| refused(error.to_string()))?.collect();
    addresses.sort_by_key(SocketAddr::is_ipv6);
    match addresses.is_empty() {
        true => Err(refused(format!("{host} has no address"))),
        false => Ok(addresses),
    }
}

/// The warning for an address that other machines can reach; `None` for a loopback address.
pub(crate) fn beyond_loopback(address: SocketAddr) -> Option<String> {
    let (ip, port) = (address.ip().to_canonical(), address.port());
    let reach = match ip {
        ip if ip.is_loopback() => return None,
        ip if ip.is_unspecified() => "every network of this machine".to_owned(),
        ip => format!("every machine from which {ip} can be reached"),
    };
    Some(format!(
        "warning: there is no authentication, and {address} is open to {reach}: every client may read and publish everything; \
         limit access with --listen 127.0.0.1:{port}, a firewall, or a proxy with authentication"
    ))
}

/// Host and port; an IPv6 address keeps its brackets.
fn split(text: &str) -> Result<(&str, u16), String> {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let port = |text: &str| -> Result<u16, String> {
        let port = text.parse().ok().filter(|_| is_number(text));
        port.ok_or_else(|| format!("`{text}` is not a port, a number from 0 to 65535"))
    };
    if text.is_empty() {
        return Err("no address".to_owned());
    }
    if text.contains('/') {
        return Err("a URL or a path is not an address".to_owned());
    }
    if is_number(text) {
        return Ok(("127.0.0.1", port(text)?));
    }
    if text.starts_with('[') {
        return match text.split_once(']') {
            Some((_, "")) => Ok((text, USUAL_PORT)),
            Some((host, rest)) if rest.starts_with(':') => Ok((&text[..=host.len()], port(&rest[1..])?)),
            _ => Err("the bracket is not closed, or there is no colon between it and the port".to_owned()),
        };
    }
    match text.split_once(':') {
        None => Ok((text, USUAL_PORT)),
        Some(("", digits)) if !digits.contains(':') => Ok(("127.0.0.1", port(digits)?)),
        // `::1:9001` is ambiguous: its last group may be a port.
        Some((_, rest)) if rest.contains(':') => match text.parse::<Ipv6Addr>() {
            Ok(_) => Err("write an IPv6 address in brackets, and its port after them".to_owned()),
            Err(_) => Err("more than one colon, and no IPv6 address in brackets".to_owned()),
        },
        Some(("*", _)) => {
            Err("`*` is not an address: use 0.0.0.0 for all IPv4 addresses, [::] for all of IPv4 and IPv6"
                .to_owned())
        }
        Some((host, digits)) => Ok((host, port(digits)?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write_first_is_understood() {
        for (text, expected) in [
            ("9001", "127.0.0.1:9001"),
            (":9001", "127.0.0.1:9001"),
            (" :0 ", "127.0.0.1:0"),
            ("127.0.0.1:80", "127.0.0.1:80"),
            ("0.0.0.0", "0.0.0.0:9001"),
            ("localhost:9001", "127.0.0.1:9001"),
            ("localhost", "127.0.0.1:9001"),
            ("[::1]:9001", "[::1]:9001"),
            ("[::]:0", "[::]:0"),
            ("[::1]", "[::1]:9001"),
        ] {
            let addresses = addresses(text).unwrap_or_else(|failure| panic!("{text}: {}", failure.message));
            assert_eq!(addresses[0].to_string(), expected, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_answered_with_what_can() {
        for (text, word) in [
            ("", "no address"),
            ("65536", "0 to 65535"),
            ("localhost:", "0 to 65535"),
            (":+80", "0 to 65535"),
            (":http", "0 to 65535"),
            ("::1", "in brackets"),
            ("::1:9001", "in brackets"),
            ("a:b:9001", "more than one colon"),
            ("[::1", "not closed"),
            ("[::1]9001", "colon"),
            ("*:9001", "0.0.0.0"),
            ("http://localhost:9001", "URL"),
        ] {
            let failure = addresses(text).expect_err(text);
            assert_eq!(failure.status, 2, "{text}");
            assert!(
                failure.message.contains(word) && failure.message.contains("[::]:9001"),
                "{}",
                failure.message
            );
        }
    }

    #[test]
    fn only_who_can_be_reached_from_elsewhere_is_warned() {
        let warning = |address: &str| beyond_loopback(address.parse().unwrap());
        for local in ["127.0.0.1:9001", "127.7.0.1:1", "[::1]:9001", "[::ffff:127.0.0.1]:9001"] {
            assert_eq!(warning(local), None, "{local}");
        }
        for open in ["0.0.0.0:9001", "[::]:9001", "192.0.2.7:9001", "[2001:db8::1]:9001", "[fe80::1]:9001"] {
            let text = warning(open).expect(open);
            assert!(text.contains("no authentication") && text.contains("--listen 127.0.0.1:9001"), "{text}");
            assert_eq!(text.lines().count(), 1);
        }
        assert!(warning("0.0.0.0:1").unwrap().contains("every network"));
        assert!(warning("192.0.2.7:1").unwrap().contains("192.0.2.7 can be reached"));
    }
}
