//! Records conversations of today's programs, for a release. What has been recorded is
//! never recorded anew: delete nothing, add a folder. `cargo test --test released
//! record -- --ignored` writes what is missing in `conformance/released/v1`.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use chat::{
    client::{Connector, Event},
    wire::{Capability, client_envelope::Message},
};
use prost::Message as _;
use tokio::sync::mpsc;

use crate::{
    RELEASED,
    conversation::{Conversation, Step, read_frame},
    schema::Schema,
    support::{PATIENCE, TestServer, chat_with_id, command, envelope, frame, ping, pong, register},
};

/// The connection of the program that is recorded.
pub const CLIENT: &str = "client";

/// How long to wait between two looks at what has been recorded.
const LOOK: Duration = Duration::from_millis(2);

/// Lines that wait for the library to send them.
const LINES_MAX: usize = 100;

pub fn start_server(options: &[String], password: Option<&str>) -> TestServer {
    let options: Vec<_> = options.iter().map(String::as_str).collect();
    let mut command = command(&options);
    if let Some(password) = password {
        command.env("CHAT_PASSWORD", password);
    }
    TestServer::run(command)
}

/// A client of the conversation, as a process or a thread.
pub enum Client {
    Program {
        child: Child,
        input: Option<ChildStdin>,
    },
    Library {
        input: Option<mpsc::Sender<String>>,
        running: thread::JoinHandle<Vec<String>>,
    },
}

impl Client {
    pub fn start(conversation: &Conversation, address: SocketAddr) -> Self {
        let address = format!("chat://{address}");
        let (program, arguments) = conversation.client.split_first().expect("a program");
        if program == "library" {
            let (input, lines) = mpsc::channel(LINES_MAX);
            return Self::Library {
                input: Some(input),
                running: thread::spawn(move || library(&address, lines)),
            };
        }
        let mut command = Command::new(env!("CARGO_BIN_EXE_chat-client"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("CHAT_") {
                command.env_remove(name);
            }
        }
        command.env("XDG_DATA_HOME", env!("CARGO_TARGET_TMPDIR"));
        if let Some(password) = &conversation.password {
            command.env("CHAT_PASSWORD", password);
        }
        let arguments = arguments.iter().map(|it| it.replace("ADDRESS", &address));
        let mut child = command
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        Self::Program {
            input: child.stdin.take(),
            child,
        }
    }

    pub fn type_line(&mut self, line: &str) {
        match self {
            Self::Program { input, .. } => {
                let input = input.as_mut().expect("its input is open");
                // One that has been refused reads no more.
                let _ = writeln!(input, "{line}");
            }
            Self::Library { input, .. } => {
                let input = input.as_ref().expect("its input is open");
                let _ = input.blocking_send(line.to_owned());
            }
        }
    }

    pub fn end_input(&mut self) {
        match self {
            Self::Program { input, .. } => drop(input.take()),
            Self::Library { input, .. } => drop(input.take()),
        }
    }

    /// What it has printed, line by line, and how it has exited.
    pub fn finish(mut self) -> (Vec<String>, Option<i32>) {
        self.end_input();
        match self {
            Self::Program { mut child, .. } => {
                let output = BufReader::new(child.stdout.take().expect("it is piped"));
                let lines = output
                    .lines()
                    .map(|line| line.expect("it is text"))
                    .collect();
                (lines, child.wait().expect("it is our child").code())
            }
            Self::Library { running, .. } => (running.join().expect("no panic"), None),
        }
    }
}

/// A session with every capability of the release that prints what happens.
fn library(address: &str, mut lines: mpsc::Receiver<String>) -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(async {
        let connector = Connector::new().capabilities([
            Capability::Presence,
            Capability::Receipts,
            Capability::Keepalive,
        ]);
        let mut session = connector
            .connect(address, "Alice")
            .await
            .expect("a session");
        let sender = session.sender();
        tokio::spawn(async move {
            while let Some(line) = lines.recv().await {
                sender.send(line).await.expect("the session goes on");
            }
            sender.leave();
        });
        let mut printed = Vec::new();
        while let Some(event) = session.next().await {
            printed.push(match event {
                Event::Message {
                    seq, sender, text, ..
                } => format!("{seq} {sender} {text}"),
                Event::Members { names, more } => format!("members {names:?} {more}"),
                Event::Joined { name } => format!("joined {name}"),
                Event::Left { name, reason } => format!("left {name} {reason:?}"),
                Event::Receipt { id, seq } => format!("receipt {id} {seq}"),
                Event::Refused { id, code, .. } => format!("refused {id} {code:?}"),
                Event::Ended(ended) => format!("ended {:?}", ended.ending),
                other => format!("{other:?}"),
            });
        }
        printed
    })
}

