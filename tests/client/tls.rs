//! `chat-client` and encrypted servers: which it trusts, and what it says of the others.

use std::{fs, path::Path};

use chat::client::{Connector, Trust};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};

use crate::{
    program::{Outcome, Program},
    screen::Screen,
    support::TestServer,
};

/// Certificates: a root, one between, and what they issue.
struct Issuers {
    root: CertifiedIssuer<'static, KeyPair>,
    between: CertifiedIssuer<'static, KeyPair>,
}

impl Issuers {
    fn new() -> Self {
        let params = |name: &str| {
            let mut params = CertificateParams::default();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.distinguished_name.push(DnType::CommonName, name);
            params
        };
        let key = || KeyPair::generate().expect("a key");
        let root = CertifiedIssuer::self_signed(params("root"), key()).expect("a root");
        let between = CertifiedIssuer::signed_by(params("between"), key(), &root);
        Self {
            between: between.expect("one between"),
            root,
        }
    }

    /// Writes a certificate for `host` and its key, with the one between if it is
    /// `whole`, and the root for clients.
    fn issue(&self, folder: &Path, host: &str, is_whole: bool, is_expired: bool) {
        let mut params = CertificateParams::new([host.to_owned()]).expect("a host");
        if is_expired {
            params.not_after = date_time_ymd(2020, 1, 1);
        }
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.between).expect("issued");
        let mut chain = certificate.pem();
        if is_whole {
            chain += &self.between.pem();
        }
        fs::write(folder.join("chain"), chain).expect("ours");
        fs::write(folder.join("key"), key.serialize_pem()).expect("ours");
        fs::write(folder.join("root"), self.root.pem()).expect("ours");
    }
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a place for files")
}

fn path(folder: &Path, name: &str) -> String {
    folder.join(name).to_str().expect("UTF-8").to_owned()
}

/// A server with the certificate in `folder`, and its address by name.
fn issued(folder: &Path) -> (TestServer, String) {
    let (chain, key) = (path(folder, "chain"), path(folder, "key"));
    let server = TestServer::start(&[
        "--listen",
        "none",
        "--tls-listen",
        "127.0.0.1:0",
        "--tls-cert",
        &chain,
        "--tls-key",
        &key,
    ]);
    let address = format!("chats://localhost:{}", server.address.port());
    (server, address)
}

/// A server with a self-signed certificate in `folder`, its address without the pin, and
/// the pin.
fn self_signed(folder: &Path, listen: &str) -> (TestServer, String, String) {
    let folder = folder.to_str().expect("UTF-8");
    let mut server = TestServer::start(&["--tls-listen", listen, "--tls-self-signed", folder]);
    let line = server.next_line();
    let address = line.strip_prefix("listening on ").expect("a second line");
    let (address, pin) = address.split_once('#').expect("a pin");
    (server, address.to_owned(), pin.to_owned())
}

/// Says a line, without a home that could hold known servers.
fn say(arguments: &[&str]) -> Outcome {
    let mut program = Program::start_with(arguments, &[("HOME", ""), ("XDG_CONFIG_HOME", "")]);
    program.write(b"hello\n");
    program.end_input();
    program.outcome()
}

#[track_caller]
fn is_refused(outcome: &Outcome, words: &[&str]) {
    assert_eq!(outcome.code, Some(3), "{outcome:?}");
    assert_eq!(outcome.errors.lines().count(), 1, "{outcome:?}");
    for words in words {
        assert!(outcome.errors.contains(words), "{words:?}: {outcome:?}");
    }
}

#[test]
fn a_server_is_trusted_by_its_issuer_and_name() {
    let (folder, issuers) = (folder(), Issuers::new());
    let folder = folder.path();
    let root = path(folder, "root");
    issuers.issue(folder, "localhost", true, false);
    let (_server, address) = issued(folder);
    let outcome = say(&[&address, "Alice", "--ca", &root]);
    assert_eq!((outcome.code, outcome.errors.as_str()), (Some(0), ""));
    // By the issuers that the system knows, it is not.
    let outcome = say(&[&address, "Alice"]);
    is_refused(
        &outcome,
        &[
            "the issuer of the certificate",
            "--ca FILE",
            "--pin sha256=",
        ],
    );
    // By another name neither.
    let other = address.replace("localhost", "127.0.0.1");
    let outcome = say(&[&other, "Alice", "--ca", &root]);
    is_refused(&outcome, &["is for localhost; use that name"]);
}

#[test]
fn a_certificate_that_is_out_of_date_or_incomplete_is_told() {
    let (folder, issuers) = (folder(), Issuers::new());
    let folder = folder.path();
    let root = path(folder, "root");
    issuers.issue(folder, "localhost", true, true);
    let (_server, address) = issued(folder);
    let outcome = say(&[&address, "Alice", "--ca", &root]);
    is_refused(
        &outcome,
        &["has expired", "ask the server's operator to renew it"],
    );
    issuers.issue(folder, "localhost", false, false);
    let (_server, address) = issued(folder);
    let outcome = say(&[&address, "Alice", "--ca", &root]);
    is_refused(
        &outcome,
        &[
            "the issuer of the certificate",
            "the chain behind --tls-cert",
        ],
    );
}

