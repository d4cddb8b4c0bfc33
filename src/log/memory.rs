//! The memory of a segment: zeroed, and resident only where it was touched. Where
//! the system offers it, it is a file as well, which lives in memory and has no
//! name: what stands in a file, the system can send without copying it.

#[cfg(target_os = "linux")]
use std::os::fd::OwnedFd;
use std::os::fd::{AsFd, BorrowedFd};

use memmap2::{MmapOptions, MmapRaw};

/// Bytes at an address that stays the same until it is dropped.
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
    #[expect(clippy::expect_used, reason = "no memory is the end of any allocation")]
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

    /// Where the bytes are.
    pub(super) fn as_mut_ptr(&self) -> *mut u8 {
        self.map.as_mut_ptr()
    }

    /// How many they are.
    pub(super) fn len(&self) -> usize {
        self.map.len()
    }

    /// The file that holds the same bytes, where there is one.
    pub(super) fn file(&self) -> Option<BorrowedFd<'_>> {
        #[cfg(target_os = "linux")]
        return self.file.as_ref().map(AsFd::as_fd);
        #[cfg(not(target_os = "linux"))]
        None
    }
}

/// `None` where the system refuses: no descriptor left, or no such file there.
/// Memory without a file does as well, it only costs a copy.
#[cfg(target_os = "linux")]
fn in_file(bytes: usize) -> Option<(MmapRaw, OwnedFd)> {
    use nix::{sys::memfd, unistd};

    let file = memfd::memfd_create(c"chat-log", memfd::MFdFlags::MFD_CLOEXEC).ok()?;
    unistd::ftruncate(&file, bytes.try_into().ok()?).ok()?;
    let map = MmapRaw::map_raw(&file).ok()?;
    Some((map, file))
}
