//! Golden files: a text beside the one that was reviewed.

use std::path::Path;

/// Compares `text` with the golden file, or rewrites that with `BLESS=1` in the environment.
///
/// # Panics
/// When they differ, or the file can't be read or written.
pub fn check(path: impl AsRef<Path>, text: &str) {
    let path = path.as_ref();
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(path, text).unwrap_or_else(|err| panic!("write {}: {err}", path.display()));
        return;
    }
    let reviewed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        reviewed == text,
        "{} differs; look at it, then rewrite it with BLESS=1\n--- reviewed\n{reviewed}\n--- now\n{text}",
        path.display()
    );
}
