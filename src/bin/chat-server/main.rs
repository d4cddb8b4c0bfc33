//! `chat-server`: runs a server with the given options.

mod announce;
mod log;
mod reload;
mod signals;

#[cfg(feature = "store")]
use std::time::{SystemTime, UNIX_EPOCH};
use std::{
    io::Write,
    path::Path,
    process::ExitCode,
    sync::{Arc, Mutex},
};

use anyhow::{Context, Result};
use chat::{
    address::Scheme,
    cli,
    files::{self, WrittenFile},
    limits::Limits,
    password::source::PASSWORD_VARIABLE,
    runtime,
    server::{
        Certificates, Server,
        configured::Configured,
        options::{LISTENS_NOWHERE, Options, ServerCommand},
        systemd::{self, Handed, Notifier},
    },
    session::AccessPolicy,
};
use tokio::runtime::Builder;
use tracing::{info, warn};

use announce::{Listening, Way};
use log::Log;
use reload::Reload;
use signals::Signals;

/// Packs the two blocks that the runtime keeps for each connection, aligned to 128
/// bytes, without the gaps of the system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The exit code after a second signal: as if the signal had ended the program.
const EXIT_CODE_INTERRUPTED: i32 = 130;

fn main() -> ExitCode {
    let configured = Configured::read();
    match &configured.options.command {
        Some(ServerCommand::Ctl(ctl)) => return ctl.run(),
        Some(ServerCommand::Health(health)) => return health.run(),
        #[cfg(feature = "store")]
        Some(ServerCommand::History(history)) => {
            let done = history.run(now_unix_ms());
            return done.unwrap_or_else(|sentence| fail(&sentence));
        }
        None => {}
    }
    let options = &configured.options;
    if options.print_config {
        let page = configured.print().unwrap_or_else(|it| refuse_to_start(&it));
        return print(&page);
    }
    if options.check {
        let warnings = options.check().unwrap_or_else(|it| refuse_to_start(&it));
        for warning in warnings {
            let _ = writeln!(std::io::stderr(), "chat-server: {warning}");
        }
        return print("the configuration is good\n");
    }
    match run(configured) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&cli::naming_variables::<Options>(&format!("{error:#}"))),
    }
}

/// Ends the program with a sentence.
fn fail(sentence: &str) -> ExitCode {
    // A caller that closed standard error still gets the exit code.
    let _ = writeln!(std::io::stderr(), "chat-server: {sentence}");
    ExitCode::FAILURE
}

/// Prints what was asked for instead of serving.
fn print(page: &str) -> ExitCode {
    match files::write_or_print(Path::new("-"), page) {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => fail(&sentence),
    }
}

#[cfg(feature = "store")]
fn now_unix_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| i64::try_from(now.as_millis()).unwrap_or(i64::MAX))
}

fn run(configured: Configured) -> Result<()> {
    // Huge pages would be resident long before they are used. This must precede any
    // thread; a system that refuses only costs memory.
    #[cfg(target_os = "linux")]
    let _ = nix::sys::prctl::set_thp_disable(true);
    // Before there is a thread: it changes the environment.
    let handed = Handed::take();
    // As many connections as the system allows: a shortage shows when accepting. Before
    // the event loop, which needs some descriptors itself.
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    runtime::build(&mut Builder::new_multi_thread())
        .context("cannot start the event loop")?
        .block_on(serve(configured, handed))
}