/// A server and its connections while they are recorded.
struct Scene {
    conversation: Conversation,
    server: TestServer,
    steps: Arc<Mutex<Vec<Step>>>,
    peers: BTreeMap<&'static str, TcpStream>,
    client: Option<Client>,
}

impl Scene {
    fn new(server: &str, password: Option<&str>) -> Self {
        let conversation = Conversation {
            server: server.split_whitespace().map(str::to_owned).collect(),
            password: password.map(str::to_owned),
            ..Conversation::default()
        };
        Self {
            server: start_server(&conversation.server, password),
            conversation,
            steps: Arc::default(),
            peers: BTreeMap::new(),
            client: None,
        }
    }

    /// Starts a program with a proxy between it and the server.
    fn start(&mut self, client: &str) {
        self.conversation.client = client.split_whitespace().map(str::to_owned).collect();
        let proxy = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = proxy.local_addr().expect("it is bound");
        let (steps, server) = (Arc::clone(&self.steps), self.server.address);
        thread::spawn(move || {
            let (near, _) = proxy.accept().expect("the client connects");
            let far = TcpStream::connect(server).expect("the server accepts");
            let [from, to] = [&near, &far].map(|it| it.try_clone().expect("it is open"));
            let up = Arc::clone(&steps);
            let who = || CLIENT.to_owned();
            thread::spawn(move || {
                relay(from, to, &up, |bytes| match bytes {
                    Some(bytes) => Step::Sent { who: who(), bytes },
                    None => Step::SentEnd { who: who() },
                });
            });
            relay(far, near, &steps, |bytes| match bytes {
                Some(bytes) => Step::Received { who: who(), bytes },
                None => Step::ReceivedEnd { who: who() },
            });
        });
        self.client = Some(Client::start(&self.conversation, address));
    }

    fn note(&self, step: Step) {
        self.steps.lock().expect("nobody panics with it").push(step);
    }

    /// Waits until the program has received so many frames.
    fn client_has_received(&self, frames: usize) {
        let since = Instant::now();
        let received = |step: &&Step| matches!(step, Step::Received { who, .. } if who == CLIENT);
        while self
            .steps
            .lock()
            .expect("no panic")
            .iter()
            .filter(received)
            .count()
            < frames
        {
            assert!(since.elapsed() < PATIENCE, "{:?}", self.steps);
            thread::sleep(LOOK);
        }
    }

    fn types(&mut self, line: &str) {
        self.note(Step::Typed {
            line: line.to_owned(),
        });
        self.client.as_mut().expect("it runs").type_line(line);
    }

    fn input_ends(&mut self) {
        self.note(Step::InputEnd);
        self.client.as_mut().expect("it runs").end_input();
    }

    fn sends_bytes(&mut self, who: &'static str, bytes: Vec<u8>) {
        let server = self.server.address;
        let stream = self.peers.entry(who).or_insert_with(|| {
            let stream = TcpStream::connect(server).expect("the server accepts");
            stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
            stream
        });
        let mut stream = stream.try_clone().expect("it is open");
        self.note(Step::Sent {
            who: who.to_owned(),
            bytes: bytes.clone(),
        });
        stream.write_all(&bytes).expect("the server reads");
    }

    fn sends(&mut self, who: &'static str, message: chat::wire::ClientEnvelope) {
        self.sends_bytes(who, message.encode_length_delimited_to_vec());
    }

    fn receives(&mut self, who: &'static str, frames: usize) {
        for _ in 0..frames {
            let stream = self.peers.get_mut(who).expect("it is connected");
            let bytes = read_frame(stream).expect("a frame").expect("it is open");
            self.note(Step::Received {
                who: who.to_owned(),
                bytes,
            });
        }
    }

    fn joins(&mut self, who: &'static str, capabilities: &[Capability], frames: usize) {
        self.sends(who, register(who, capabilities));
        self.receives(who, frames);
    }

    fn is_closed(&mut self, who: &'static str) {
        let stream = self.peers.get_mut(who).expect("it is connected");
        assert_eq!(read_frame(stream).expect("an end"), None);
        self.note(Step::ReceivedEnd {
            who: who.to_owned(),
        });
    }

