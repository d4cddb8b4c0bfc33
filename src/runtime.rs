//! The event loop that a program runs on.

use std::{fs::File, io};

use tokio::runtime::{Builder, Runtime};

/// How many file descriptors an event loop, its signals and the first socket need,
/// with some to spare.
const DESCRIPTORS_NEEDED: usize = 8;

/// Builds the event loop that `builder` describes, with sockets, timers and signals.
///
/// # Errors
///
/// When the system gives no descriptors or threads.
pub fn build(builder: &mut Builder) -> io::Result<Runtime> {
    // tokio panics where there are none left for its signals: they are asked for
    // before, all at once, and given back.
    (0..DESCRIPTORS_NEEDED)
        .map(|_| File::open("/dev/null"))
        .collect::<io::Result<Vec<File>>>()?;
    builder.enable_all().build()
}
