//! TLS: the one provider of ciphers, and which servers a client trusts.
//!
//! A client trusts the certificates that the system trusts, those below the roots of a
//! file, or exactly the pinned one ([`Pin`]). Everything else is [`Untrusted`].

use std::{
    error::Error,
    fmt, io,
    path::Path,
    sync::{Arc, OnceLock},
};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, OtherError, RootCertStore,
    SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};
use webpki::EndEntityCert;

use crate::pin::Pin;

/// The protocol's name in the handshake (ALPN).
pub const ALPN: &[u8] = b"chat/1";

/// How many names of a certificate an error lists.
const NAMES_MAX: usize = 3;

/// The ciphers that all parts use, whatever else the process has installed.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// The pin of a certificate.
pub fn pin(certificate: &CertificateDer<'_>) -> Pin {
    let mut sha256 = [0; 32];
    if let Some(suite) = aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256.tls13() {
        let hash = suite.common.hash_provider.hash(certificate);
        for (to, from) in sha256.iter_mut().zip(hash.as_ref()) {
            *to = *from;
        }
    }
    Pin::new(sha256)
}

/// Which servers a client trusts.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    pin: Option<Pin>,
    /// `None` for those of the system.
    roots: Option<Arc<RootCertStore>>,
}

impl Trust {
    /// The servers that the system trusts, by name.
    pub fn system() -> Self {
        Self::default()
    }

    /// The one server with this certificate, under any name.
    pub fn pinned(pin: Pin) -> Self {
        Self {
            pin: Some(pin),
            roots: None,
        }
    }

    /// The servers whose certificates the ones in this PEM file have issued, by name;
    /// those of the system are not trusted.
    ///
    /// # Errors
    ///
    /// A sentence that says what is wrong with the file.
    pub fn ca_file(path: &Path) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(path)? {
            roots
                .add(certificate)
                .map_err(|error| format!("{}: {error}", path.display()))?;
        }
        Ok(Self {
            pin: None,
            roots: Some(Arc::new(roots)),
        })
    }

    /// Whether it is the system's trust, without a pin and without roots of its own.
    pub fn is_system(&self) -> bool {
        self.pin.is_none() && self.roots.is_none()
    }

    /// How a client shakes hands. A session is not resumed, so that each connection
    /// proves itself.
    ///
    /// # Errors
    ///
    /// When the roots are of no use.
    pub fn client_config(&self) -> io::Result<ClientConfig> {
        self.noting_client_config().map(|(config, _)| config)
    }

    /// As [`Trust::client_config`], for a transport whose errors do not carry
    /// [`Untrusted`]: the verdict is in the second part, if the server is not trusted.
    ///
    /// # Errors
    ///
    /// As [`Trust::client_config`].
    pub fn noting_client_config(&self) -> io::Result<(ClientConfig, Arc<OnceLock<Untrusted>>)> {
        let verdict = Arc::new(OnceLock::new());
        let provider = provider();
        let by_roots: Option<Arc<dyn ServerCertVerifier>> = match (&self.pin, &self.roots) {
            (Some(_), _) => None,
            (None, Some(roots)) => Some(
                WebPkiServerVerifier::builder_with_provider(roots.clone(), provider.clone())
                    .build()
                    .map_err(io::Error::other)?,
            ),
            // A system without roots knows no issuer.
            (None, None) => rustls_platform_verifier::Verifier::new(provider.clone())
                .ok()
                .map(|verifier| Arc::new(verifier) as _),
        };
        let verifier = Verifier {
            provider: provider.clone(),
            pin: self.pin,
            by_roots,
            verdict: Arc::clone(&verdict),
        };
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.resumption = rustls::client::Resumption::disabled();
        Ok((config, verdict))
    }
}

/// The name by which a client asks for `host`, without the scope of an IPv6 address.
///
/// # Errors
///
/// When no certificate can have such a name.
pub fn server_name(host: &str) -> io::Result<ServerName<'static>> {
    let host = host.split('%').next().unwrap_or_default();
    ServerName::try_from(host.to_owned()).map_err(|_| {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            "the host is no name of a server",
        )
    })
}

/// The certificates in a PEM file, at least one.
///
/// # Errors
///
/// A sentence that says what is wrong with the file.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = std::fs::read(path).map_err(rustls::pki_types::pem::Error::Io);
    certificates_in(read, path)
}

