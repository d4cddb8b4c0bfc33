//! Runtime: the tokio event loop that a program runs on.

use std::{fs::File, io};

use tokio::runtime::{Builder, Runtime};

/// How many file descriptors the event loop, its signals and a first socket need, with
/// some to spare.
const DESCRIPTORS_NEEDED: usize = 8;

/// Builds the event loop that `builder` describes, with sockets, timers and signals.
///
/// # Errors
///
/// When the system has no descriptors or threads left.
pub fn build(builder: &mut Builder) -> io::Result<Runtime> {
    // tokio panics without a descriptor for its signals: so all that it needs are
    // opened at once before, and closed again.
    (0..DESCRIPTORS_NEEDED)
        .map(|_| File::open("/dev/null"))
        .collect::<io::Result<Vec<File>>>()?;
    builder.enable_all().build()
}
