//! Endpoint: answers `/metrics`, `/healthz` and `/readyz` over HTTP, on an address of its
//! own, for a monitor beside the server.

use std::{
    collections::VecDeque, convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration,
};

use http_body_util::Full;
use hyper::{
    Method, Response, StatusCode,
    body::Bytes,
    header::{CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream},
    time,
};
use tokio_util::task::AbortOnDropHandle;
use tracing::debug;

use crate::server::{Certificates, hub::Hub, tcp};

/// How many monitors are answered at a time. One more takes the place of the one that came
/// first: an answer takes milliseconds, so that one is silent or does not read.
const CONNECTIONS_MAX: usize = 128;

/// How long a request may take, in milliseconds.
const REQUEST_MS_MAX: u64 = 10_000;

/// How long to wait after the system refused to accept, in milliseconds.
const BACK_OFF_MS: u64 = 1_000;

/// The longest request, in bytes.
const HEAD_BYTES_MAX: usize = 8 * 1024;

/// The version of the text format.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Listens for monitors.
pub(in crate::server) struct Endpoint {
    listener: TcpListener,
    /// Those of the server, if it has any.
    certificates: Option<Arc<Certificates>>,
}

impl Endpoint {
    /// Listens on the first address of `listen` that can be had.
    pub(in crate::server) async fn bind(
        listen: &str,
        certificates: Option<Arc<Certificates>>,
    ) -> io::Result<Self> {
        Ok(Self {
            listener: tcp::bind(listen).await?,
            certificates,
        })
    }

    /// The address it listens on, with the port it has.
    pub(in crate::server) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers for ever.
    pub(in crate::server) async fn serve(self, hub: Arc<Hub>) {
        let mut answering: VecDeque<AbortOnDropHandle<()>> = VecDeque::new();
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    answering.retain(|answer| !answer.is_finished());
                    if answering.len() >= CONNECTIONS_MAX {
                        answering.pop_front();
                    }
                    let (hub, certificates) = (Arc::clone(&hub), self.certificates.clone());
                    let task = tokio::spawn(async move {
                        let limit = Duration::from_millis(REQUEST_MS_MAX);
                        let _ = time::timeout(limit, answer(stream, hub, certificates)).await;
                    });
                    answering.push_back(AbortOnDropHandle::new(task));
                }
                Err(error) => {
                    debug!(%error, "cannot accept a monitor");
                    time::sleep(Duration::from_millis(BACK_OFF_MS)).await;
                }
            }
        }
    }
}

/// Answers the request of one connection.
async fn answer(stream: TcpStream, hub: Arc<Hub>, certificates: Option<Arc<Certificates>>) {
    let service = service_fn(|request| {
        let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
        let answer = match request.uri().path() {
            _ if !is_read => respond(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered\n"),
            "/metrics" => {
                let expiry = certificates.as_ref().and_then(|it| it.expiry());
                metrics(hub.metrics_page(expiry))
            }
            // It takes the hub's lock: a server that cannot is not healthy.
            "/healthz" => {
                let _ = hub.is_ready();
                respond(StatusCode::OK, "ok\n")
            }
            "/readyz" if hub.is_ready() => respond(StatusCode::OK, "ready\n"),
            "/readyz" => respond(
                StatusCode::SERVICE_UNAVAILABLE,
                "closing, the disk is full, or the cluster is out of reach\n",
            ),
            _ => respond(
                StatusCode::NOT_FOUND,
                "/metrics, /healthz and /readyz are here\n",
            ),
        };
        std::future::ready(Ok::<_, Infallible>(answer))
    });
    let _ = http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(HEAD_BYTES_MAX)
        // There is a limit around all of it.
        .header_read_timeout(None)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

fn metrics(page: String) -> Response<Full<Bytes>> {
    let mut answer = respond(StatusCode::OK, page);
    let format = HeaderValue::from_static(METRICS_TYPE);
    answer.headers_mut().insert(CONTENT_TYPE, format);
    answer
}

fn respond(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer
}
