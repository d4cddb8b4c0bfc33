//! The driver between connections, in memory and simulated time.

use std::sync::atomic::AtomicU32;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::*;
use crate::client::Session;
use crate::frame::{self, Split};
use crate::wire::client_envelope::Message as Sent;
use crate::wire::{ClientEnvelope, Limits, Receipt, ServerEnvelope, server_envelope};
use prost::Message as _;

const FRAME_BYTES_MAX: u32 = 4_096;

/// A server that can be reached or not.
struct Place {
    servers: mpsc::Sender<DuplexStream>,
    tries: Arc<AtomicU32>,
    is_gone: bool,
}

impl Reopen for Place {
    fn open(
        &self,
        resume: Option<Resume>,
        _filter: Option<crate::wire::Filter>,
    ) -> Pin<Box<dyn Future<Output = Result<Opened, Failure>> + Send + '_>> {
        Box::pin(async move {
            self.tries.fetch_add(1, Ordering::SeqCst);
            if self.is_gone {
                return Err(Failure {
                    ending: lost("nobody there"),
                    retry: Retry::Worthwhile,
                    retry_after_ms: 0,
                });
            }
            let (client, server) = duplex(65_536);
            let _ = self.servers.send(server).await;
            let seq = resume.expect("a line").seq;
            Ok((halves(client), registered(seq + 1)))
        })
    }

    fn address(&self) -> Option<Address> {
        None
    }
}

fn lost(reason: &str) -> Ending {
    let reason = reason.to_owned();
    Ending::Lost { reason }
}

fn halves(stream: DuplexStream) -> Halves<ByteStream> {
    Halves::new(Box::new(stream) as ByteStream)
}

fn registered(resumed_from: u64) -> Registered {
    Registered {
        name: "alice".to_owned(),
        epoch: "e".to_owned(),
        capabilities: vec![Capability::Receipts.into(), Capability::Resume.into()],
        limits: Some(Limits {
            text_bytes_max: 100,
            resend_ids_max: 64,
            ..Limits::default()
        }),
        resume_token: b"token".to_vec(),
        resumed_from,
        ..Registered::default()
    }
}

struct Stage {
    session: Session,
    server: DuplexStream,
    servers: mpsc::Receiver<DuplexStream>,
    tries: Arc<AtomicU32>,
}

fn stage(is_gone: bool) -> Stage {
    let (servers_given, servers) = mpsc::channel(8);
    let tries = Arc::default();
    let place = Place {
        servers: servers_given,
        tries: Arc::clone(&tries),
        is_gone,
    };
    let (client, server) = duplex(65_536);
    let again: (Box<dyn Reopen>, _) = (Box::new(place), Backoff::default());
    Stage {
        session: Session::start(
            halves(client),
            registered(0),
            Some(again),
            crate::client::Filter::default(),
            None,
        ),
        server,
        servers,
        tries,
    }
}

/// The next message of the client; `None` when it has closed.
async fn next(server: &mut DuplexStream) -> Option<Sent> {
    let mut bytes = Vec::new();
    loop {
        if let Split::Frame { body, .. } = frame::split(&bytes, FRAME_BYTES_MAX).expect("frames") {
            let envelope = ClientEnvelope::decode(body).expect("an envelope");
            return envelope.message;
        }
        bytes.push(server.read_u8().await.ok()?);
    }
}

async fn receipt(server: &mut DuplexStream, id: u64) {
    let receipt = Receipt {
        id,
        seq: id,
        time_unix_ms: 1,
    };
    let mut bytes = Vec::new();
    let envelope = ServerEnvelope {
        message: Some(server_envelope::Message::Receipt(receipt)),
    };
    frame::encode(&envelope, &mut bytes);
    server.write_all(&bytes).await.expect("an open pipe");
}

fn is_chat(message: Option<Sent>, expected: u64) -> bool {
    matches!(message, Some(Sent::Chat(chat)) if chat.id == expected)
}

