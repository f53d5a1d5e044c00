//! One record's content in its frame, and what people call it.

use crate::draft::DraftError;
use crate::engine::Tree;
use crate::frame::{self, FrameError};
use crate::outcome::RefusedError;
use crate::wire::WireError;

/// Returns a record's content in its frame.
pub(crate) fn seal(tree: Tree, at: &[u8], content: &[u8]) -> Result<Vec<u8>, DraftError> {
    frame::seal(tree, at, content).map_err(|error| {
        let record = place(tree, at);
        match error {
            FrameError::TooLarge(bytes) => RefusedError::TooLarge {
                record,
                bytes,
                max: frame::CONTENT_BYTES_MAX,
            },
            other => RefusedError::Damaged {
                record,
                how: other.to_string(),
            },
        }
        .into()
    })
}

/// Returns the content of a record, or that it has no form on disk.
pub(crate) fn wired(
    tree: Tree,
    at: &[u8],
    content: Result<Vec<u8>, WireError>,
) -> Result<Vec<u8>, DraftError> {
    content.map_err(|error| {
        RefusedError::Damaged {
            record: place(tree, at),
            how: error.to_string(),
        }
        .into()
    })
}

/// Returns how people call a record.
pub(crate) fn place(tree: Tree, at: &[u8]) -> String {
    format!("{} {}", tree.name(), String::from_utf8_lossy(at))
}