    fn leaves(&mut self, who: &'static str) {
        self.sends(who, envelope(Message::Leave(chat::wire::Leave {})));
        self.is_closed(who);
    }

    fn stops(&mut self) {
        self.note(Step::Stop);
        self.server.signal("TERM");
    }

    /// Writes what has been recorded, unless there is such a conversation already.
    fn write(mut self, name: &str, title: &str) {
        if let Some(client) = self.client.take() {
            (self.conversation.output, self.conversation.exit) = client.finish();
            // Both ends of the proxy.
            let since = Instant::now();
            let is_end = |step: &&Step| matches!(step, Step::ReceivedEnd { who } | Step::SentEnd { who } if who == CLIENT);
            while self
                .steps
                .lock()
                .expect("no panic")
                .iter()
                .filter(is_end)
                .count()
                < 2
            {
                assert!(since.elapsed() < PATIENCE);
                thread::sleep(LOOK);
            }
        }
        self.conversation.steps = self.steps.lock().expect("no panic").clone();
        let folder = format!("{RELEASED}/v1");
        let path = format!("{folder}/conversations/{name}.txt");
        let text = self.conversation.print(title, &Schema::read(&folder));
        if let Ok(mut file) = fs::File::create_new(&path) {
            file.write_all(text.as_bytes()).expect("it can be written");
        }
    }
}

/// Passes frames on, each noted before the other side has it.
fn relay(
    mut from: TcpStream,
    mut to: TcpStream,
    steps: &Mutex<Vec<Step>>,
    step: impl Fn(Option<Vec<u8>>) -> Step,
) {
    loop {
        let frame = read_frame(&mut from).ok().flatten();
        let mut steps = steps.lock().expect("nobody panics with it");
        steps.push(step(frame.clone()));
        match frame {
            Some(frame) => drop(to.write_all(&frame)),
            None => return drop(to.shutdown(Shutdown::Write)),
        }
    }
}

const ALL: [Capability; 3] = [
    Capability::Presence,
    Capability::Receipts,
    Capability::Keepalive,
];

