//! One thread for each watched directory: wait for a hint or the time, list, read, hand over.
//!
//! A directory on a file system that does not answer blocks its own thread and no other; the
//! keeper notices its silence.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use specs::config::Config;
use tokio::sync::watch;

use crate::clock;
use crate::keeper::{Desk, Note};
use crate::reading::{Reader, Survey};
use crate::retry;
use crate::source::{File, Source, directory};
use crate::watch::{Hint, RELIST, Watch, Woken, wait};
use crate::workers::panic_text;

/// Least that a look counts for: four times as long as it took, no other begins at once.
const REST: Duration = Duration::from_millis(2);

/// Starts the thread of one directory; it ends when the keeper has.
///
/// # Errors
/// When the system gives no thread.
pub(crate) fn spawn(
    path: PathBuf,
    config: watch::Receiver<Arc<Config>>,
    desk: Desk,
    (hint, hints): (Hint, Receiver<()>),
) -> std::io::Result<()> {
    let name = format!("source {}", path.display());
    let work = move || run(&path, config, &desk, hint, &hints);
    std::thread::Builder::new().name(name).spawn(work).map(drop)
}

fn run(
    path: &Path,
    mut config: watch::Receiver<Arc<Config>>,
    desk: &Desk,
    hint: Hint,
    hints: &Receiver<()>,
) {
    let mut watch = Watch::new(path.to_owned(), hint);
    let mut source = Source::new(path.to_owned());
    let mut reader = Reader::new(Arc::clone(&config.borrow_and_update()));
    let origin = clock::instant();
    let mut without_hints: Option<String> = None;
    loop {
        if config.has_changed().unwrap_or(false) {
            // What was granted before is judged again.
            reader = Reader::new(Arc::clone(&config.borrow_and_update()));
        }
        let why = watch.refresh();
        if why != without_hints
            && let Some(why) = &why
        {
            tracing::warn!(source = %path.display(), err = why, "no hints; listing in time");
        }
        without_hints = why;
        let began = clock::instant();
        let looked = catch_unwind(AssertUnwindSafe(|| look(&mut source, &mut reader, &watch)));
        let (survey, again) = looked.unwrap_or_else(|panic| {
            let why = format!("BUG: reading it panicked: {}", panic_text(&*panic));
            tracing::error!(source = %path.display(), err = why, "listing");
            // What was remembered may be half of something.
            source = Source::new(path.to_owned());
            reader = Reader::new(Arc::clone(&config.borrow_and_update()));
            let survey = Survey {
                source: path.to_owned(),
                at_ms: clock::boot_ms(),
                outcome: Err(why),
            };
            (survey, None)
        });
        if !desk.leave_patiently(Note::Survey(Box::new(survey))) {
            return;
        }
        let at_most = again.unwrap_or_else(|| retry::jittered(RELIST, origin));
        // Looking shall not become all that is done.
        let rest = began.elapsed().max(REST) * 4;
        if wait(hints, at_most, rest, &|| watch.has_arrived()) == Woken::Closed {
            return;
        }
    }
}

fn look(source: &mut Source, reader: &mut Reader, watch: &Watch) -> (Survey, Option<Duration>) {
    let renamed = watch.renamed();
    let began_ms = clock::boot_ms();
    let seen = directory::look(source.path());
    // Written since: no longer whole, whatever its name did before.
    let renamed: BTreeSet<String> = renamed.intersection(&watch.renamed()).cloned().collect();
    let listing = source.take_in(seen, &renamed, began_ms);
    let unsettled = |name: &String| {
        let listed = listing.outcome.as_ref().ok();
        let file = listed.and_then(|listed| listed.files.get(name));
        matches!(file, Some(File::Settling { .. }))
    };
    let done = renamed.iter().filter(|name| !unsettled(name));
    watch.forget_renames(Some(&done.cloned().collect()));
    let again = listing
        .outcome
        .as_ref()
        .ok()
        .and_then(|listed| listed.again_ms);
    (reader.survey(listing), again.map(Duration::from_millis))
}
