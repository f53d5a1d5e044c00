use specs::desired::{Desired, OnChange};
use specs::id::Digest;

/// Returns what a process remembers of the files placed beside it: the first half tells of
/// those it is restarted for, the second of those it is signalled about.
///
/// A driver hands it to a process at its start; a signal hands over a new one. Without files
/// that are announced by a signal it is [`Desired::files_digest`] itself.
#[must_use]
pub fn files_mark(desired: &Desired) -> Digest {
    let mut mark = desired.files_digest();
    let signals = |file: &specs::desired::File| matches!(file.on_change, OnChange::Signal(_));
    if desired.files.iter().any(signals) {
        let announced = desired.signal_files_digest();
        for (into, from) in mark.0.iter_mut().zip(announced.0).skip(8) {
            *into = from;
        }
    }
    mark
}
