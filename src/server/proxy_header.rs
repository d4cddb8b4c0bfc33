//! PROXY protocol, versions 1 and 2: the header by which a proxy says where a connection
//! comes from. Pure: bytes in, the address out.
//!
//! A header is read to its end and no further, so what follows it is left for whoever
//! reads next.

use core::{
    error::Error,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

/// How a header of version 1 begins.
const V1_PREFIX: &[u8] = b"PROXY ";

/// The longest header of version 1, with its line break.
const V1_BYTES_MAX: usize = 107;

/// How a header of version 2 begins.
const V2_SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// What a header of version 2 has before its addresses, in bytes.
const V2_HEAD_BYTES: usize = 16;

/// The longest header that is read, in bytes: room for what proxies add to the addresses.
pub(super) const HEADER_BYTES_MAX: usize = 4_096;

/// A whole header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// How long it is, in bytes.
    pub(super) bytes: usize,
    /// Where the connection comes from. `None` for one of the proxy's own, such as a check
    /// of the server's health.
    pub(super) source: Option<SocketAddr>,
}

/// Why bytes are no header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BadHeader(pub(super) &'static str);

/// A header that is longer than [`HEADER_BYTES_MAX`].
pub(super) const TOO_LONG: BadHeader = BadHeader("bad PROXY header: it is longer than 4096 bytes");

impl fmt::Display for BadHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl Error for BadHeader {}

/// Whether bytes begin as a header does, as far as they go; at least one is needed.
pub(super) fn begins_header(bytes: &[u8]) -> bool {
    !bytes.is_empty() && (agrees(bytes, V1_PREFIX) || agrees(bytes, V2_SIGNATURE))
}

/// Reads the header that `bytes` begin with; `None` if all of them belong to one that is
/// not whole yet.
pub(super) fn parse(bytes: &[u8]) -> Result<Option<Header>, BadHeader> {
    if agrees(bytes, V1_PREFIX) {
        parse_v1(bytes)
    } else if agrees(bytes, V2_SIGNATURE) {
        parse_v2(bytes)
    } else {
        Err(BadHeader(
            "there is no PROXY header, and --proxy-from names this address",
        ))
    }
}

/// Whether one of them begins with the other.
fn agrees(bytes: &[u8], prefix: &[u8]) -> bool {
    bytes
        .iter()
        .zip(prefix)
        .all(|(byte, expected)| byte == expected)
}

fn parse_v1(bytes: &[u8]) -> Result<Option<Header>, BadHeader> {
    let start = bytes.get(..V1_BYTES_MAX).unwrap_or(bytes);
    let Some(end) = start.iter().position(|&byte| byte == b'\n') else {
        return match bytes.len() < V1_BYTES_MAX {
            true => Ok(None),
            false => Err(BadHeader("bad PROXY header: its line does not end")),
        };
    };
    let line = start.get(..end).and_then(|line| line.strip_suffix(b"\r"));
    let line = line.ok_or(BadHeader(
        "bad PROXY header: its line ends without a carriage return",
    ))?;
    let line =
        core::str::from_utf8(line).map_err(|_| BadHeader("bad PROXY header: it is no text"))?;
    let header = |source| {
        let bytes = end + 1;
        Ok(Some(Header { bytes, source }))
    };
    let words: Vec<&str> = line.split(' ').collect();
    match words[..] {
        ["PROXY", "UNKNOWN", ..] => header(None),
        [
            "PROXY",
            family @ ("TCP4" | "TCP6"),
            source,
            target,
            port,
            target_port,
        ] => {
            let is_v6 = family == "TCP6";
            let source = address(source, is_v6)?;
            address(target, is_v6)?;
            self::port(target_port)?;
            header(Some(SocketAddr::new(source, self::port(port)?)))
        }
        _ => Err(BadHeader(
            "bad PROXY header: it has other words than addresses and ports",
        )),
    }
}

fn address(text: &str, is_v6: bool) -> Result<IpAddr, BadHeader> {
    let address = IpAddr::from_str(text).ok();
    address
        .filter(|address| address.is_ipv6() == is_v6)
        .ok_or(BadHeader(
            "bad PROXY header: an address in it is none of its family",
        ))
}

