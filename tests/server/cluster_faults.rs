//! Several servers while something fails: clients that go on over several addresses talk
//! through it, and what each was sent is captured. At the end all have heard the same, and
//! `chat-conformance audit` finds no gap, nothing twice and no two orders in the captures.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use chat::{
    capture::Capture,
    client::{Backoff, Connector, Event},
    wire::Capability,
};
use tokio::sync::Barrier;

use super::{
    cluster::Nats,
    support::{PATIENCE, TestServer},
};

/// How often a member speaks, in milliseconds.
const PACE_MS: u64 = 25;

/// How many members there are.
const MEMBERS: usize = 4;

/// How long something stands still: longer than it takes to be declared gone.
const STANDSTILL: Duration = Duration::from_secs(10);

/// Whether the room may begin anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    /// Everybody hears everything, once.
    GoesOn,
    /// What was said before may be lost, and nothing is resumed.
    MayEnd,
}

/// What the crowd has heard so far.
struct Heard {
    /// How often each member was told each text.
    texts: Vec<Mutex<BTreeMap<String, usize>>>,
    /// How many texts each member has had accepted.
    accepted: Vec<AtomicUsize>,
    stop: AtomicBool,
    /// Nobody speaks before all are there.
    there: Barrier,
}

/// Members that talk until they are told to stop.
pub struct Crowd {
    life: Life,
    heard: Arc<Heard>,
    captures: tempfile::TempDir,
    talking: Option<thread::JoinHandle<Vec<u64>>>,
}

impl Crowd {
    /// Each member begins at another of the addresses.
    pub fn talk(addresses: &[&str]) -> Self {
        Self::talk_in(Life::GoesOn, addresses)
    }

