//! Client steps: the suite plays the server, starts the client under test, types into
//! it and reads its output.

use std::{
    net::{SocketAddr, TcpListener},
    thread,
    time::Instant,
};

use serde_json::{Value, json};

use super::{Outcome, Play, StepError, Subject};
use crate::{
    conn::{Conn, Event},
    framing,
    messages::{self, Envelope},
    problem::Problem,
    process::Process,
    stream::Stream,
    timing::POLL,
    transcript::{expr::Limits, print, word},
    verdict::{Kind, millis},
};

/// A client to be started, and the server's end for it to connect to.
pub struct ClientUnderTest {
    command: String,
    listener: TcpListener,
    address: SocketAddr,
    process: Option<Process>,
    printed: Vec<String>,
}

impl ClientUnderTest {
    /// Opens the port that the client will be told of.
    pub fn new(command: &str) -> Result<Self, String> {
        let open = || -> std::io::Result<(TcpListener, SocketAddr)> {
            let listener = TcpListener::bind("127.0.0.1:0")?;
            listener.set_nonblocking(true)?;
            let address = listener.local_addr()?;
            Ok((listener, address))
        };
        let (listener, address) =
            open().map_err(|e| format!("the suite cannot listen on 127.0.0.1: {e}"))?;
        Ok(Self {
            command: command.to_owned(),
            listener,
            address,
            process: None,
            printed: Vec::new(),
        })
    }

    /// Whether a password can be given to it.
    fn takes_password(&self) -> bool {
        self.command.contains("{password}")
    }

    /// Starts it. `resumes`: with the option that makes it come back, if its command has
    /// one.
    fn start(&mut self, name: &str, password: &str, resumes: bool) -> Result<(), String> {
        let words = shlex::split(&self.command)
            .ok_or_else(|| format!("the command {:?} has a quote without its end", self.command))?;
        let words: Vec<String> = words
            .iter()
            .flat_map(|word| match resuming(word) {
                None => vec![word.as_str()],
                Some(option) if resumes => option.split_whitespace().collect(),
                Some(_) => Vec::new(),
            })
            .map(|word| {
                word.replace("{address}", &format!("chat://{}", self.address))
                    .replace("{host}", &self.address.ip().to_string())
                    .replace("{port}", &self.address.port().to_string())
                    .replace("{name}", name)
                    .replace("{password}", password)
            })
            .collect();
        self.process = Some(Process::start_words(&words)?);
        Ok(())
    }
}

/// Starts the client once and ends it at once: whether its command can be started
/// at all.
pub fn try_client(command: &str) -> Result<(), String> {
    ClientUnderTest::new(command)?.start("nobody", "", false)
}

/// The option in a word of a command that makes the client come back after its
/// connection is lost: `{resuming:OPTION}`.
fn resuming(word: &str) -> Option<&str> {
    word.strip_prefix("{resuming:")?.strip_suffix('}')
}

/// The token of the session that the suite opens first, in base64.
const FIRST_TOKEN: &str = "Zmlyc3Q=";

/// How many ids the suite says that it remembers, so half as many chats may be unanswered.
const RESEND_IDS_MAX: u64 = 8;

/// How long a line can be resumed that the suite plays the server of, in milliseconds.
const RESUME_MS: u64 = 60_000;