fn port(text: &str) -> Result<u16, BadHeader> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let port = text.parse().ok().filter(|_| is_number);
    port.ok_or(BadHeader(
        "bad PROXY header: a port in it is no number from 0 to 65535",
    ))
}

fn parse_v2(bytes: &[u8]) -> Result<Option<Header>, BadHeader> {
    // Each of these may decide that it is none, before all are there.
    let command = match bytes.get(12) {
        None => return Ok(None),
        Some(0x20) => Command::Local,
        Some(0x21) => Command::Proxy,
        Some(byte) if byte >> 4 != 2 => {
            return Err(BadHeader("bad PROXY header: its version is not 1 or 2"));
        }
        Some(_) => {
            return Err(BadHeader(
                "bad PROXY header: its command is not LOCAL or PROXY",
            ));
        }
    };
    let family = match bytes.get(13) {
        None => return Ok(None),
        Some(0x11) => Family::V4,
        Some(0x21) => Family::V6,
        // UNSPEC, and Unix sockets, which have no address.
        Some(0x00 | 0x31 | 0x32) => Family::None,
        Some(_) if command == Command::Local => Family::None,
        Some(_) => return Err(BadHeader("bad PROXY header: its transport is not TCP")),
    };
    let (Some(&high), Some(&low)) = (bytes.get(14), bytes.get(15)) else {
        return Ok(None);
    };
    let body_bytes = usize::from(u16::from_be_bytes([high, low]));
    let header_bytes = V2_HEAD_BYTES + body_bytes;
    if header_bytes > HEADER_BYTES_MAX {
        return Err(TOO_LONG);
    }
    let addresses_bytes = match (command, family) {
        (Command::Proxy, Family::V4) => 12,
        (Command::Proxy, Family::V6) => 36,
        _ => 0,
    };
    if body_bytes < addresses_bytes {
        return Err(BadHeader(
            "bad PROXY header: it is too short for its addresses",
        ));
    }
    let Some(body) = bytes.get(V2_HEAD_BYTES..header_bytes) else {
        return Ok(None);
    };
    let source = match (command, family) {
        (Command::Proxy, Family::V4) => source::<4>(body, 8).map(|(ip, port)| {
            let ip = Ipv4Addr::from(ip);
            SocketAddr::new(ip.into(), port)
        }),
        (Command::Proxy, Family::V6) => source::<16>(body, 32).map(|(ip, port)| {
            let ip = Ipv6Addr::from(ip);
            SocketAddr::new(ip.into(), port)
        }),
        _ => None,
    };
    let bytes = header_bytes;
    Ok(Some(Header { bytes, source }))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Command {
    /// The proxy speaks for itself.
    Local,
    /// It speaks for a client.
    Proxy,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    None,
    V4,
    V6,
}

/// The source address at the start of the addresses, and its port at `port_at`.
fn source<const N: usize>(body: &[u8], port_at: usize) -> Option<([u8; N], u16)> {
    let address = *body.first_chunk::<N>()?;
    let port = *body.get(port_at..)?.first_chunk::<2>()?;
    Some((address, u16::from_be_bytes(port)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).expect("short").to_be_bytes();
        [V2_SIGNATURE, &[command, family], &length, body].concat()
    }

    /// Headers, and where they say that the connection comes from.
    fn headers() -> Vec<(Vec<u8>, Option<&'static str>)> {
        let v4 = [192, 0, 2, 1, 198, 51, 100, 9, 0x9c, 0xb0, 0x1c, 0x3b];
        let mut v6 = [0; 36];
        (v6[0], v6[1], v6[2], v6[3], v6[15]) = (0x20, 0x01, 0x0d, 0xb8, 1);
        (v6[32], v6[33]) = (0x9c, 0xb0);
        let with_more = [&v4[..], &[0xea, 0, 2, 7, 7]].concat();
        vec![
            (
                b"PROXY TCP4 192.0.2.1 198.51.100.9 40112 7227\r\n".to_vec(),
                Some("192.0.2.1:40112"),
            ),
            (
                b"PROXY TCP6 2001:db8::1 ::1 40112 7227\r\n".to_vec(),
                Some("[2001:db8::1]:40112"),
            ),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN what ever 1 2\r\n".to_vec(), None),
            (v2(0x21, 0x11, &v4), Some("192.0.2.1:40112")),
            (v2(0x21, 0x11, &with_more), Some("192.0.2.1:40112")),
            (v2(0x21, 0x21, &v6), Some("[2001:db8::1]:40112")),
            (v2(0x21, 0x31, &[0; 216]), None),
            (v2(0x20, 0x00, &[]), None),
            (v2(0x20, 0x11, &v4), None),
        ]
    }

    #[test]
    fn a_header_is_read_to_its_end_and_no_further() {
        for (header, source) in headers() {
            let source = source.map(|source| source.parse().expect("an address"));
            let bytes = header.len();
            let followed = [&header[..], b"\x07\x0a\x05\x0a\x03bob"].concat();
            assert_eq!(parse(&followed), Ok(Some(Header { bytes, source })));
            // Cut at each byte.
            for cut in 0..bytes {
                assert_eq!(parse(&header[..cut]), Ok(None), "{cut} of {header:?}");
                assert_eq!(begins_header(&header[..cut]), cut > 0);
            }
        }
    }

    #[test]
    fn bad_headers_are_refused() {
        let long = [b"PROXY TCP4 ".to_vec(), vec![b'1'; 200]].concat();
        let bad: &[&[u8]] = &[
            b"GET / HTTP/1.1\r\n",
            b"PROXY\r\n",
            b"PROXY \r\n",
            b"PROXY TCP4 192.0.2.1 198.51.100.9 40112 7227\n",
            b"PROXY TCP4 192.0.2.1 198.51.100.9 40112\r\n",
            b"PROXY TCP4 192.0.2.1  198.51.100.9 40112 7227\r\n",
            b"PROXY TCP4 2001:db8::1 ::1 40112 7227\r\n",
            b"PROXY TCP6 192.0.2.1 198.51.100.9 40112 7227\r\n",
            b"PROXY TCP4 192.0.2.1 198.51.100.9 65536 7227\r\n",
            b"PROXY TCP4 192.0.2.1 198.51.100.9 +1 7227\r\n",
            b"PROXY TCP4 192.0.2.256 198.51.100.9 1 7227\r\n",
            b"PROXY UDP4 192.0.2.1 198.51.100.9 1 7227\r\n",
            b"PROXY TCP4 \xff 198.51.100.9 1 7227\r\n",
            &long,
            &v2(0x11, 0x11, &[0; 12]),
            &v2(0x22, 0x11, &[0; 12]),
            &v2(0x21, 0x12, &[0; 12]),
            &v2(0x21, 0x11, &[0; 11]),
            &v2(0x21, 0x21, &[0; 35]),
            &v2(0x21, 0x11, &[0; HEADER_BYTES_MAX]),
            b"\r\n\r\n\0\r\nQUIT\r",
        ];
        for bytes in bad {
            assert!(parse(bytes).is_err(), "{}", bytes.escape_ascii());
            // However few of them there are, they are refused or more are awaited.
            for cut in 0..bytes.len() {
                let parsed = parse(&bytes[..cut]);
                assert!(
                    !matches!(parsed, Ok(Some(_))),
                    "{cut} of {}",
                    bytes.escape_ascii()
                );
            }
        }
    }

    #[test]
    fn no_bytes_make_it_panic_or_read_too_much() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..20_000 {
            let all = headers();
            let (mut bytes, _) = all[random.usize(..all.len())].clone();
            for _ in 0..random.usize(..4) {
                let index = random.usize(..bytes.len());
                bytes[index] = random.u8(..);
            }
            bytes.truncate(random.usize(..=bytes.len()));
            if let Ok(Some(header)) = parse(&bytes) {
                assert!(header.bytes <= bytes.len());
            }
        }
    }
}