#[test]
fn a_self_signed_server_is_trusted_by_its_pin() {
    let folder = folder();
    let (_server, address, pin) = self_signed(folder.path(), "127.0.0.1:0");
    for arguments in [
        &[&*format!("{address}#{pin}"), "Alice"][..],
        &[&address, "Alice", "--pin", &pin],
    ] {
        let outcome = say(arguments);
        assert_eq!((outcome.code, outcome.errors.as_str()), (Some(0), ""));
    }
    let outcome = say(&[&address, "Alice"]);
    is_refused(&outcome, &["is self-signed", &format!("say --pin {pin}")]);
    let other = format!("sha256={}", "0".repeat(64));
    let outcome = say(&[&address, "Alice", "--pin", &other]);
    is_refused(&outcome, &["is not the pinned one", &pin]);
}

#[test]
fn options_that_contradict_each_other_are_wrong_usage() {
    let [pin, other] = ["0", "1"].map(|digit| format!("sha256={}", digit.repeat(64)));
    let pinned = format!("chats://localhost:1#{pin}");
    for arguments in [
        &["chat://localhost:1", "Alice", "--pin", &pin][..],
        &[&pinned, "Alice", "--pin", &other],
        &[
            "chats://localhost:1",
            "Alice",
            "--pin",
            &pin,
            "--ca",
            "file",
        ],
        &["chats://localhost:1", "Alice", "--ca", "no such file"],
        &["chats://localhost:1#sha256=0", "Alice"],
    ] {
        let outcome = Program::start(arguments).outcome();
        assert_eq!(outcome.code, Some(2), "{outcome:?}");
    }
}

#[test]
fn a_server_without_tls_is_told() {
    let server = TestServer::start(&[]);
    let address = format!("chats://{}", server.address);
    let outcome = say(&[&address, "Alice"]);
    is_refused(
        &outcome,
        &["cannot encrypt the connection", "check the port"],
    );
}

/// As ssh does it: a terminal asks once, and tells of another certificate later.
#[test]
fn a_terminal_asks_about_a_new_server_and_remembers_it() {
    let folder = folder();
    let known = path(folder.path(), "known");
    let first = folder.path().join("first");
    let (server, address, pin) = self_signed(&first, "127.0.0.1:0");
    let arguments = [&*address, "Alice", "--known-servers", &known];
    let mut screen = Screen::start(&arguments);
    screen.ends_with("then type yes to join:");
    screen.type_keys("no\r");
    screen.ends_with("not connected\ncode 3, terminal as before");
    // Of several, it asks about the one that answers.
    let several = format!("chats://127.0.0.1:1,{address}");
    let mut screen = Screen::start(&[&*several, "Alice", "--known-servers", &known]);
    screen.ends_with("then type yes to join:");
    screen.type_keys("yes\r");
    screen.log_ends_with("/help shows the commands");
    screen.type_keys("/quit\r");
    screen.ends_with("code 0, terminal as before");
    let line = fs::read_to_string(&known).expect("it was written");
    let host = address.strip_prefix("chats://").expect("a scheme");
    assert_eq!(line, format!("{host} {pin}\n"));

    // A script may join it now.
    let known_to = |address: &str| say(&[address, "Bob", "--known-servers", &known]);
    assert_eq!(known_to(&address).code, Some(0));
    drop(server);
    let (_server, address, renewed) = self_signed(&folder.path().join("second"), host);
    is_refused(
        &known_to(&address),
        &["HAS CHANGED", &renewed, "remove line 1 of", &known],
    );
}

#[test]
fn a_password_is_not_sent_unseen_without_encryption() {
    // The address is one for documentation: nobody is there.
    for address in ["chat://192.0.2.1:1", "localhost:1,192.0.2.1:1"] {
        let mut program = Program::start_with(
            &[address, "Alice", "--connect-timeout", "1"],
            &[("CHAT_PASSWORD", "secret")],
        );
        program.end_input();
        let outcome = program.outcome();
        assert!(
            outcome
                .errors
                .contains("others on the network can read the password"),
            "{outcome:?}"
        );
    }
}

#[tokio::test]
async fn the_library_joins_by_an_address_with_a_pin_or_with_roots() {
    let folder = folder();
    let (_server, address, pin) = self_signed(folder.path(), "127.0.0.1:0");
    let pinned = format!("{address}#{pin}");
    let session = Connector::new().connect(&pinned, "Alice").await;
    session.expect("by its pin").leave().await;
    let pin = pin.parse().expect("a pin");
    let connector = Connector::new().trust(Trust::pinned(pin));
    let session = connector.connect(&address, "Alice").await;
    session.expect("by its pin").leave().await;
}
