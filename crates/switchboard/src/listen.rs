//! Where to listen, as people write it: `9001`, `:9001`, `localhost:9001`, `0.0.0.0`, `[::1]:9001`.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};

use crate::Failure;

/// Where nothing else is said.
const USUAL_PORT: u16 = 9001;

/// What is accepted.
const FORMS: &str =
    "a port, ADDRESS:PORT or [IPV6]:PORT, such as 9001, 127.0.0.1:9001, localhost:9001 or [::]:9001";

/// The addresses that are meant, in the order in which they are tried. A port alone is one of 127.0.0.1, an address alone has port 9001. A name may
/// have several addresses: those of IPv4 come first.
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
            _ => Err("the bracket is not closed, or the port does not follow it with a colon".to_owned()),
        };
    }
    match text.split_once(':') {
        None => Ok((text, USUAL_PORT)),
        Some(("", digits)) if !digits.contains(':') => Ok(("127.0.0.1", port(digits)?)),
        // Whether the last group of `::1:9001` is a port nobody can tell.
        Some((_, rest)) if rest.contains(':') => match text.parse::<Ipv6Addr>() {
            Ok(_) => Err("an IPv6 address stands in brackets, its port behind them".to_owned()),
            Err(_) => Err("more than one colon, and no IPv6 address in brackets".to_owned()),
        },
        Some(("*", _)) => Err("`*` is no address: 0.0.0.0 is all of IPv4, [::] all of both".to_owned()),
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
}
