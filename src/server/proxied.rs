//! Proxied streams: TCP streams from proxies, which say first where they come from (PROXY
//! protocol).

use std::{io, net::SocketAddr, sync::Arc};

use tokio::{io::AsyncReadExt, net::TcpStream};

use crate::session::Network;

use super::proxy_header::{BadHeader, HEADER_BYTES_MAX, TOO_LONG, begins_header, parse};

/// What the log says of a connection that begins with a header though its address is none
/// of a proxy.
pub(super) const UNEXPECTED: &str =
    "unexpected PROXY header: --proxy-from does not name this address";

/// Whose streams begin with a header.
#[derive(Debug, Clone, Default)]
pub(super) struct Proxies(Arc<[Network]>);

impl Proxies {
    /// The addresses in these networks.
    pub(super) fn new(networks: &[Network]) -> Self {
        Self(networks.into())
    }

    /// Whether a stream from `peer` must begin with a header.
    pub(super) fn contain(&self, peer: SocketAddr) -> bool {
        self.0.iter().any(|network| network.contains(peer.ip()))
    }
}

/// Reads the header that a stream begins with, and nothing behind it. Returns where the
/// stream comes from; `None` if it is the proxy's own.
///
/// # Errors
///
/// There is no header, or it is wrong, or the stream ends.
pub(super) async fn read_header(stream: &mut TcpStream) -> io::Result<Option<SocketAddr>> {
    let mut header = Vec::new();
    loop {
        let mut more = vec![0; HEADER_BYTES_MAX - header.len()];
        let count = stream.peek(&mut more).await?;
        more.truncate(count);
        if more.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let before = header.len();
        header.append(&mut more);
        let parsed = parse(&header).map_err(io::Error::other)?;
        // All that was looked at belongs to a header that is not whole.
        let end = parsed.map_or(header.len(), |parsed| parsed.bytes);
        if let Some(looked_at) = header.get_mut(before..end) {
            stream.read_exact(looked_at).await?;
        }
        match parsed {
            Some(parsed) => return Ok(parsed.source),
            None if header.len() < HEADER_BYTES_MAX => {}
            None => return Err(io::Error::other(TOO_LONG)),
        }
    }
}

/// Refuses a stream that begins with a header and must not, before a handshake that could
/// make no sense of it.
///
/// # Errors
///
/// It begins so, or breaks.
pub(super) async fn refuse_header(stream: &TcpStream) -> io::Result<()> {
    let mut start = [0; 6];
    let count = stream.peek(&mut start).await?;
    match begins_with_header(start.get(..count).unwrap_or_default()) {
        true => Err(io::Error::other(BadHeader(UNEXPECTED))),
        false => Ok(()),
    }
}

/// Whether the first bytes of a stream begin a header, all six of them.
pub(super) fn begins_with_header(start: &[u8]) -> bool {
    start.len() >= 6 && begins_header(start.get(..6).unwrap_or_default())
}
