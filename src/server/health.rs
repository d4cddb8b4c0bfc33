//! Health: `chat-server health` asks a running server whether it works, for container
//! images and scripts that have no other client for HTTP.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs},
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Args;

use super::reach_options::parse_listen;
use crate::address::Address;

/// How long the server may take for all of it, in milliseconds.
const ANSWER_MS_MAX: u64 = 5_000;

/// The most that is read of an answer, in bytes: its first line is enough.
const ANSWER_BYTES_MAX: usize = 64;

/// How the answer of a healthy server begins.
const HEALTHY: &[u8] = b"HTTP/1.1 200 ";

/// The arguments of `chat-server health`.
#[derive(Debug, Args)]
pub struct HealthOptions {
    /// Where the server answers monitors, as its own --metrics says
    #[arg(long, env = "CHAT_METRICS", value_name = "HOST[:PORT]", value_parser = parse_listen)]
    metrics: String,

    /// Ask whether it takes clients and messages now (/readyz), and not only whether it
    /// works (/healthz)
    #[arg(long)]
    ready: bool,
}

impl HealthOptions {
    /// Asks the server. Returns exit code 0 if it is healthy, and 1 with a sentence if it
    /// is not.
    pub fn run(&self) -> ExitCode {
        let problem = match self.ask() {
            Ok(answer) if answer.starts_with(HEALTHY) => return ExitCode::SUCCESS,
            Ok(answer) => {
                let answer = String::from_utf8_lossy(&answer);
                let line = answer.lines().next().unwrap_or_default();
                format!("it answers {line:?}")
            }
            Err(error) => error.to_string(),
        };
        let sentence = format!("no healthy server at {}: {problem}", self.metrics);
        let _ = writeln!(io::stderr(), "chat-server health: {sentence}");
        ExitCode::FAILURE
    }

    /// The beginning of the answer.
    fn ask(&self) -> io::Result<Vec<u8>> {
        let deadline = Instant::now() + Duration::from_millis(ANSWER_MS_MAX);
        let mut stream = self.connect(deadline)?;
        let path = if self.ready { "/readyz" } else { "/healthz" };
        stream.set_write_timeout(Some(left(deadline)?))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
        let mut answer = [0; ANSWER_BYTES_MAX];
        let mut length = 0;
        while let Some(rest) = answer.get_mut(length..).filter(|rest| !rest.is_empty()) {
            stream.set_read_timeout(Some(left(deadline)?))?;
            match stream.read(rest)? {
                0 => break,
                read => length += read,
            }
        }
        Ok(answer.get(..length).unwrap_or_default().to_vec())
    }

    fn connect(&self, deadline: Instant) -> io::Result<TcpStream> {
        let address = Address::parse_listen(&self.metrics).map_err(io::Error::other)?;
        // A server that listens on every address is at this one.
        let host = Some(address.host()).filter(|host| !host.is_empty());
        let found = (host.unwrap_or("127.0.0.1"), address.port()).to_socket_addrs()?;
        let mut last = io::Error::other("the address is none");
        for address in found.map(reachable) {
            match TcpStream::connect_timeout(&address, left(deadline)?) {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

/// A server on every address of the machine is reached by the one of the machine itself.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::from([127, 0, 0, 1]),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// What is left of the time.
fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    match left.is_zero() {
        true => Err(io::ErrorKind::TimedOut.into()),
        false => Ok(left),
    }
}
