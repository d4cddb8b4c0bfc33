//! Files that programs are given.

use std::{fs, os::unix::fs::PermissionsExt};

use tempfile::TempPath;

/// A file that holds this, readable as `mode` says, and gone with what is returned.
pub fn file(content: &[u8], mode: u32) -> TempPath {
    let path = tempfile::NamedTempFile::new()
        .expect("a folder for temporary files")
        .into_temp_path();
    fs::write(&path, content).expect("it is ours");
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("it is ours");
    path
}
