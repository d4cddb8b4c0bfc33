//! Sockets that the service manager keeps: who waits at one when the server closes.

use std::net::{TcpListener, TcpStream};

use tokio_util::task::TaskTracker;

use super::*;
use crate::server::{listener::AnyListener, proxied::Proxies, tcp::Tcp, transport::Listener};

#[tokio::test]
async fn the_next_server_has_those_who_wait_at_a_handed_socket() {
    let handed = TcpListener::bind("127.0.0.1:0").expect("a free port");
    handed.set_nonblocking(true).expect("it is ours");
    let address = handed.local_addr().expect("it listens");
    let kept = handed.try_clone().expect("the service manager has it");
    let tcp = Tcp::from_std(handed, 1_000, Proxies::default()).expect("it listens");
    let _clients = [(); 2].map(|()| TcpStream::connect(address).expect("it listens"));
    // The event loop knows now that somebody waits.
    tcp.accept().await.expect("the first");
    let listener: Arc<dyn AnyListener> = Arc::new(tcp);
    let connections = TaskTracker::new();
    listener.accept_waiting(&hub(unlimited()), &connections);
    assert_eq!(connections.len(), 0, "it is for the next server");
    kept.accept().expect("the second still waits");
}
