//! Where a server listens: each call adds a listener, and [`Server::run`] serves them all.

use std::{io, net::SocketAddr, sync::Arc};

use crate::session::Network;

#[cfg(feature = "quic")]
use super::quic::Quic;
use super::{
    Certificates, Server,
    certificates::Protocol,
    metrics::Endpoint,
    proxied::Proxies,
    tcp::{PlainCarrier, Tcp},
    tls::Tls,
    transport::Kind,
    web::Web,
};
#[cfg(feature = "cli")]
use super::{control, systemd};

impl Server {
    /// Has connections from these networks begin with a header of the PROXY protocol, on
    /// the listeners for TCP, TLS and browsers that are added from now on. What it says
    /// is where the connection comes from.
    pub fn trust_proxies(&mut self, networks: &[Network]) {
        self.proxies = Proxies::new(networks);
    }

    /// Listens for TCP connections, which are not encrypted, on the first of the
    /// addresses of `listen` (`HOST[:PORT]`, port 0 for a free one) that can be had.
    /// Returns that address.
    ///
    /// # Errors
    ///
    /// When no address can be had.
    pub async fn listen(&mut self, listen: &str) -> io::Result<SocketAddr> {
        let (tcp, address) = self.bind(Kind::Chat, listen).await?;
        self.listeners.push(Arc::new(tcp));
        Ok(address)
    }

    /// As [`Server::listen`], for TLS connections.
    ///
    /// # Errors
    ///
    /// As [`Server::listen`].
    pub async fn listen_tls(
        &mut self,
        listen: &str,
        certificates: Arc<Certificates>,
    ) -> io::Result<SocketAddr> {
        let (tcp, address) = self.bind(Kind::Tls, listen).await?;
        let tls = Tls::new(tcp, certificates, Protocol::Chat);
        self.listeners.push(Arc::new(tls));
        Ok(address)
    }

    /// As [`Server::listen`], for browsers: serves the page and its WebSocket, over TLS
    /// if there are certificates. Pages of `origins` (`https://host`) may use the
    /// WebSocket too.
    ///
    /// # Errors
    ///
    /// As [`Server::listen`].
    pub async fn listen_web(
        &mut self,
        listen: &str,
        certificates: Option<Arc<Certificates>>,
        origins: Vec<String>,
    ) -> io::Result<SocketAddr> {
        let (tcp, address) = self.bind(Kind::Web, listen).await?;
        // What comes through a proxy may call the server by any name.
        let is_local = address.ip().is_loopback() && !self.proxies.contain(address);
        self.listeners.push(match certificates {
            None => Arc::new(Web::new(PlainCarrier(tcp), is_local, origins)),
            Some(certificates) => {
                let tls = Tls::new(tcp, certificates, Protocol::Http);
                Arc::new(Web::new(tls, is_local, origins))
            }
        });
        Ok(address)
    }

    /// As [`Server::listen`], for QUIC connections, at most `connections_max` of them at
    /// the same time.
    ///
    /// # Errors
    ///
    /// As [`Server::listen`].
    #[cfg(feature = "quic")]
    pub async fn listen_quic(
        &mut self,
        listen: &str,
        certificates: Arc<Certificates>,
        connections_max: u32,
    ) -> io::Result<SocketAddr> {
        #[cfg(feature = "cli")]
        let handed = self.handed.udp(Kind::Quic)?;
        #[cfg(not(feature = "cli"))]
        let handed = None;
        let quic = Quic::bind(handed, listen, certificates, connections_max).await?;
        let address = quic.local_addr()?;
        self.listeners.push(Arc::new(quic));
        Ok(address)
    }

    /// Answers `/metrics`, `/healthz` and `/readyz` over HTTP on the first of the
    /// addresses of `listen` that can be had, while the server runs. Returns that address.
    /// The metrics say when the `certificates` end.
    ///
    /// # Errors
    ///
    /// When no address can be had.
    pub async fn listen_metrics(
        &mut self,
        listen: &str,
        certificates: Option<Arc<Certificates>>,
    ) -> io::Result<SocketAddr> {
        let endpoint = Endpoint::bind(listen, certificates).await?;
        let address = endpoint.local_addr()?;
        self.metrics = Some(endpoint);
        Ok(address)
    }

    /// Serves the operator's control socket at `path`, from now until the server closes.
    /// `reload` reads again what the server has read.
    ///
    /// # Errors
    ///
    /// It cannot be had: another server has it, or something else stands there.
    #[cfg(feature = "cli")]
    pub async fn listen_control(
        &mut self,
        path: &std::path::Path,
        reload: control::Reload,
    ) -> io::Result<()> {
        let (hub, kept) = (Arc::clone(&self.hub), Arc::clone(&self.kept_bans));
        let serving = control::serve(path, hub, reload, kept).await?;
        self.control = Some(serving);
        Ok(())
    }

    /// Sockets that the service manager has opened: each takes the place of the address of
    /// its listener.
    #[cfg(feature = "cli")]
    pub fn use_sockets(&mut self, handed: systemd::Handed) {
        self.handed = handed;
    }

    /// A sentence about a socket that no listener has used.
    #[cfg(feature = "cli")]
    pub fn unused_socket(&self) -> Option<String> {
        self.handed.left_over()
    }

    async fn bind(&mut self, kind: Kind, listen: &str) -> io::Result<(Tcp, SocketAddr)> {
        let write_deadline_ms = self.hub.limits().write_deadline_ms;
        #[cfg(feature = "cli")]
        let handed = self.handed.tcp(kind)?;
        #[cfg(not(feature = "cli"))]
        let (handed, _) = (None, kind);
        let proxies = self.proxies.clone();
        let tcp = match handed {
            Some(listener) => Tcp::from_std(listener, write_deadline_ms, proxies)?,
            None => Tcp::bind(listen, write_deadline_ms, proxies).await?,
        };
        let address = tcp.local_addr()?;
        Ok((tcp, address))
    }
}
