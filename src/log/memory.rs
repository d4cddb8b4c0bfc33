//! Memory of a segment: a zeroed memory map, resident only where it was touched. On
//! Linux it maps an anonymous file (memfd), so that the system can send the bytes with
//! `sendfile`, without a copy.

#[cfg(target_os = "linux")]
use std::os::fd::OwnedFd;
use std::os::fd::{AsFd, BorrowedFd};

use memmap2::{MmapOptions, MmapRaw};

/// A memory map. Its address stays the same until it is dropped.
pub(super) struct Memory {
    map: MmapRaw,
    #[cfg(target_os = "linux")]
    file: Option<OwnedFd>,
}

impl Memory {
    /// `bytes` zeroed bytes.
    ///
    /// # Panics
    ///
    /// If the system has no memory left.
    #[expect(clippy::expect_used, reason = "out of memory, as in any allocation")]
    pub(super) fn new(bytes: usize) -> Self {
        #[cfg(target_os = "linux")]
        if let Some((map, file)) = in_file(bytes) {
            return Self {
                map,
                file: Some(file),
            };
        }
        let map = MmapOptions::new().len(bytes).map_anon();
        Self {
            map: map.expect("the system has memory").into(),
            #[cfg(target_os = "linux")]
            file: None,
        }
    }

    /// The address of the first byte.
    pub(super) fn as_mut_ptr(&self) -> *mut u8 {
        self.map.as_mut_ptr()
    }

    /// How many bytes there are.
    pub(super) fn len(&self) -> usize {
        self.map.len()
    }

    /// The file that holds the same bytes, if there is one.
    pub(super) fn file(&self) -> Option<BorrowedFd<'_>> {
        #[cfg(target_os = "linux")]
        return self.file.as_ref().map(AsFd::as_fd);
        #[cfg(not(target_os = "linux"))]
        None
    }
}

/// A map of an anonymous file. `None` if the system has no descriptor left or knows no
/// such files; then memory without a file does, at the cost of a copy.
#[cfg(target_os = "linux")]
fn in_file(bytes: usize) -> Option<(MmapRaw, OwnedFd)> {
    use nix::{sys::memfd, unistd};

    let file = memfd::memfd_create(c"chat-log", memfd::MFdFlags::MFD_CLOEXEC).ok()?;
    unistd::ftruncate(&file, bytes.try_into().ok()?).ok()?;
    let map = MmapRaw::map_raw(&file).ok()?;
    Some((map, file))
}