    fn talk_in(life: Life, addresses: &[&str]) -> Self {
        let heard = Arc::new(Heard {
            texts: (0..MEMBERS).map(|_| Mutex::default()).collect(),
            accepted: (0..MEMBERS).map(|_| AtomicUsize::default()).collect(),
            stop: AtomicBool::new(false),
            there: Barrier::new(MEMBERS),
        });
        let captures = tempfile::tempdir().expect("there is space");
        let members: Vec<_> = (0..MEMBERS)
            .map(|index| {
                let mut own: Vec<&str> = addresses.to_vec();
                own.rotate_left(index % addresses.len());
                (
                    index,
                    own.join(","),
                    captures.path().join(format!("{index}")),
                )
            })
            .collect();
        let all = Arc::clone(&heard);
        let talking = thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().expect("there are threads");
            runtime.block_on(async {
                let members = members.into_iter().map(|(index, addresses, path)| {
                    tokio::spawn(member(index, (life, addresses), path, Arc::clone(&all)))
                });
                let mut said = Vec::new();
                for member in members.collect::<Vec<_>>() {
                    said.push(member.await.expect("it does not panic"));
                }
                said
            })
        });
        let crowd = Self {
            life,
            heard,
            captures,
            talking: Some(talking),
        };
        crowd.goes_on();
        crowd
    }

    /// Waits until each member has had more accepted.
    pub fn goes_on(&self) {
        let count = |index: usize| self.heard.accepted[index].load(Ordering::Relaxed);
        let before: Vec<_> = (0..MEMBERS).map(count).collect();
        let began = Instant::now();
        while (0..MEMBERS).any(|index| count(index) < before[index] + 5) {
            assert!(began.elapsed() < 2 * PATIENCE, "nobody is heard any more");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends it: everybody has heard everything once, and no capture shows a fault.
    pub fn agrees(mut self) {
        self.goes_on();
        self.heard.stop.store(true, Ordering::Relaxed);
        let talking = self.talking.take().expect("it ends once");
        let said = talking.join().expect("nobody is lost");
        let listeners = match self.life {
            Life::GoesOn => 0..MEMBERS,
            // The captures say whether they hear the same.
            Life::MayEnd => 0..0,
        };
        for index in listeners {
            let texts = self.heard.texts[index].lock().expect("nobody panics");
            for (other, count) in said.iter().enumerate().filter(|(it, _)| *it != index) {
                for number in 0..*count {
                    let text = format!("{other}-{number}");
                    assert_eq!(texts.get(&text), Some(&1), "{text}, heard by {index}");
                }
            }
        }
        let files: Vec<PathBuf> = (0..MEMBERS)
            .map(|index| self.captures.path().join(format!("{index}")))
            .collect();
        let audit = Command::new(env!("CARGO_BIN_EXE_chat-conformance"))
            .arg("audit")
            .args(&files)
            .output()
            .expect("it is built");
        let told = String::from_utf8_lossy(&audit.stdout);
        assert_eq!(audit.status.code(), Some(0), "{told}");
    }
}

/// One member: speaks until it is told to stop, and leaves when it has heard all that the
/// others have said. Returns how much it has said.
async fn member(
    index: usize,
    (life, addresses): (Life, String),
    path: PathBuf,
    heard: Arc<Heard>,
) -> u64 {
    let file = File::create(path).expect("there is space");
    let backoff = Backoff {
        first: Duration::from_millis(200),
        longest: Duration::from_millis(500),
        ..Backoff::default()
    };
    let connector = Connector::new()
        .and(Capability::Resume)
        .capture(Capture::new(file, "cluster_faults"))
        .reconnecting(backoff);
    let name = format!("member{index}");
    let mut session = connector
        .connect(&addresses, &name)
        .await
        .expect("it is let in");
    heard.there.wait().await;
    let mut pace = tokio::time::interval(Duration::from_millis(PACE_MS));
    let (mut said, mut accepted) = (0, 0);
    let mut quiet_since = Instant::now();
    loop {
        let stops = heard.stop.load(Ordering::Relaxed);
        // All of its own are accepted, and nothing of the others has come for long.
        if stops && accepted == said && quiet_since.elapsed() > Duration::from_secs(2) {
            session.leave().await;
            return said;
        }
        tokio::select! {
            _ = pace.tick() => if !stops && said < accepted + 40 {
                session.send(format!("{index}-{said}")).await.expect("it goes on");
                said += 1;
            },
            event = session.next() => match event {
                Some(Event::Message { text, .. }) => {
                    quiet_since = Instant::now();
                    let mut texts = heard.texts[index].lock().expect("nobody panics");
                    *texts.entry(text).or_default() += 1;
                }
                Some(Event::Receipt { .. }) => {
                    quiet_since = Instant::now();
                    accepted += 1;
                    heard.accepted[index].fetch_add(1, Ordering::Relaxed);
                }
                Some(Event::Unknown { .. }) if life == Life::MayEnd => accepted += 1,
                Some(Event::NotResumed { .. } | Event::Gap { .. }) if life == Life::MayEnd => {}
                Some(
                    bad @ (Event::NotResumed { .. }
                    | Event::Gap { .. }
                    | Event::Unknown { .. }
                    | Event::Refused { .. }
                    | Event::Ended(_)),
                ) => panic!("{name}: {bad:?}"),
                Some(_) => {}
                None => panic!("{name} has no more events"),
            },
        }
    }
}

/// A way to NATS that can be cut: nothing passes, and nobody is told.
struct Way {
    port: u16,
    is_cut: Arc<AtomicBool>,
}

impl Way {
    fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("there are ports");
        let own_port = listener.local_addr().expect("it is bound").port();
        let is_cut = Arc::new(AtomicBool::new(false));
        let cut = Arc::clone(&is_cut);
        thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let Ok(far) = TcpStream::connect(("127.0.0.1", port)) else {
                    continue;
                };
                let (near_too, far_too) = (near.try_clone(), far.try_clone());
                let (Ok(near_too), Ok(far_too)) = (near_too, far_too) else {
                    continue;
                };
                for (from, to) in [(near, far), (far_too, near_too)] {
                    let cut = Arc::clone(&cut);
                    thread::spawn(move || pass(from, to, &cut));
                }
            }
        });
        Self {
            port: own_port,
            is_cut,
        }
    }

    fn set_cut(&self, is_cut: bool) {
        self.is_cut.store(is_cut, Ordering::Relaxed);
    }
}

