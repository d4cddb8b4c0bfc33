//! Web: the page, and the WebSocket that it chats over, on one listener.
//!
//! A connection carries one request. One for the page is answered and closed; one for
//! the WebSocket becomes a stream like that of any transport. Until then the connection
//! counts for the limits and the register deadline as a handshake does, so that requests
//! that trickle in take no more than other handshakes.

mod codec;
#[cfg(test)]
mod corpus;
mod http;
mod websocket;

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use futures_util::future::BoxFuture;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;

use super::transport::{Accepted, Kind, Listener, Transport};
use http::Site;
use websocket::WebSocket;

/// The longest request without its body, in bytes, and how many headers it may have.
const HEAD_BYTES_MAX: usize = 16 * 1024;
const HEADERS_MAX: usize = 64;

/// The handshake of a WebSocket.
type Answering<S> = BoxFuture<'static, io::Result<Option<WebSocket<S>>>>;

/// Listens for HTTP on the streams of another listener: TCP, or TLS.
pub(super) struct Web<L> {
    carrier: L,
    site: Arc<Site>,
}

impl<L: Listener> Web<L> {
    /// Serves the page to hosts of any name, or only of this machine's if it `is_local`;
    /// and the WebSocket to it and to the pages of these `origins`.
    pub(super) fn new(carrier: L, is_local: bool, origins: Vec<String>) -> Self {
        Self {
            carrier,
            site: Arc::new(Site::new(is_local, origins)),
        }
    }
}

impl<L: Listener> Listener for Web<L> {
    const KIND: Kind = Kind::Web;
    type Stream = WebSocket<L::Stream>;
    type Handshake = Answering<L::Stream>;

    async fn accept(&self) -> io::Result<(Accepted<Self::Stream, Self::Handshake>, SocketAddr)> {
        let (accepted, peer) = self.carrier.accept().await?;
        Ok((over(accepted, Arc::clone(&self.site)), peer))
    }

    fn outlives_server(&self) -> bool {
        self.carrier.outlives_server()
    }
}

/// What is accepted of HTTP, of what was accepted of its carrier.
fn over<S, H>(accepted: Accepted<S, H>, site: Arc<Site>) -> Accepted<WebSocket<S>, Answering<S>>
where
    S: Transport + Send + 'static,
    H: Future<Output = io::Result<Option<S>>> + Send + 'static,
{
    Accepted::Handshake(match accepted {
        Accepted::Ready(stream) => Box::pin(answer(stream, site)),
        Accepted::Handshake(handshake) => Box::pin(async {
            match handshake.await? {
                Some(stream) => answer(stream, site).await,
                None => Ok(None),
            }
        }),
        Accepted::Proxied(reading) => {
            return Accepted::Proxied(Box::pin(async {
                let (accepted, source) = reading.await?;
                Ok((Box::new(over(*accepted, site)), source))
            }));
        }
    })
}

/// Answers one request. `Some` if it asked for the WebSocket, and gets it.
async fn answer<S>(stream: S, site: Arc<Site>) -> io::Result<Option<WebSocket<S>>>
where
    S: Transport + Send + 'static,
{
    let is_upgraded = AtomicBool::new(false);
    let service = service_fn(|request| {
        let (response, upgrades) = site.answer(&request);
        is_upgraded.store(upgrades, Ordering::Relaxed);
        std::future::ready(Ok::<_, std::convert::Infallible>(response))
    });
    let connection = http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        // The register deadline is around all of this.
        .header_read_timeout(None)
        .serve_connection(TokioIo::new(stream), service);
    let parts = connection
        .without_shutdown()
        .await
        .map_err(io::Error::other)?;
    let mut stream = parts.io.into_inner();
    if is_upgraded.load(Ordering::Relaxed) {
        return Ok(Some(WebSocket::new(stream, parts.read_buf.to_vec())));
    }
    stream.shutdown().await?;
    Ok(None)
}
