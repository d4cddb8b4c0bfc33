//! TLS: the client's handshake, with the server that the address or the caller trusts.

use std::{io, sync::Arc};

use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::connect_error::ConnectError;
use crate::{
    address::Address,
    tls::{Trust, Untrusted, server_name},
};

/// Encrypts a connection. The pin of the address says more than `trust`.
///
/// # Errors
///
/// [`ConnectError::Untrusted`] for a server that is another than it should be,
/// [`ConnectError::Tls`] for any other failure.
pub(super) async fn shake_hands(
    trust: &Trust,
    address: &Address,
    stream: TcpStream,
) -> Result<TlsStream<TcpStream>, ConnectError> {
    let pinned = address.pin().map(Trust::pinned);
    let trust = pinned.as_ref().unwrap_or(trust);
    let config = trust.client_config().map_err(ConnectError::Tls)?;
    let name = server_name(address.host()).map_err(ConnectError::Tls)?;
    let connector = TlsConnector::from(Arc::new(config));
    let shaken = connector.connect(name, stream).await;
    shaken.map_err(failure)
}

fn failure(error: io::Error) -> ConnectError {
    match Untrusted::in_error(&error) {
        Some(untrusted) => ConnectError::Untrusted(untrusted.clone()),
        None => ConnectError::Tls(error),
    }
}
