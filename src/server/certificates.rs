//! Certificates: the server's certificate and key, read again while it runs; and a
//! self-signed certificate for a server without one.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::{SystemTime, UNIX_EPOCH},
};

use rcgen::{CertificateParams, DnType, KeyPair};
use rustls::{
    ServerConfig,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject},
    },
    server::NoServerSessionStorage,
};

use super::expiry::Expiry;
use crate::{input_file, pin::Pin, tls};

/// The files that [`Certificates::self_signed`] makes.
const CERTIFICATE_FILE: &str = "cert.pem";
const KEY_FILE: &str = "key.pem";

/// Whom the self-signed certificate names.
const SUBJECT: &str = "chat-server";

/// The most bytes that are read of a certificate with its chain, or of a key.
const PEM_BYTES_MAX: u64 = 1 << 20;

/// Only the owner may read a key, and enter the folder it is in.
const KEY_MODE: u32 = 0o600;
const FOLDER_MODE: u32 = 0o700;

/// The certificate chain and key of a server, as they were last read.
#[derive(Debug)]
pub struct Certificates {
    certificate_file: PathBuf,
    key_file: PathBuf,
    is_self_signed: bool,
    current: RwLock<Current>,
}

/// What [`Certificates::read_again`] has read.
#[derive(Debug)]
pub struct Reread(Current);

#[derive(Debug, Clone)]
struct Current {
    chat: Arc<ServerConfig>,
    http: Arc<ServerConfig>,
    pin: Pin,
    expiry: Option<Expiry>,
    warnings: Vec<String>,
}

/// What a connection carries inside TLS, as its handshake says it (ALPN).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    /// Frames.
    Chat,
    /// HTTP/1.1, and in it a WebSocket.
    Http,
}

impl Protocol {
    fn name(self) -> &'static [u8] {
        match self {
            Self::Chat => tls::ALPN,
            Self::Http => b"http/1.1",
        }
    }
}

impl Certificates {
    /// Reads a certificate chain and its key from PEM files.
    ///
    /// # Errors
    ///
    /// A sentence that says which file is wrong, and what is.
    pub fn read(certificate_file: &Path, key_file: &Path) -> Result<Self, String> {
        Ok(Self {
            current: RwLock::new(Current::read(certificate_file, key_file)?),
            certificate_file: certificate_file.to_owned(),
            key_file: key_file.to_owned(),
            is_self_signed: false,
        })
    }

    /// Whether a self-signed certificate, or a part of one, is in `folder`.
    pub(super) fn is_made(folder: &Path) -> bool {
        let files = [CERTIFICATE_FILE, KEY_FILE];
        files.iter().any(|file| folder.join(file).exists())
    }

    /// Reads the self-signed certificate and the key in `folder`; makes them if neither
    /// is there. The certificate names `hosts`, though clients trust it by its pin.
    ///
    /// # Errors
    ///
    /// A sentence that says what is wrong.
    pub fn self_signed(folder: &Path, hosts: &[String]) -> Result<Self, String> {
        let (certificate, key) = (folder.join(CERTIFICATE_FILE), folder.join(KEY_FILE));
        if !Self::is_made(folder) {
            make_self_signed(folder, hosts).map_err(|error| {
                format!(
                    "cannot make a self-signed certificate in {}: {error}",
                    folder.display()
                )
            })?;
        }
        Ok(Self {
            is_self_signed: true,
            ..Self::read(&certificate, &key)?
        })
    }

    /// Reads the files again, for [`Certificates::set`].
    ///
    /// # Errors
    ///
    /// As [`Certificates::read`].
    pub fn read_again(&self) -> Result<Reread, String> {
        Current::read(&self.certificate_file, &self.key_file).map(Reread)
    }