impl Play<'_> {
    fn client(&mut self) -> Result<&mut ClientUnderTest, StepError> {
        match &mut self.subject {
            Subject::Client(client) => Ok(client),
            Subject::Server(_) => Err(StepError::Fault(
                "this step is for client cases only".to_owned(),
            )),
        }
    }

    fn process(&mut self) -> Result<&mut Process, StepError> {
        self.client()?
            .process
            .as_mut()
            .ok_or_else(|| StepError::Fault("the client is not started at this step".to_owned()))
    }

    fn client_until(&self) -> Instant {
        Instant::now() + self.context.timing.client_step()
    }

    pub(super) fn client_starts(&mut self, password: Option<&str>) -> Outcome {
        let name = self.bindings.fill_text("<client>")?;
        let resumes = self.context.case.needs.iter().any(|c| c == "resume");
        let client = self.client()?;
        if password.is_some() && !client.takes_password() {
            return Err(StepError::NotRun(
                "put {password} into the client's command, where the client takes it".to_owned(),
            ));
        }
        client.start(&name, password.unwrap_or_default(), resumes)?;
        self.take_client()
    }

    /// Takes the client's next connection.
    fn take_client(&mut self) -> Outcome {
        let (deadline, timing) = (self.client_until(), self.context.timing);
        let (cut, began) = (self.context.cut, self.began);
        let client = self.client()?;
        loop {
            match client.listener.accept() {
                Ok((stream, _)) => {
                    let conn = stream
                        .set_nonblocking(false)
                        .and_then(|()| stream.set_nodelay(true))
                        .map(|()| Stream::Tcp(stream))
                        .map_err(|e| format!("the client's connection cannot be used: {e}"))?;
                    let conn = Conn::new(conn, Envelope::Server, cut, timing, began);
                    self.conns.insert("server".to_owned(), conn);
                    return Ok(());
                }
                Err(_) if Instant::now() < deadline => {
                    if let Some(status) = client.process.as_mut().and_then(Process::ended) {
                        let words = client.process.as_mut().map(|p| p.error_lines(deadline));
                        let sentence = format!(
                            "the client ended with {status} before it connected; its error output: {}",
                            words.unwrap_or_default()
                        );
                        return Err(Problem::new(Kind::Crash, &[], sentence).into());
                    }
                    thread::sleep(POLL);
                }
                Err(_) => {
                    return Err(Problem::new(Kind::Hang, &[], "the client did not connect").into());
                }
            }
        }
    }

    /// No rule says that a client connects again.
    pub(super) fn client_comes_back(&mut self) -> Outcome {
        match self.take_client() {
            Err(StepError::Problem(_)) => Err(StepError::NotRun(
                "the client does not connect again".to_owned(),
            )),
            taken => taken,
        }
    }

    pub(super) fn client_stays_away(&mut self) -> Outcome {
        match self.client()?.listener.accept() {
            Err(_) => Ok(()),
            Ok(_) => {
                let sentence = "the client connected again";
                Err(Problem::new(Kind::WrongAnswer, &[], sentence).into())
            }
        }
    }

    pub(super) fn client_joins(&mut self, capabilities: &[String]) -> Outcome {
        self.client_starts(None)?;
        let deadline = self.client_until();
        let message = match self.conn("server")?.next(deadline)? {
            Event::Message(message) if message.kind == "register" => message,
            Event::Message(message) => {
                return Err(Problem::new(
                    Kind::WrongAnswer,
                    &["CHAT-REG-1"],
                    "the client's first message is not Register",
                )
                .showing(&message)
                .into());
            }
            Event::Closed => {
                let sentence = "the client closed its connection before it registered";
                return Err(Problem::new(Kind::Closed, &[], sentence).into());
            }
            Event::Timeout => {
                return Err(Problem::new(Kind::Hang, &[], "the client did not register").into());
            }
        };
        let asked = message.body["capabilities"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let mut granted = Vec::new();
        for capability in capabilities {
            let value = Value::from(word::capability(capability)?);
            if !asked.contains(&value) {
                let hint = match capability.as_str() {
                    "resume" => {
                        "; put {resuming:OPTION} into its command, where an option makes it come back"
                    }
                    _ => "",
                };
                return Err(StepError::NotRun(format!(
                    "the client does not ask for {capability}{hint}"
                )));
            }
            granted.push(value);
        }
        let name = message.body["name"].clone();
        let limits = self.bindings.limits.clone();
        self.answer("registered", &registered(&name, &granted, &limits))?;
        if capabilities.iter().any(|c| c == "presence") {
            self.answer("members", &json!({ "names": [name] }))?;
        }
        Ok(())
    }

    fn answer(&mut self, kind: &str, body: &Value) -> Outcome {
        let envelope = messages::encode(Envelope::Server, kind, body, &[], &[])?;
        let conn = self.conn("server")?;
        let frame = framing::frame(&envelope);
        let prefix = frame.len() - envelope.len();
        conn.send(&frame, prefix, &print::message(kind, body))?;
        conn.flush()?;
        Ok(())
    }

    pub(super) fn client_types(&mut self, line: &str) -> Outcome {
        let line = self.bindings.fill_text(line)?;
        self.process()?.type_line(&line);
        Ok(())
    }

    pub(super) fn client_input_ends(&mut self) -> Outcome {
        self.process()?.end_input();
        Ok(())
    }

    pub(super) fn client_prints(&mut self, line: &str) -> Outcome {
        let wanted = self.bindings.fill_text(line)?;
        let deadline = self.client_until();
        let printed = self.process()?.line(deadline);
        match printed {
            Some(printed) => {
                self.client()?.printed.push(printed.clone());
                if printed == wanted {
                    return Ok(());
                }
                let mut problem =
                    Problem::new(Kind::WrongAnswer, &[], "the client printed something else");
                problem.received = printed;
                Err(problem.into())
            }
            None => {
                let process = self.process()?;
                let problem = match process.ended() {
                    Some(status) => {
                        // A client that ends by itself is wrong only where it must go on.
                        let kind = status.code().map_or(Kind::Crash, |_| Kind::Closed);
                        let sentence = format!(
                            "the client ended with {status} without printing it; its error output: {}",
                            process.error_lines(deadline)
                        );
                        let mut problem = Problem::new(kind, &[], sentence);
                        problem.received = "the end of the client".to_owned();
                        problem
                    }
                    None => Problem::new(Kind::Hang, &[], "the client printed nothing"),
                };
                Err(problem.into())
            }
        }
    }

    /// Checks all of its output, and the lines of its error output that were kept.
    pub(super) fn client_never_shows(&mut self, text: &str) -> Outcome {
        self.client_never_prints(text)?;
        let text = self.bindings.fill_text(text)?;
        let deadline = self.client_until();
        let said = self.process()?.error_output(deadline);
        if said.contains(&text) {
            let mut problem = Problem::new(
                Kind::WrongAnswer,
                &[],
                "the client wrote the text to its error output",
            );
            let lines = said.lines().filter(|line| line.contains(&text));
            problem.received = lines.collect::<Vec<_>>().join(" | ");
            return Err(problem.into());
        }
        Ok(())
    }

    /// Ends the client, kindly and then not, and looks at all that it printed.
    pub(super) fn client_never_prints(&mut self, line: &str) -> Outcome {
        let line = self.bindings.fill_text(line)?;
        let deadline = self.client_until();
        self.conns.remove("server");
        let process = self.process()?;
        process.end_input();
        if process.wait(deadline).is_none() {
            process.terminate();
        }
        let client = self.client()?;
        while let Some(printed) = client.process.as_mut().and_then(|p| p.line(deadline)) {
            client.printed.push(printed);
        }
        if let Some(printed) = client.printed.iter().find(|p| p.contains(&line)) {
            let mut problem = Problem::new(Kind::WrongAnswer, &[], "the client printed the text");
            problem.received = printed.clone();
            return Err(problem.into());
        }
        Ok(())
    }

    pub(super) fn client_ends(&mut self) -> Outcome {
        let deadline = self.client_until();
        let waited = millis(deadline.saturating_duration_since(Instant::now()));
        match self.process()?.wait(deadline) {
            Some(_) => Ok(()),
            None => Err(Problem::new(
                Kind::Hang,
                &[],
                format!("the client has not ended within {waited} ms"),
            )
            .into()),
        }
    }

    /// It ends by itself, not as if all were well, and has said why.
    pub(super) fn client_fails(&mut self) -> Outcome {
        self.client_ends()?;
        let deadline = self.client_until();
        let process = self.process()?;
        let has_failed = process.ended().is_some_and(|status| !status.success());
        if has_failed && !process.error_lines(deadline).is_empty() {
            return Ok(());
        }
        let sentence = match has_failed {
            true => "the client ended with an empty error output",
            false => "the client ended with exit code 0",
        };
        Err(Problem::new(Kind::WrongAnswer, &[], sentence).into())
    }
}

/// A Registered with everything that the schema asks for.
fn registered(name: &Value, granted: &[Value], limits: &Limits) -> Value {
    let mut limits: serde_json::Map<String, Value> = limits
        .iter()
        .map(|(name, n)| (messages::json_name(name), json!(n)))
        .collect();
    let mut token = Value::Null;
    if granted.iter().any(|c| c == "CAPABILITY_RESUME") {
        limits.insert("resumeMs".to_owned(), json!(RESUME_MS));
        limits.insert("resendIdsMax".to_owned(), json!(RESEND_IDS_MAX));
        token = json!(FIRST_TOKEN);
    }
    json!({
        "name": name, "epoch": "played-by-the-suite", "capabilities": granted, "limits": limits,
        "resumeToken": token,
    })
}
