//! Peer: where a connection comes from, for the log and for operators.

use std::net::{IpAddr, SocketAddr};

use tracing::{
    field::{DisplayValue, display},
    info,
};

use super::transport::Kind;

const _: () = assert!(size_of::<Peer>() <= 20);

/// Where a connection comes from. Small, since every connection has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Peer {
    /// `None` where it does not come over a network.
    ip: Option<IpAddr>,
    port: u16,
    kind: Kind,
}

impl Peer {
    /// A stream over a network. An IPv4 address is one, however the system writes it.
    pub(super) fn network(address: SocketAddr, kind: Kind) -> Self {
        Self {
            ip: Some(address.ip().to_canonical()),
            port: address.port(),
            kind,
        }
    }

    /// A stream inside this process.
    #[cfg(test)]
    pub(super) fn internal() -> Self {
        Self {
            ip: None,
            port: 0,
            kind: Kind::Chat,
        }
    }

    /// Its address, by which its connections are limited.
    pub(super) fn ip(&self) -> Option<IpAddr> {
        self.ip
    }

    /// Its address and port, to show to an operator.
    #[cfg(feature = "cli")]
    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.ip.map(|ip| SocketAddr::new(ip, self.port))
    }

    /// What the log calls its transport.
    pub(super) fn transport(&self) -> &'static str {
        self.kind.transport()
    }

    /// What its listener is for.
    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    /// Its address, as a field of a log line.
    pub(super) fn log_address(&self) -> Option<DisplayValue<IpAddr>> {
        self.ip.map(display)
    }

    /// Its port, as a field of a log line.
    pub(super) fn log_port(&self) -> Option<u16> {
        self.ip.map(|_| self.port)
    }

    /// Tells the operators why a connection from here was refused.
    pub(super) fn report_refused(&self, why: &str) {
        info!(
            why,
            peer = self.log_address(),
            port = self.log_port(),
            transport = self.transport(),
            "refused"
        );
    }
}
