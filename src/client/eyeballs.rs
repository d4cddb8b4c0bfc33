//! Happy eyeballs: tries the addresses of a host side by side, so that one that does not
//! answer costs a moment and not a timeout (RFC 8305).

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// How long an attempt is alone before the next address is tried beside it, in
/// milliseconds: what RFC 8305 recommends.
const ATTEMPT_DELAY_MS: u64 = 250;

/// Connects to the address that answers first. The next one is tried when an attempt has
/// failed, and after [`ATTEMPT_DELAY_MS`]; attempts that are too late are dropped.
///
/// # Errors
///
/// The last failure, when every address has failed; `NotFound` if there is none.
pub(super) async fn first<T, F>(
    addresses: impl Iterator<Item = SocketAddr>,
    connect: impl Fn(SocketAddr) -> F,
) -> io::Result<T>
where
    T: Send + 'static,
    F: Future<Output = io::Result<T>> + Send + 'static,
{
    let mut waiting = interleaved(addresses);
    let mut attempts = JoinSet::new();
    let mut failure = io::ErrorKind::NotFound.into();
    let mut next_at = Instant::now();
    loop {
        if attempts.is_empty() || Instant::now() >= next_at {
            match waiting.pop_front() {
                Some(address) => drop(attempts.spawn(connect(address))),
                None if attempts.is_empty() => return Err(failure),
                None => {}
            }
            next_at = Instant::now() + Duration::from_millis(ATTEMPT_DELAY_MS);
        }
        tokio::select! {
            Some(attempt) = attempts.join_next() => match attempt {
                Ok(Ok(connected)) => return Ok(connected),
                Ok(Err(error)) => {
                    failure = error;
                    next_at = Instant::now();
                }
                Err(error) => failure = io::Error::other(error),
            },
            () = sleep_until(next_at), if !waiting.is_empty() => {}
        }
    }
}

/// The families of the addresses in turn, beginning with that of the first, and each in
/// its order.
fn interleaved(addresses: impl Iterator<Item = SocketAddr>) -> VecDeque<SocketAddr> {
    let mut addresses = addresses.peekable();
    let is_first_v6 = addresses.peek().is_some_and(SocketAddr::is_ipv6);
    let (mut same, mut other): (VecDeque<_>, VecDeque<_>) =
        addresses.partition(|address| address.is_ipv6() == is_first_v6);
    let mut ordered = VecDeque::new();
    while !(same.is_empty() && other.is_empty()) {
        ordered.extend(same.pop_front());
        ordered.extend(other.pop_front());
    }
    ordered
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::sleep;

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn the_families_take_turns() {
        let given = ["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1"].map(address);
        let expected = ["[::1]:1", "1.1.1.1:1", "[::2]:1", "[::3]:1"].map(address);
        assert_eq!(interleaved(given.into_iter()), expected);
    }

    /// Connects to addresses by their port: it answers after that many milliseconds, and
    /// an even one refuses.
    async fn connected(ports: &[u16]) -> (io::Result<u16>, u128) {
        let started_at = Instant::now();
        let addresses = ports.iter().map(|port| address(&format!("1.1.1.1:{port}")));
        let connected = first(addresses, |address| async move {
            sleep(Duration::from_millis(address.port().into())).await;
            match address.port() % 2 {
                1 => Ok(address.port()),
                _ => Err(io::ErrorKind::ConnectionRefused.into()),
            }
        });
        let connected = connected.await;
        (connected, started_at.elapsed().as_millis())
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_that_answers_wins() {
        for (ports, port, ms) in [
            (&[101, 11][..], 101, 101),
            // A silent address costs the delay.
            (&[60_001, 11], 11, 261),
            (&[60_001, 60_003, 11], 11, 511),
            // A slow one still wins if it is first.
            (&[301, 101], 301, 301),
            // One that refuses costs nothing more.
            (&[20, 11], 11, 31),
        ] {
            let (connected, elapsed_ms) = connected(ports).await;
            assert_eq!(connected.expect("a connection"), port, "{ports:?}");
            assert!(elapsed_ms.abs_diff(ms) <= 3, "{ports:?}: {elapsed_ms} ms");
        }
        assert_eq!(
            connected(&[20, 10]).await.0.expect_err("refused").kind(),
            io::ErrorKind::ConnectionRefused
        );
        assert_eq!(
            connected(&[]).await.0.expect_err("nothing").kind(),
            io::ErrorKind::NotFound
        );
    }
}
