//! QUIC: a connection of the suite over QUIC. The suite reads and writes a TCP
//! connection within this machine, which a thread carries on.

use std::{
    io,
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{LazyLock, mpsc},
    thread,
    time::Duration,
};

use chat::quic::{self, QuicError, QuicStream};
use chat::tls::Trust;
use tokio::runtime::{Builder, Handle};

/// The event loop that carries all connections over QUIC.
static LOOP: LazyLock<io::Result<Handle>> = LazyLock::new(|| {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    thread::Builder::new().spawn(move || runtime.block_on(std::future::pending::<()>()))?;
    Ok(handle)
});

/// Connects to the server at `address`, which calls itself `host`, and carries on what
/// goes over `near`, the listener's connection.
pub fn connect(
    trust: &Trust,
    host: &str,
    address: SocketAddr,
    timeout: Duration,
    near: impl FnOnce(SocketAddr) -> io::Result<TcpStream>,
) -> io::Result<TcpStream> {
    let event_loop = LOOP.as_ref().map_err(|e| io::Error::other(e.to_string()))?;
    let (trust, host) = (trust.clone(), host.to_owned());
    let (done, connected) = mpsc::sync_channel(1);
    event_loop.spawn(async move {
        let connecting = quic::connect(&trust, &host, address);
        let connecting = tokio::time::timeout(timeout, connecting).await;
        let _ = done.send(match connecting {
            Ok(connected) => connected.map_err(|error| match error {
                QuicError::Untrusted(untrusted) => io::Error::other(untrusted.to_string()),
                QuicError::Failed(error) => error,
            }),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        });
    });
    let far = connected
        .recv()
        .map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))??;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let here = near(listener.local_addr()?)?;
    let (there, _) = listener.accept()?;
    there.set_nodelay(true)?;
    there.set_nonblocking(true)?;
    event_loop.spawn(async move {
        // Either side may break.
        let _ = carry(there, far).await;
    });
    Ok(here)
}

async fn carry(near: TcpStream, mut far: QuicStream) -> io::Result<()> {
    let mut near = tokio::net::TcpStream::from_std(near)?;
    tokio::io::copy_bidirectional(&mut near, &mut far).await?;
    Ok(())
}
