//! A proxy that cuts connections where a test wants it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::OwnedReadHalf;
use tokio::net::{TcpListener, TcpStream};

/// Where to cut one connection: behind so many bytes from the client, or from the server,
/// whichever comes first.
#[derive(Debug, Clone, Copy)]
pub struct Cut {
    pub sent_bytes: usize,
    pub received_bytes: usize,
    /// Whether the server notices nothing.
    pub leaves_ghost: bool,
}

pub const NEVER: Cut = Cut {
    sent_bytes: usize::MAX,
    received_bytes: usize::MAX,
    leaves_ghost: false,
};

/// Forwards connections to a server until the runtime ends.
pub struct Proxy {
    pub address: String,
    server: Arc<Mutex<SocketAddr>>,
    accepted: Arc<AtomicUsize>,
}

impl Proxy {
    /// Cuts the first connections like this, and none after them.
    pub async fn start(server: SocketAddr, cuts: Vec<Cut>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = format!("chat://{}", listener.local_addr().expect("an address"));
        let accepted = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&accepted);
        let server = Arc::new(Mutex::new(server));
        let target = Arc::clone(&server);
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.expect("a connection");
                let number = counted.fetch_add(1, Ordering::SeqCst);
                let cut = cuts.get(number).copied().unwrap_or(NEVER);
                let server = *target.lock().expect("no panic");
                // One that is being restarted refuses.
                if let Ok(server) = TcpStream::connect(server).await {
                    tokio::spawn(forward(client, server, cut));
                }
            }
        });
        Self {
            address,
            server,
            accepted,
        }
    }

    /// The server was restarted, and has another port.
    pub fn set_server(&self, address: SocketAddr) {
        *self.server.lock().expect("no panic") = address;
    }

    /// The same in a thread, for tests that are not asynchronous.
    pub fn start_in_thread(server: SocketAddr, cuts: Vec<Cut>) -> Self {
        let (started, is_started) = std::sync::mpsc::sync_channel(1);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async {
                let proxy = Self::start(server, cuts).await;
                started.send(proxy).expect("the test waits");
                std::future::pending::<()>().await;
            });
        });
        is_started.recv().expect("a proxy")
    }

    /// How many connections there were.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

async fn forward(client: TcpStream, server: TcpStream, cut: Cut) {
    for stream in [&client, &server] {
        stream.set_nodelay(true).expect("a socket");
    }
    let (mut client_reads, mut client_writes) = client.into_split();
    let (mut server_reads, mut server_writes) = server.into_split();
    tokio::select! {
        () = copy(&mut client_reads, &mut server_writes, cut.sent_bytes) => {}
        () = copy(&mut server_reads, &mut client_writes, cut.received_bytes) => {}
    }
    drop((client_reads, client_writes));
    if cut.leaves_ghost {
        // The server writes, and may close; nobody hears it.
        copy(&mut server_reads, &mut tokio::io::sink(), usize::MAX).await;
    }
}

/// Copies until the end or so many bytes.
async fn copy(
    from: &mut OwnedReadHalf,
    to: &mut (impl tokio::io::AsyncWrite + Unpin),
    mut bytes_left: usize,
) {
    let mut bytes = [0; 4_096];
    while bytes_left > 0 {
        let wanted = bytes.len().min(bytes_left);
        match from.read(&mut bytes[..wanted]).await {
            Ok(read) if read > 0 => {
                bytes_left -= read;
                if to.write_all(&bytes[..read]).await.is_err() {
                    return;
                }
            }
            _ => return,
        }
    }
}
