//! TCP information: what the system knows of a connection's delivery. It tells a peer
//! that does not read from a network that does not deliver.

use std::os::fd::AsFd;

// What the macro uses.
use nix::{getsockopt_impl, libc, sockopt_impl};

use crate::session::Progress;

use super::transport::Delivery;

/// The beginning of the system's `struct tcp_info`, as Linux has it since 4.19. Newer
/// systems append fields, which they leave out for a caller that does not know them.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct TcpInfo {
    state: u8,
    ca_state: u8,
    /// How often in a row the oldest segment was sent again.
    retransmits: u8,
    probes: u8,
    backoff: u8,
    options: u8,
    window_scales: u8,
    flags: u8,
    // Times, windows and counts of segments.
    counts: [u32; 24],
    pacing_rate: u64,
    max_pacing_rate: u64,
    bytes_acked: u64,
    bytes_received: u64,
    segs_out: u32,
    segs_in: u32,
    /// Bytes written and never sent.
    notsent_bytes: u32,
    min_rtt: u32,
    data_segs_in: u32,
    data_segs_out: u32,
    delivery_rate: u64,
    busy_time: u64,
    rwnd_limited: u64,
    sndbuf_limited: u64,
    delivered: u32,
    delivered_ce: u32,
    /// Bytes sent, each time that they were sent.
    bytes_sent: u64,
    /// Bytes sent again.
    bytes_retrans: u64,
}

const _: () = assert!(size_of::<TcpInfo>() == 216);

sockopt_impl!(
    /// What the system knows of a TCP connection.
    TcpInfoOption,
    GetOnly,
    libc::IPPROTO_TCP,
    libc::TCP_INFO,
    TcpInfo
);

/// What became of the bytes that were written to a TCP stream; `None` where the system
/// does not tell.
pub(super) fn delivery(stream: &impl AsFd) -> Option<Delivery> {
    let info = nix::sys::socket::getsockopt(stream, TcpInfoOption).ok()?;
    let sent_once_bytes = info.bytes_sent.saturating_sub(info.bytes_retrans);
    Some(Delivery {
        progress: Progress {
            written_bytes: sent_once_bytes + u64::from(info.notsent_bytes),
            acked_bytes: info.bytes_acked,
        },
        is_retransmitting: info.retransmits > 0,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
    };

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let peer = TcpStream::connect(address).await.unwrap();
        (listener.accept().await.unwrap().0, peer)
    }

    #[tokio::test]
    async fn all_that_was_written_is_acknowledged() {
        let (mut stream, mut peer) = pair().await;
        let at_first = delivery(&stream).unwrap();
        println!("{at_first:?}");
        assert_eq!(at_first.progress.written_bytes, 0);
        stream.write_all(&[0; 1_000]).await.unwrap();
        peer.read_exact(&mut [0; 1_000]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        let delivery = delivery(&stream).unwrap();
        println!("{delivery:?}");
        assert_eq!(delivery.progress.written_bytes, 1_000);
        assert!((1_000..=1_001).contains(&delivery.progress.acked_bytes));
        assert!(!delivery.is_retransmitting);
    }

    #[tokio::test]
    async fn a_peer_that_does_not_read_acknowledges_less_than_was_written() {
        let (stream, mut peer) = pair().await;
        let mut written = 0;
        while let Ok(bytes) = stream.try_write(&[0; 65_536]) {
            written += bytes as u64;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        let stuck = delivery(&stream).unwrap();
        println!("{stuck:?}");
        assert_eq!(stuck.progress.written_bytes, written);
        assert!(stuck.progress.acked_bytes < written);
        assert!(!stuck.is_retransmitting);
        peer.read_exact(&mut vec![0; written as usize])
            .await
            .unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(delivery(&stream).unwrap().progress.acked_bytes >= written);
    }
}
