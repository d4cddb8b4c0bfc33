//! QUIC: a thread that carries the connections of the pool on over QUIC. It costs time on
//! the generator's side, so deliveries a second are a lower bound; what the server spends
//! is measured as it is.

use std::{
    net::{SocketAddr, TcpListener},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use chat::{quic, tls::Trust};
use tokio::{io::copy_bidirectional_with_sizes, runtime::Builder};

use crate::{failure::Failure, output};

/// How much is copied at once, in bytes: what a connection may have sent unread.
const COPY_BYTES: usize = 64 * 1024;

/// How long the end of the connections may take to reach the server, in milliseconds.
const END_MS_MAX: u64 = 2_000;

/// How long a connection that broke is still served, in milliseconds.
const CLOSE_MS: u64 = 50;

/// How many connections are open.
static OPEN: AtomicUsize = AtomicUsize::new(0);

/// Waits until the server has been told that the connections have ended: a program that
/// ends at once leaves its members in the room.
pub fn end() {
    let deadline = Instant::now() + Duration::from_millis(END_MS_MAX);
    while OPEN.load(Ordering::SeqCst) > 0 && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(1));
    }
}

/// Listens for TCP on this machine, and carries each connection on to `server`, as long
/// as the program runs.
pub fn bridge(trust: Trust, host: &str, server: SocketAddr) -> Result<SocketAddr, Failure> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    listener.set_nonblocking(true)?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let host = host.to_owned();
    thread::spawn(move || {
        runtime.block_on(async {
            let Ok(listener) = tokio::net::TcpListener::from_std(listener) else {
                return;
            };
            while let Ok((mut near, _)) = listener.accept().await {
                let (trust, host) = (trust.clone(), host.clone());
                OPEN.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(async move {
                    // Told before the pool finds its connection closed.
                    if let Err(sentence) = carry(&mut near, &trust, &host, server).await {
                        output::complain(&format!("chat-bench: {sentence}\n"));
                    }
                    OPEN.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
    });
    Ok(address)
}

async fn carry(
    near: &mut tokio::net::TcpStream,
    trust: &Trust,
    host: &str,
    server: SocketAddr,
) -> Result<(), String> {
    let mut far = match quic::connect(trust, host, server).await {
        Ok(far) => far,
        Err(quic::QuicError::Untrusted(untrusted)) => return Err(untrusted.to_string()),
        Err(quic::QuicError::Failed(error)) => return Err(format!("no QUIC: {error}")),
    };
    let _ = near.set_nodelay(true);
    // Either side may break: what is missing, the pool notices.
    let copied = copy_bidirectional_with_sizes(near, &mut far, COPY_BYTES, COPY_BYTES).await;
    drop(far);
    if copied.is_err() {
        // One packet tells the server; a separate task sends it.
        tokio::time::sleep(Duration::from_millis(CLOSE_MS)).await;
    }
    Ok(())
}
