//! The options of `chat-server` that say how it can be reached other than by plain TCP.

use std::path::PathBuf;

use clap::Args;

use super::certificates::Certificates;
use crate::{address::Address, session::Network};

/// Whom a self-signed certificate names beside the hosts that the server listens on.
const LOCAL_HOSTS: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// How options name a certificate.
const SAY_CERTIFICATE: &str = "--tls-cert FILE and --tls-key FILE, or --tls-self-signed DIR, which \
                               makes one";

/// Further listeners, and their certificate.
#[derive(Debug, Args)]
#[command(next_help_heading = "Encryption and browsers")]
pub struct ReachOptions {
    /// Where to listen for TLS connections, beside `--listen`
    #[arg(
        long,
        env = "CHAT_TLS_LISTEN",
        value_name = "HOST[:PORT]",
        value_parser = parse_listen
    )]
    pub tls_listen: Option<String>,

    /// Where to listen for QUIC connections (UDP), beside the others
    #[cfg(feature = "quic")]
    #[arg(
        long,
        env = "CHAT_QUIC_LISTEN",
        value_name = "HOST[:PORT]",
        value_parser = parse_listen
    )]
    pub quic_listen: Option<String>,

    /// How many connections over QUIC there may be at the same time; each takes 36 KB
    #[cfg(feature = "quic")]
    #[arg(
        long,
        env = "CHAT_QUIC_CONNECTIONS_MAX",
        value_name = "N",
        default_value_t = 1_000,
        value_parser = clap::value_parser!(u32).range(1..=1_000_000)
    )]
    pub quic_connections_max: u32,

    /// Where to serve the page for browsers, beside the others; over TLS if there is a
    /// certificate
    #[arg(
        long,
        env = "CHAT_WEB_LISTEN",
        value_name = "HOST[:PORT]",
        value_parser = parse_listen
    )]
    pub web_listen: Option<String>,

    /// A page of another site that may chat here, as `https://HOST:PORT`; can be
    /// repeated, or list several with commas
    #[arg(
        long,
        env = "CHAT_WEB_ORIGIN",
        value_name = "ORIGIN",
        value_delimiter = ',',
        value_parser = parse_origin
    )]
    pub web_origin: Vec<String>,

    /// The address of a proxy, or a range such as 10.0.0.0/8: connections from there must
    /// begin with a header of the PROXY protocol (v1 or v2) that says where they come
    /// from; can be repeated, or list several with commas. For all listeners but QUIC
    #[arg(
        long,
        env = "CHAT_PROXY_FROM",
        value_name = "CIDR",
        value_delimiter = ',',
        value_parser = parse_network
    )]
    pub proxy_from: Vec<Network>,

    /// The certificate and those between it and its root, in a PEM file; read again on
    /// SIGHUP
    #[arg(long, env = "CHAT_TLS_CERT", value_name = "FILE")]
    tls_cert: Option<PathBuf>,

    /// The certificate's key, in a PEM file; read again on SIGHUP
    #[arg(long, env = "CHAT_TLS_KEY", value_name = "FILE")]
    tls_key: Option<PathBuf>,

    /// Use a self-signed certificate in this folder, and make it if it is not there.
    /// Clients know it by the pin in the address that is printed
    #[arg(long, env = "CHAT_TLS_SELF_SIGNED", value_name = "DIR")]
    tls_self_signed: Option<PathBuf>,
}

impl ReachOptions {
    /// Whether the server listens in any of these ways.
    pub fn listens(&self) -> bool {
        self.encrypted_listen().is_some() || self.web_listen.is_some()
    }

    /// Where it listens in these ways.
    pub(super) fn all_listens(&self) -> impl Iterator<Item = &str> {
        let listens = [&self.tls_listen, &self.web_listen];
        #[cfg(feature = "quic")]
        let listens = listens.into_iter().chain([&self.quic_listen]);
        listens.into_iter().flatten().map(String::as_str)
    }

    /// Where a listener is that needs a certificate, if there is one.
    fn encrypted_listen(&self) -> Option<&String> {
        #[cfg(feature = "quic")]
        let quic_listen = self.quic_listen.as_ref();
        #[cfg(not(feature = "quic"))]
        let quic_listen = None;
        self.tls_listen.as_ref().or(quic_listen)
    }

    /// Checks the certificate that the options name, without making one. Returns warnings.
    ///
    /// # Errors
    ///
    /// As [`ReachOptions::certificates`].
    pub(super) fn check_certificates(&self) -> Result<Vec<String>, String> {
        let is_used = self
            .encrypted_listen()
            .or(self.web_listen.as_ref())
            .is_some();
        match (&self.tls_cert, &self.tls_key, &self.tls_self_signed) {
            (None, None, Some(folder)) if is_used && !Certificates::is_made(folder) => {
                Ok(Vec::new())
            }
            _ => {
                let certificates = self.certificates()?;
                Ok(certificates.map_or_else(Vec::new, |it| it.warnings()))
            }
        }
    }

    /// The certificate of the listeners that need one, if the options name any.
    ///
    /// # Errors
    ///
    /// A sentence that says what is wrong, or missing.
    pub fn certificates(&self) -> Result<Option<Certificates>, String> {
        let named = (&self.tls_cert, &self.tls_key, &self.tls_self_signed);
        let encrypted = self.encrypted_listen();
        let Some(listen) = encrypted.or(self.web_listen.as_ref()) else {
            return match named {
                (None, None, None) => Ok(None),
                _ => Err(
                    "a certificate needs --tls-listen HOST:PORT or another listener that uses it"
                        .to_owned(),
                ),
            };
        };
        match named {
            // The page can do without.
            (None, None, None) if encrypted.is_none() => Ok(None),
            (Some(certificate), Some(key), None) => Certificates::read(certificate, key).map(Some),
            (None, None, Some(folder)) => {
                let address = Address::parse_listen(listen).map_err(|it| it.to_string())?;
                let host = Some(address.host()).filter(|host| !host.is_empty());
                let hosts = LOCAL_HOSTS.into_iter().chain(host);
                let hosts: Vec<String> = hosts.map(str::to_owned).collect();
                Certificates::self_signed(folder, &hosts).map(Some)
            }
            _ => Err(format!(
                "TLS and QUIC need a certificate: {SAY_CERTIFICATE}"
            )),
        }
    }
}

/// The value of an option that says where to listen.
pub(super) fn parse_listen(value: &str) -> Result<String, String> {
    match Address::parse_listen(value) {
        Ok(_) => Ok(value.to_owned()),
        Err(error) => Err(format!(
            "{error}; say HOST:PORT, such as 127.0.0.1:0 or [::1]:4000"
        )),
    }
}

fn parse_network(value: &str) -> Result<Network, &'static str> {
    Network::parse(value).ok_or("write an address or a range, such as 127.0.0.1 or 10.0.0.0/8")
}

fn parse_origin(value: &str) -> Result<String, String> {
    let is_origin = value.split_once("://").is_some_and(|(scheme, host)| {
        matches!(scheme, "http" | "https") && !host.is_empty() && !host.contains('/')
    });
    match is_origin {
        true => Ok(value.to_owned()),
        false => Err("an origin is https://HOST or https://HOST:PORT, and nothing after it".into()),
    }
}