    /// New connections get the certificate that was read again.
    pub fn set(&self, Reread(read): Reread) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = read;
    }

    /// The pin by which clients know a self-signed certificate.
    pub fn pin(&self) -> Option<Pin> {
        self.is_self_signed.then(|| self.current().pin)
    }

    /// Until when the certificate is valid, if it says so.
    pub(super) fn expiry(&self) -> Option<Expiry> {
        self.current().expiry
    }

    /// What the operator should know of the files as they were last read, in sentences.
    pub fn warnings(&self) -> Vec<String> {
        self.current().warnings
    }

    /// How a connection shakes hands that carries `protocol`.
    pub(super) fn config(&self, protocol: Protocol) -> Arc<ServerConfig> {
        let current = self.current();
        match protocol {
            Protocol::Chat => current.chat,
            Protocol::Http => current.http,
        }
    }

    fn current(&self) -> Current {
        let current = self.current.read();
        current.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Current {
    fn read(certificate_file: &Path, key_file: &Path) -> Result<Self, String> {
        let read = |path| input_file::read_start(path, PEM_BYTES_MAX).map_err(pem::Error::Io);
        let chain = read(certificate_file).map(|(bytes, _)| bytes);
        let chain = tls::certificates_in(chain, certificate_file)?;
        let expiry = Expiry::of(&chain);
        let mut warnings = Vec::new();
        let key = read(key_file).and_then(|(bytes, metadata)| {
            warnings.extend(input_file::exposure(key_file, &metadata, "the key"));
            PrivateKeyDer::from_pem_slice(&bytes)
        });
        let key = key.map_err(|error| {
            let error = tls::io_error(&error);
            format!("cannot read the key in {}: {error}", key_file.display())
        })?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now_unix_s = now.map_or(0, |now| now.as_secs()).cast_signed();
        let warning = expiry.and_then(|expiry| expiry.warning(now_unix_s));
        warnings.extend(warning.map(|it| format!("{}: {it}", certificate_file.display())));
        let pin = chain.first().map(tls::pin);
        let config = config(chain, key).map_err(|error| {
            format!(
                "the certificate in {} and the key in {} cannot be used: {error}",
                certificate_file.display(),
                key_file.display()
            )
        })?;
        let speaking = |protocol: Protocol| {
            let mut config = config.clone();
            config.alpn_protocols = vec![protocol.name().to_vec()];
            config
        };
        Ok(Self {
            pin: pin.ok_or("there is no certificate")?,
            expiry,
            warnings,
            chat: Arc::new(speaking(Protocol::Chat)),
            http: Arc::new(speaking(Protocol::Http)),
        })
    }
}

/// Sessions are not resumed: nothing is kept for a client that is gone.
fn config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(tls::provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

fn make_self_signed(folder: &Path, hosts: &[String]) -> io::Result<()> {
    // Not its parents: a wrong path is a mistake.
    match DirBuilder::new().mode(FOLDER_MODE).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let key = KeyPair::generate().map_err(io::Error::other)?;
    let mut params = CertificateParams::new(hosts).map_err(io::Error::other)?;
    params.distinguished_name.push(DnType::CommonName, SUBJECT);
    let certificate = params.self_signed(&key).map_err(io::Error::other)?;
    // The key comes first: a certificate without one is of no use.
    write_new(&folder.join(KEY_FILE), &key.serialize_pem())?;
    write_new(&folder.join(CERTIFICATE_FILE), &certificate.pem())
}

/// Writes a file that only the owner may read and that was not there.
fn write_new(path: &Path, content: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(KEY_MODE);
    let written = options.open(path)?.write_all(content.as_bytes());
    if written.is_err() {
        let _ = fs::remove_file(path);
    }
    written
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn hosts() -> Vec<String> {
        vec!["localhost".to_owned(), "127.0.0.1".to_owned()]
    }

    #[test]
    fn a_self_signed_certificate_is_made_once_and_kept_secret() {
        let folder = tempfile::tempdir().expect("a place for files");
        let folder = folder.path().join("new");
        let made = Certificates::self_signed(&folder, &hosts()).expect("made");
        let read = Certificates::self_signed(&folder, &hosts()).expect("read");
        assert!(made.pin().is_some());
        assert_eq!(made.pin(), read.pin());
        let mode = |path: &Path| {
            fs::metadata(path)
                .expect("it is there")
                .permissions()
                .mode()
        };
        assert_eq!(mode(&folder.join(KEY_FILE)) & 0o777, 0o600);
        assert_eq!(mode(&folder) & 0o777, 0o700);
    }

    #[test]
    fn a_bad_file_changes_nothing_and_is_told() {
        let folder = tempfile::tempdir().expect("a place for files");
        let folder = folder.path();
        let certificates = Certificates::self_signed(folder, &hosts()).expect("made");
        let pin = certificates.pin();
        let other = tempfile::tempdir().expect("a place for files");
        Certificates::self_signed(other.path(), &hosts()).expect("made");
        let key = fs::read(folder.join(KEY_FILE)).expect("a key");
        let other_key = fs::read(other.path().join(KEY_FILE)).expect("a key");
        for (content, words) in [
            (&b""[..], "cannot read the key"),
            (b"no PEM", "cannot read the key"),
            (&other_key, "cannot be used"),
        ] {
            fs::write(folder.join(KEY_FILE), content).expect("ours");
            let error = certificates.read_again().expect_err("a bad key");
            assert!(error.contains(words), "{error}");
            assert_eq!(certificates.pin(), pin);
        }
        fs::write(folder.join(KEY_FILE), key).expect("ours");
        fs::write(folder.join(CERTIFICATE_FILE), "").expect("ours");
        let error = certificates.read_again().expect_err("no certificate");
        assert!(error.contains("has no certificate"), "{error}");
        assert_eq!(certificates.pin(), pin);
    }

    #[test]
    fn a_new_certificate_is_used_once_it_is_read_again() {
        let [folder, other] = [(); 2].map(|()| tempfile::tempdir().expect("a place for files"));
        let certificates = Certificates::self_signed(folder.path(), &hosts()).expect("made");
        let renewed = Certificates::self_signed(other.path(), &hosts()).expect("made");
        for file in [CERTIFICATE_FILE, KEY_FILE] {
            fs::copy(other.path().join(file), folder.path().join(file)).expect("ours");
        }
        assert_ne!(certificates.pin(), renewed.pin());
        let read = certificates.read_again().expect("both files are right");
        assert_ne!(certificates.pin(), renewed.pin());
        certificates.set(read);
        assert_eq!(certificates.pin(), renewed.pin());
    }
}
