//! Segmentation: how the bytes that the suite sends are cut into writes.

/// A way of cutting bytes into writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Each step in one write.
    Whole,
    /// Each byte in a write of its own.
    Bytes,
    /// In two, inside the length prefix or, where that is one byte, behind it.
    Prefix,
    /// Steps that follow one another in one write.
    Merged,
}

impl Cut {
    /// All of them, in the order of the reports.
    pub const ALL: [Cut; 4] = [Cut::Whole, Cut::Bytes, Cut::Prefix, Cut::Merged];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Cut::Whole => "whole",
            Cut::Bytes => "bytes",
            Cut::Prefix => "prefix",
            Cut::Merged => "merged",
        }
    }
}