/// Passes bytes on; drops the connection if any came while it was cut.
fn pass(mut from: TcpStream, mut to: TcpStream, cut: &AtomicBool) {
    let mut bytes = [0; 4_096];
    let mut was_cut = false;
    while let Ok(count) = from.read(&mut bytes) {
        was_cut |= cut.load(Ordering::Relaxed);
        if was_cut && !cut.load(Ordering::Relaxed) {
            break;
        }
        if count == 0 || (!was_cut && to.write_all(&bytes[..count]).is_err()) {
            break;
        }
    }
    let _ = from.shutdown(std::net::Shutdown::Both);
    let _ = to.shutdown(std::net::Shutdown::Both);
}

fn addresses(nodes: &[&TestServer]) -> Vec<String> {
    nodes.iter().map(|node| node.address.to_string()).collect()
}

/// Two nodes and a crowd on them.
fn two_nodes(nats: &Nats, options: &[&str]) -> (TestServer, TestServer, Crowd) {
    let first = nats.node("first", options);
    let second = nats.node("second", options);
    let addresses = addresses(&[&first, &second]);
    let addresses: Vec<_> = addresses.iter().map(String::as_str).collect();
    let crowd = Crowd::talk(&addresses);
    (first, second, crowd)
}

#[test]
fn a_node_is_killed_in_a_burst() {
    let nats = Nats::start();
    // With checkpoints meanwhile.
    let (first, second, crowd) = two_nodes(&nats, &["--cluster-checkpoint", "16KiB"]);
    first.signal("KILL");
    crowd.goes_on();
    // It is back from a checkpoint, and the other one goes.
    let _again = nats.node("first", &["--listen", &first.address.to_string()]);
    second.signal("TERM");
    crowd.agrees();
}

/// Less than 6 s: nobody is declared gone.
#[test]
fn a_node_stands_still_for_a_while() {
    let nats = Nats::start();
    let (first, _second, crowd) = two_nodes(&nats, &[]);
    first.signal("STOP");
    thread::sleep(Duration::from_secs(3));
    first.signal("CONT");
    crowd.agrees();
}

/// More than 6 s: the others declare it gone.
#[test]
fn a_node_stands_still_for_long() {
    let nats = Nats::start();
    let (first, second, crowd) = two_nodes(&nats, &[]);
    first.signal("STOP");
    thread::sleep(STANDSTILL);
    first.signal("CONT");
    first.wait_for_log("cut off the cluster");
    crowd.agrees();
    drop(second);
}

#[test]
fn nats_stands_still_for_long() {
    let nats = Nats::start();
    let (first, _second, crowd) = two_nodes(&nats, &[]);
    nats.signal("STOP");
    thread::sleep(STANDSTILL);
    first.wait_for_log("cut off the cluster");
    nats.signal("CONT");
    crowd.agrees();
}

/// Killed, and started again, when it may have lost what it had acknowledged: the room begins
/// anew, and then all hear the same again.
#[test]
fn a_nats_that_is_not_durable_is_killed_in_a_burst() {
    let mut nats = Nats::start();
    let first = nats.node("first", &[]);
    let second = nats.node("second", &[]);
    let addresses = addresses(&[&first, &second]);
    let addresses: Vec<_> = addresses.iter().map(String::as_str).collect();
    let crowd = Crowd::talk_in(Life::MayEnd, &addresses);
    nats.restart();
    crowd.goes_on();
    crowd.agrees();
}

/// Killed, and started again: a NATS whose machine goes on loses nothing that it has
/// acknowledged.
#[test]
fn a_durable_nats_is_killed_in_a_burst() {
    let mut nats = Nats::start();
    let (_first, _second, crowd) = two_nodes(&nats, &["--cluster-durable"]);
    nats.restart();
    crowd.goes_on();
    nats.restart();
    crowd.agrees();
}

/// One node cannot reach NATS, and does not learn it from its system.
#[test]
fn a_node_is_cut_off_nats() {
    let nats = Nats::start();
    let way = Way::to(nats.port);
    let address = format!("nats://127.0.0.1:{}", way.port);
    let first = Nats::node_at(&address, "first", &[]);
    let second = nats.node("second", &[]);
    let addresses = addresses(&[&first, &second]);
    let addresses: Vec<_> = addresses.iter().map(String::as_str).collect();
    let crowd = Crowd::talk(&addresses);
    way.set_cut(true);
    first.wait_for_log("cut off the cluster");
    crowd.goes_on();
    way.set_cut(false);
    crowd.agrees();
}