async fn serve(configured: Configured, handed: Handed) -> Result<()> {
    let options = &configured.options;
    // An empty one is refused, so that a server that was meant to be closed does not
    // start open.
    let password = std::env::var_os(PASSWORD_VARIABLE);
    let live = options.live(password);
    let (live, warning) = live.unwrap_or_else(|it| refuse_to_start(&it));
    let certificates = options.reach.certificates();
    let certificates = certificates
        .unwrap_or_else(|it| refuse_to_start(&it))
        .map(Arc::new);
    if !options.listens() {
        refuse_to_start(LISTENS_NOWHERE);
    }
    let log = Log::start(options.verbose, options.log_format);
    for name in cli::empty_variables::<Options>() {
        warn!("{name} is empty and counts as not set");
    }
    let of_certificates = certificates.iter().flat_map(|it| it.warnings());
    for warning in warning.into_iter().chain(of_certificates) {
        warn!("{warning}");
    }
    let access = &live.access;
    if access.password.is_some() || access.names.is_some() {
        info!(
            password = access.password.is_some(),
            names = access.names.as_ref().map(|names| names.len()),
            "not for everybody"
        );
    }
    if access.first_proof_owns || !access.owners.is_empty() {
        let owned = access.first_proof_owns;
        info!(
            first_proof = owned,
            listed = access.owners.len(),
            "names have owners"
        );
    }
    let mut signals = Signals::catch(options.no_hangup)?;
    let has_password = access.password.is_some();
    #[cfg(feature = "cluster")]
    let nats = options.nats(&live.limits);
    #[cfg(feature = "cluster")]
    let nats = nats.unwrap_or_else(|it| refuse_to_start(&it));
    let mut server = open(options, live.limits.clone(), live.access.clone())?;
    server.trust_proxies(&options.reach.proxy_from);
    server.use_sockets(handed);
    let listening = listen(&mut server, options, certificates.as_ref()).await?;
    #[cfg(feature = "cluster")]
    if let Some(nats) = nats {
        let port = listening.first().map_or(0, |first| first.address.port());
        let node = options.cluster.node.clone();
        let node = node.unwrap_or_else(|| node_name(port));
        server.join_cluster(nats, node).await;
    }
    if let Some(sentence) = server.unused_socket() {
        refuse_to_start(&sentence);
    }
    warn_of_readers(&listening, has_password);
    let metrics = match &options.metrics {
        None => None,
        Some(listen) => {
            let address = server.listen_metrics(listen, certificates.clone()).await;
            Some(address.with_context(|| format!("cannot answer monitors on {listen}"))?)
        }
    };
    let reloader = server.reloader();
    for change in reloader.apply(live) {
        info!("{change}");
    }
    let (port_path, control) = (options.port_file.clone(), options.control.clone());
    let reload = Arc::new(Reload {
        server: reloader,
        certificates,
        level: log.level(),
        configured: Mutex::new(configured),
    });
    if let Some(path) = &control {
        let reload = Arc::clone(&reload);
        let listening = server
            .listen_control(path, Arc::new(move || reload.run()))
            .await;
        listening.with_context(|| format!("cannot have the control socket {}", path.display()))?;
    }
    let port_file = match (&port_path, listening.first()) {
        (Some(path), Some(first)) => Some(Arc::new(PortFile::write(path, first.address.port())?)),
        _ => None,
    };
    let port_file_at_exit = port_file.clone();
    announce::announce(&listening, metrics);
    let notifier = Notifier::from_env().map(Arc::new);
    if let Some(notifier) = &notifier {
        notifier.ready();
        if let Some(interval) = systemd::watchdog_interval() {
            tokio::spawn(server.watch(interval, Arc::clone(notifier)));
        }
    }

    server
        .run(async move {
            signals.close(async || on_hangup(&reload).await).await;
            if let Some(notifier) = &notifier {
                notifier.stopping();
            }
            tokio::spawn(async move {
                signals.end_at_once().await;
                if let Some(port_file) = port_file_at_exit {
                    port_file.0.remove();
                }
                std::process::exit(EXIT_CODE_INTERRUPTED);
            });
        })
        .await?;
    Ok(())
}