/// A connection on which nothing is confirmed is given up once; then the server is the
/// reason, and the client leaves.
#[tokio::test(start_paused = true)]
async fn a_connection_that_confirms_nothing_is_given_up_once() {
    let mut stage = stage(false);
    stage.session.send("one").await.expect("sent");
    let leaving = tokio::spawn(stage.session.leave());
    assert!(is_chat(next(&mut stage.server).await, 1));
    let mut second = stage.servers.recv().await.expect("a connection");
    assert!(is_chat(next(&mut second).await, 1));
    assert_eq!(
        next(&mut second).await,
        Some(Sent::Leave(crate::wire::Leave {}))
    );
    drop(second);
    let ended = leaving.await.expect("no panic");
    assert_eq!((ended.ending, ended.unconfirmed), (Ending::Left, 1));
    assert_eq!(stage.tries.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_comes_back_for_its_receipts() {
    let mut stage = stage(false);
    stage.session.send("one").await.expect("sent");
    let leaving = tokio::spawn(stage.session.leave());
    assert!(is_chat(next(&mut stage.server).await, 1));
    drop(stage.server);
    let mut second = stage.servers.recv().await.expect("a connection");
    assert!(is_chat(next(&mut second).await, 1));
    receipt(&mut second, 1).await;
    assert_eq!(
        next(&mut second).await,
        Some(Sent::Leave(crate::wire::Leave {}))
    );
    drop(second);
    let ended = leaving.await.expect("no panic");
    assert_eq!((ended.ending, ended.unconfirmed), (Ending::Left, 0));
}

/// A server that is gone is looked for within a second, and no more often than once a
/// minute in the end, for a day.
#[tokio::test(start_paused = true)]
async fn the_tries_get_rare_and_end() {
    let mut stage = stage(true);
    drop(stage.server);
    let started = Instant::now();
    let mut waits = Vec::new();
    let ended = loop {
        match stage.session.next().await.expect("an event") {
            Event::Reconnecting { after, .. } => waits.push(after.as_secs_f64()),
            Event::Ended(ended) => break ended,
            event => panic!("{event:?}"),
        }
    };
    assert_eq!(ended.ending, lost("nobody there"));
    assert!(waits[0] <= 1.0 && waits[1] <= 2.0, "{waits:?}");
    assert!(waits.iter().all(|&wait| (0.5..=60.0).contains(&wait)));
    let hours = started.elapsed().as_secs_f64() / 3_600.0;
    assert!((24.0..24.1).contains(&hours), "{hours}");
    assert_eq!(stage.tries.load(Ordering::SeqCst) as usize, waits.len());
    assert!(waits.len() < 3_000, "{}", waits.len());
}

/// A dropped session is not kept alive by a server that is gone.
#[tokio::test(start_paused = true)]
async fn a_dropped_session_does_not_wait() {
    let mut stage = stage(true);
    drop(stage.server);
    let event = stage.session.next().await;
    assert!(matches!(event, Some(Event::Reconnecting { .. })));
    drop(stage.session);
    tokio::time::sleep(std::time::Duration::from_secs(3_600)).await;
    assert_eq!(stage.tries.load(Ordering::SeqCst), 0);
}

/// A machine that was asleep, or a program that was stopped: the server is not to blame
/// for the silence of that time.
#[tokio::test(start_paused = true)]
async fn a_client_that_was_stopped_pings_before_it_judges_silence() {
    let (client, mut server) = duplex(65_536);
    let registered = Registered {
        capabilities: vec![Capability::Keepalive.into(), Capability::Receipts.into()],
        limits: Some(Limits {
            keepalive_interval_ms: 1_000,
            idle_deadline_ms: 2_500,
            ..Limits::default()
        }),
        ..registered(0)
    };
    let mut session = Session::start(
        halves(client),
        registered,
        None,
        crate::client::Filter::default(),
        None,
    );
    tokio::task::yield_now().await;
    tokio::time::advance(std::time::Duration::from_secs(3_600)).await;
    assert!(matches!(next(&mut server).await, Some(Sent::Ping(_))));
    receipt(&mut server, 1).await;
    assert_eq!(session.next().await, Some(Event::Receipt { id: 1, seq: 1 }));
    // A server that does not answer is given up as before.
    assert!(matches!(next(&mut server).await, Some(Sent::Ping(_))));
    let ended = session.next().await;
    assert!(
        matches!(&ended, Some(Event::Ended(Ended { ending, .. })) if *ending == lost("the server was silent for too long")),
        "{ended:?}"
    );
}
