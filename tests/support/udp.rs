//! A bridge from TCP to QUIC, so that what speaks TCP can test a server over QUIC.

use std::{net::SocketAddr, thread};

use chat::{
    quic::{self, QuicStream},
    tls::Trust,
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    runtime::Builder,
};

/// Listens for TCP, and passes each connection on over QUIC, as long as the test runs.
pub fn bridge(server: SocketAddr, pin: &str) -> SocketAddr {
    let trust = Trust::pinned(pin.parse().expect("a pin"));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("it is bound");
    listener.set_nonblocking(true).expect("a socket");
    thread::spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build();
        runtime.expect("an event loop").block_on(async {
            let listener = TcpListener::from_std(listener).expect("a socket");
            while let Ok((near, _)) = listener.accept().await {
                let trust = trust.clone();
                tokio::spawn(async move {
                    let far = quic::connect(&trust, "localhost", server).await;
                    pass_on(near, far.expect("the server accepts")).await;
                });
            }
        });
    });
    address
}

async fn pass_on(mut near: TcpStream, mut far: QuicStream) {
    near.set_nodelay(true).expect("TCP has it");
    // Either side may break.
    let _ = copy_bidirectional(&mut near, &mut far).await;
}