/// As [`certificates()`], of a file that was read already.
pub(crate) fn certificates_in(
    read: Result<Vec<u8>, rustls::pki_types::pem::Error>,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, String> {
    match read
        .and_then(|bytes| CertificateDer::pem_slice_iter(&bytes).collect::<Result<Vec<_>, _>>())
    {
        Ok(certificates) if certificates.is_empty() => Err(format!(
            "{} has no certificate: it must be a PEM file",
            path.display()
        )),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(format!(
            "cannot read the certificates in {}: {}",
            path.display(),
            io_error(&error)
        )),
    }
}

/// The part of an error about a PEM file that people understand.
pub fn io_error(error: &rustls::pki_types::pem::Error) -> String {
    match error {
        rustls::pki_types::pem::Error::Io(error) => error.to_string(),
        error => error.to_string(),
    }
}

/// A server whose certificate the client does not trust.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Untrusted {
    /// The certificate that it has.
    pub presented: Pin,
    /// Why it is not trusted.
    pub reason: Distrust,
}

/// Why a certificate is not trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Distrust {
    /// It is out of date.
    Expired,
    /// It is not valid yet: this machine's clock may be wrong.
    NotYetValid,
    /// It is for other hosts; some of them.
    OtherHost(Vec<String>),
    /// The server issued it itself, so that only a pin can tell the server.
    SelfSigned,
    /// Its issuer is not known: a private one, or the server does not send the
    /// certificates between its own and the known root.
    UnknownIssuer,
    /// It is another than the pinned one.
    OtherPin {
        /// The pinned one.
        expected: Pin,
    },
    /// Anything else.
    Invalid(String),
}

impl Untrusted {
    /// The verdict that made a handshake fail with `error`, if it was that.
    pub fn in_error(error: &io::Error) -> Option<&Self> {
        match error.get_ref()?.downcast_ref()? {
            rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(error))) => {
                error.downcast_ref()
            }
            _ => None,
        }
    }

    fn new(certificate: &CertificateDer<'_>, error: rustls::Error) -> Self {
        let reason = match error {
            rustls::Error::InvalidCertificate(error) => Distrust::new(certificate, error),
            error => Distrust::Invalid(error.to_string()),
        };
        Self {
            presented: pin(certificate),
            reason,
        }
    }
}

impl Distrust {
    fn new(certificate: &CertificateDer<'_>, error: CertificateError) -> Self {
        match error {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                Self::NotYetValid
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                let names = EndEntityCert::try_from(certificate).map(|it| {
                    let names = it.valid_dns_names().take(NAMES_MAX);
                    names.map(str::to_owned).collect()
                });
                Self::OtherHost(names.unwrap_or_default())
            }
            CertificateError::UnknownIssuer => match EndEntityCert::try_from(certificate) {
                Ok(it) if it.issuer() == it.subject() => Self::SelfSigned,
                _ => Self::UnknownIssuer,
            },
            error => Self::Invalid(error.to_string()),
        }
    }
}

impl fmt::Display for Untrusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.reason {
            Distrust::Expired => write!(f, "its certificate has expired"),
            Distrust::NotYetValid => write!(f, "its certificate is not valid yet"),
            Distrust::OtherHost(names) => {
                write!(
                    f,
                    "its certificate is for another host: {}",
                    names.join(", ")
                )
            }
            Distrust::SelfSigned => {
                write!(f, "its certificate is self-signed: {}", self.presented)
            }
            Distrust::UnknownIssuer => {
                write!(
                    f,
                    "its certificate has an unknown issuer: {}",
                    self.presented
                )
            }
            Distrust::OtherPin { expected } => {
                write!(f, "its certificate is {}, not {expected}", self.presented)
            }
            Distrust::Invalid(error) => write!(f, "its certificate is not accepted: {error}"),
        }
    }
}

impl Error for Untrusted {}

/// Judges a server by the pin, or else by the roots, and its handshake in any case.
#[derive(Debug)]
struct Verifier {
    provider: Arc<CryptoProvider>,
    pin: Option<Pin>,
    by_roots: Option<Arc<dyn ServerCertVerifier>>,
    verdict: Arc<OnceLock<Untrusted>>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let judged = match (self.pin, &self.by_roots) {
            (Some(expected), _) => match pin(end_entity) {
                presented if presented == expected => Ok(ServerCertVerified::assertion()),
                presented => Err(Untrusted {
                    presented,
                    reason: Distrust::OtherPin { expected },
                }),
            },
            (None, Some(by_roots)) => by_roots
                .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
                .map_err(|error| Untrusted::new(end_entity, error)),
            (None, None) => Err(Untrusted::new(
                end_entity,
                CertificateError::UnknownIssuer.into(),
            )),
        };
        judged.map_err(|untrusted| {
            let _ = self.verdict.set(untrusted.clone());
            CertificateError::Other(OtherError(Arc::new(untrusted))).into()
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