#[test]
#[ignore = "writes the conversations of a release"]
fn record() {
    let mut scene = Scene::new("", None);
    scene.joins("Bob", &[], 1);
    scene.start("chat-client ADDRESS Alice");
    for (index, line) in ["hello", "how are you?", "fine, thank you \u{1f600}"]
        .iter()
        .enumerate()
    {
        scene.client_has_received(1 + index);
        scene.types(line);
        scene.receives("Bob", 1);
    }
    scene.client_has_received(4);
    scene.input_ends();
    scene.leaves("Bob");
    scene.write(
        "client-says-lines",
        "chat-client says three lines and leaves.",
    );

    let mut scene = Scene::new("", None);
    scene.joins("Bob", &[], 1);
    scene.start("chat-client --listen ADDRESS Alice");
    scene.input_ends();
    scene.client_has_received(1);
    for (text, id) in [("one", 0), ("two", 7), ("\u{202e}three", 0)] {
        scene.sends("Bob", chat_with_id(text, id));
    }
    scene.client_has_received(4);
    scene.stops();
    scene.receives("Bob", 1);
    scene.is_closed("Bob");
    scene.write(
        "client-listens",
        "chat-client listens until the server closes.",
    );

    let mut scene = Scene::new("", None);
    scene.joins("alice", &[], 1);
    scene.start("chat-client ADDRESS Alice");
    scene.client_has_received(1);
    scene.leaves("alice");
    scene.write(
        "client-finds-its-name-in-use",
        "chat-client is refused: its name is in use.",
    );

    let mut scene = Scene::new("", Some("correct horse"));
    scene.start("chat-client ADDRESS Alice");
    scene.client_has_received(1);
    scene.types("let in");
    scene.client_has_received(2);
    scene.input_ends();
    scene.sends("Bob", register("Bob", &[]));
    scene.receives("Bob", 1);
    scene.is_closed("Bob");
    scene.write(
        "client-has-the-password",
        "chat-client has the password; Bob does not.",
    );

    let mut scene = Scene::new("--text-bytes-max 10 --frame-bytes-max 300", None);
    scene.start("chat-client ADDRESS Alice");
    scene.client_has_received(1);
    scene.types("longer than ten bytes");
    scene.client_has_received(4);
    scene.input_ends();
    scene.write(
        "client-splits-a-long-line",
        "chat-client splits what the limits forbid.",
    );

    let mut scene = Scene::new("", None);
    scene.start("library");
    scene.client_has_received(2);
    scene.joins("Bob", &[], 1);
    scene.client_has_received(3);
    scene.types("hello");
    scene.receives("Bob", 1);
    scene.client_has_received(4);
    scene.sends("Bob", chat_with_id("hello Alice", 0));
    scene.client_has_received(5);
    // The holder of a name is pinged at once, answers, and keeps it.
    scene.sends("Mallory", register("alice", &[]));
    scene.receives("Mallory", 1);
    scene.is_closed("Mallory");
    scene.leaves("Bob");
    scene.client_has_received(7);
    scene.input_ends();
    scene.write(
        "library-with-every-capability",
        "The library with presence, receipts and keepalive.",
    );

    let mut scene = Scene::new("--keepalive-interval-ms 1s", None);
    scene.joins("Alice", &[Capability::Keepalive], 1);
    scene.receives("Alice", 1);
    scene.sends("Alice", pong(1_000));
    scene.leaves("Alice");
    scene.write("silence-is-pinged", "A member says nothing for a while.");

    let mut scene = Scene::new("", None);
    scene.joins("Alice", &ALL, 2);
    scene.joins("Bob", &ALL[..1], 2);
    scene.receives("Alice", 1);
    scene.joins("Carol", &[], 1);
    scene.receives("Alice", 1);
    scene.receives("Bob", 1);
    scene.sends("Alice", chat_with_id("with a receipt", 9));
    scene.receives("Alice", 1);
    scene.receives("Bob", 1);
    scene.receives("Carol", 1);
    scene.sends("Carol", chat_with_id("without", 0));
    scene.receives("Alice", 1);
    scene.receives("Bob", 1);
    scene.sends("Alice", ping(5));
    scene.receives("Alice", 1);
    scene.sends("Alice", pong(5));
    scene.leaves("Bob");
    scene.receives("Alice", 1);
    scene.leaves("Carol");
    scene.receives("Alice", 1);
    scene.stops();
    scene.receives("Alice", 1);
    scene.is_closed("Alice");
    scene.write(
        "members-with-and-without-capabilities",
        "Three members, with all, one and no capability.",
    );

    let mut scene = Scene::new(
        "--rate-limit 1 --rate-burst 1 --frame-bytes-max 300 --text-bytes-max 10",
        None,
    );
    scene.joins("Alice", &[Capability::Receipts], 1);
    let refused = [
        chat_with_id("", 1),
        chat_with_id("a\nb", 2),
        chat_with_id("longer than ten bytes", 3),
        register("Alice", &[]),
        ping(1),
        chat::wire::ClientEnvelope { message: None },
        chat_with_id("fine", 4),
        chat_with_id("too soon", 5),
    ];
    for message in refused {
        scene.sends("Alice", message);
        scene.receives("Alice", 1);
    }
    scene.leaves("Alice");
    scene.write(
        "refusals-that-a-session-survives",
        "What is refused, and the session goes on.",
    );

    let mut scene = Scene::new(
        "--register-deadline-ms 300 --frame-bytes-max 300 --text-bytes-max 10",
        None,
    );
    let ends: [(&'static str, Vec<u8>); 9] = [
        (
            "early-chat",
            chat_with_id("hello", 0).encode_length_delimited_to_vec(),
        ),
        (
            "no-name",
            register("", &[]).encode_length_delimited_to_vec(),
        ),
        (
            "bad-name",
            register("a b", &[]).encode_length_delimited_to_vec(),
        ),
        (
            "reserved",
            register("ALL", &[]).encode_length_delimited_to_vec(),
        ),
        ("no-envelope", frame(b"\x0a\x05x")),
        ("too-long", vec![0x81, 0x08]),
        ("no-length", vec![0xff; 11]),
        ("nothing-known", frame(b"")),
        ("silent", vec![0x05]),
    ];
    for (who, bytes) in ends {
        scene.sends_bytes(who, bytes);
        scene.receives(who, 1);
        scene.is_closed(who);
    }
    scene.joins("Alice", &[], 1);
    scene.sends_bytes("Alice", vec![0xad, 0x02]);
    scene.receives("Alice", 1);
    scene.is_closed("Alice");
    scene.write(
        "refusals-that-end-the-session",
        "What is refused, and the session ends.",
    );
}
