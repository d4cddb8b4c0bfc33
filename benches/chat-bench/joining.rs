//! The workloads without messages: `join` and `idle`.

use std::time::{Duration, Instant};

use crate::{
    client_pool::ClientPool, dialect::Protocol, failure::Failure, link::Link, member::Role,
    order::Cursor, process::Process, progress::Progress,
};

/// How long to wait before the server's memory is measured, in milliseconds.
const SETTLE_MS: u64 = 1_000;

pub struct Outcome {
    pub elapsed_s: f64,
    pub server_cpu_s: Option<f64>,
    pub own_cpu_s: Option<f64>,
    pub bytes_per_connection: Option<f64>,
}

/// Joins `members` connections as fast as the server lets them in, and measures what
/// they cost. With `is_idle` they only stay connected (see
/// [`crate::dialect::JoinAs::Idle`]).
pub fn run(
    members: usize,
    is_idle: bool,
    link: &Link,
    protocol: Protocol,
    server: Option<Process>,
    progress: &mut Progress,
) -> Result<Outcome, Failure> {
    let mut pool = ClientPool::new(link, protocol.dialect(), 0, 0)?;
    let this = Process::this();
    let resident_before = server.and_then(Process::resident_bytes);
    let cpu_before = (server.and_then(Process::cpu_s), this.cpu_s());
    let start = Instant::now();
    let role = |_| match is_idle {
        true => Role::Idles,
        false => Role::Reads(Cursor::from_start()),
    };
    let roles = (0..members).map(role);
    pool.join_all(roles, protocol.joining_max(), |joined| {
        progress.joining(joined, members);
    })?;
    let elapsed_s = start.elapsed().as_secs_f64();
    let spent = |after: Option<f64>, before: Option<f64>| Some(after? - before?);
    let server_cpu_s = spent(server.and_then(Process::cpu_s), cpu_before.0);
    let own_cpu_s = spent(this.cpu_s(), cpu_before.1);

    let settled = Instant::now() + Duration::from_millis(SETTLE_MS);
    while let Some(left) = settled.checked_duration_since(Instant::now()) {
        pool.poll(Some(left))?;
    }
    let resident = server.and_then(Process::resident_bytes);
    let grown_bytes = resident
        .zip(resident_before)
        .map(|(after, before)| after as f64 - before as f64);
    Ok(Outcome {
        elapsed_s,
        server_cpu_s,
        own_cpu_s,
        bytes_per_connection: grown_bytes.map(|bytes| bytes / members as f64),
    })
}