/// Reads files, so not on a thread of the connections.
async fn on_hangup(reload: &Arc<Reload>) {
    let reload = Arc::clone(reload);
    let reloaded = tokio::task::spawn_blocking(move || reload.run()).await;
    match reloaded.unwrap_or_else(|error| Err(error.to_string())) {
        Ok(sentence) => info!("SIGHUP: {sentence}"),
        Err(sentence) => warn!("SIGHUP: {sentence}"),
    }
}

/// The name of this server in a cluster, if none is given: other servers on this machine
/// have other ports.
#[cfg(feature = "cluster")]
fn node_name(port: u16) -> String {
    let host = nix::unistd::gethostname().unwrap_or_default();
    let host = host
        .to_string_lossy()
        .replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    format!("{host}-{port}")
}

/// A server with the room that it is to have.
fn open(options: &Options, limits: Limits, access: AccessPolicy) -> Result<Server> {
    #[cfg(feature = "store")]
    if let Some(data) = options.data() {
        return Ok(Server::with_data(limits, access, &data)?);
    }
    #[cfg(not(feature = "store"))]
    let _ = options;
    Ok(Server::new(limits, access)?)
}

/// Ends the program as for any other wrong usage: with a sentence and exit code 2.
fn refuse_to_start(sentence: &str) -> ! {
    cli::refuse::<Options>(sentence)
}

/// Listens in all the ways that the options say.
async fn listen(
    server: &mut Server,
    options: &Options,
    certificates: Option<&Arc<Certificates>>,
) -> Result<Vec<Listening>> {
    let mut listening = Vec::new();
    if let Some(listen) = options.listen() {
        let address = server.listen(listen).await;
        listening.push(Listening {
            way: Way::Client(Scheme::Chat),
            address: address.with_context(|| format!("cannot listen on {listen}"))?,
            pin: None,
        });
    }
    if let (Some(listen), Some(certificates)) = (&options.reach.tls_listen, certificates) {
        let address = server.listen_tls(listen, Arc::clone(certificates)).await;
        listening.push(Listening {
            way: Way::Client(Scheme::Chats),
            address: address.with_context(|| format!("cannot listen for TLS on {listen}"))?,
            pin: certificates.pin(),
        });
    }
    #[cfg(feature = "quic")]
    if let (Some(listen), Some(certificates)) = (&options.reach.quic_listen, certificates) {
        let connections_max = options.reach.quic_connections_max;
        let address = server
            .listen_quic(listen, Arc::clone(certificates), connections_max)
            .await;
        listening.push(Listening {
            way: Way::Client(Scheme::Chatq),
            address: address.with_context(|| format!("cannot listen for QUIC on {listen}"))?,
            pin: certificates.pin(),
        });
    }
    if let Some(listen) = &options.reach.web_listen {
        let (certificates, origins) = (certificates.cloned(), &options.reach.web_origin);
        let is_encrypted = certificates.is_some();
        let address = server
            .listen_web(listen, certificates, origins.clone())
            .await;
        listening.push(Listening {
            way: Way::Browser { is_encrypted },
            address: address.with_context(|| format!("cannot listen for browsers on {listen}"))?,
            pin: None,
        });
    }
    Ok(listening)
}

/// Warns if others than this machine's users can join without encryption.
fn warn_of_readers(listening: &[Listening], has_password: bool) {
    for it in listening {
        if !it.way.is_encrypted() && !it.address.ip().is_loopback() {
            let what = match has_password {
                true => "what is said, and the password",
                false => "what is said",
            };
            warn!(
                address = %it.address,
                "others on the network can read {what}: a certificate encrypts it (--tls-listen)"
            );
        }
    }
}

/// A file that holds the port for as long as the server listens.
struct PortFile(WrittenFile);

impl PortFile {
    fn write(path: &Path, port: u16) -> Result<Self> {
        files::write(path, format!("{port}\n").as_bytes())
            .map(Self)
            .with_context(|| format!("cannot write the port to {}", path.display()))
    }
}

impl Drop for PortFile {
    fn drop(&mut self) {
        self.0.remove();
    }
}
