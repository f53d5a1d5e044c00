//! From a taken text to specs that policy grants, or to a refusal. Runs on the thread of the
//! text's own source, so that a slow one delays no other.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{CWD, FileType, Mode, OFlags};
use specs::config::Config;
use specs::diagnostic::{self, Diagnostic};
use specs::id::{Digest, Key};
use specs::parse::{self, Located};
use specs::policy;
use specs::resolve;
use specs::spec::Spec;

use crate::source::directory::{Identity, Text};
use crate::source::{File, Listing};

/// Largest seccomp profile, in bytes.
const PROFILE_BYTES_MAX: u64 = 1 << 20;

/// One listing with every text read.
#[derive(Clone, Debug)]
pub(crate) struct Survey {
    /// The directory.
    pub(crate) source: PathBuf,
    /// When it was listed, milliseconds since boot.
    pub(crate) at_ms: u64,
    /// What it holds, or why nobody knows.
    pub(crate) outcome: Result<Contents, String>,
}

/// What a directory holds.
#[derive(Clone, Debug)]
pub(crate) struct Contents {
    /// Which directory.
    pub(crate) identity: Identity,
    /// Nothing changed while it was listed.
    pub(crate) complete: bool,
    /// By whole path.
    pub(crate) files: BTreeMap<String, Readout>,
    /// Names that are never specs.
    pub(crate) ignored: Vec<String>,
}

impl Contents {
    /// Whether nothing escaped the listing, and nobody may still be writing what it found.
    pub(crate) fn is_settled(&self) -> bool {
        let settling = |file: &Readout| matches!(file, Readout::Settling(_));
        self.complete && !self.files.values().any(settling)
    }
}

/// One file.
#[derive(Clone, Debug)]
pub(crate) enum Readout {
    /// This is what it says.
    Says(Arc<Reading>),
    /// It may still be written; this is what it said before.
    Settling(Option<Arc<Reading>>),
}

/// One text, understood.
#[derive(Clone, Debug)]
pub(crate) struct Reading {
    /// Whole path.
    pub(crate) path: String,
    /// Owner of the file.
    pub(crate) owner: u32,
    /// Its documents, or why it is refused.
    pub(crate) outcome: Result<Vec<Document>, Refusal>,
}

/// One document.
#[derive(Clone, Debug)]
pub(crate) struct Document {
    /// The spec.
    pub(crate) spec: Spec,
    /// Line it begins on.
    pub(crate) line: u32,
    /// Its canonical form.
    pub(crate) json: String,
    /// Digest of that.
    pub(crate) digest: Digest,
    /// The seccomp profile it names, as it was when the text was taken.
    pub(crate) seccomp: Option<String>,
}

/// Why a file is refused.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Refusal {
    /// For machines.
    pub(crate) diagnostics: Vec<serde_json::Value>,
    /// For people, with carets.
    pub(crate) rendered: String,
    /// In one line.
    pub(crate) line: String,
    /// Names that could be made out.
    pub(crate) names: Vec<Key>,
    /// The text itself is sound and only asks for more than is granted or there: what it
    /// says. Where just that was accepted before, it still is.
    pub(crate) sound: Vec<(Key, Digest)>,
}

impl Refusal {
    /// Returns a refusal that is not about a place in the text.
    pub(crate) fn plain(path: &str, why: &str, names: Vec<Key>) -> Self {
        let line = format!("{}: {why}", diagnostic::plain(path));
        Self {
            diagnostics: Vec::new(),
            rendered: format!("error: {line}\n"),
            line,
            names,
            sound: Vec::new(),
        }
    }

    /// Returns a refusal from diagnostics of which at least one is an error.
    pub(crate) fn of(found: &[Diagnostic], text: &str, names: Vec<Key>) -> Self {
        let first = found
            .iter()
            .find(|one| one.severity == diagnostic::Severity::Error);
        let more = found.len().saturating_sub(1);
        let mut line = first.map(Diagnostic::one_line).unwrap_or_default();
        if more > 0 {
            line.push_str(&format!(" (and {more} more)"));
        }
        Self {
            diagnostics: found
                .iter()
                .filter_map(|one| serde_json::to_value(one).ok())
                .collect(),
            rendered: diagnostic::render(found, text, false),
            line,
            names,
            sound: Vec::new(),
        }
    }
}

/// Reads texts of one source; what was read once is not read again.
#[derive(Debug)]
pub(crate) struct Reader {
    config: Arc<Config>,
    cache: BTreeMap<String, (Digest, u32, Arc<Reading>)>,
}

impl Reader {
    /// Returns a reader under the config's policy.
    pub(crate) fn new(config: Arc<Config>) -> Self {
        Self {
            config,
            cache: BTreeMap::new(),
        }
    }

    /// Reads every text of a listing.
    pub(crate) fn survey(&mut self, listing: Listing) -> Survey {
        let source = listing.path;
        let outcome = listing.outcome.map(|listed| {
            let files: BTreeMap<String, Readout> = listed
                .files
                .into_iter()
                .map(|(name, file)| {
                    let path = source.join(name).to_string_lossy().into_owned();
                    let readout = self.readout(&source, &path, file);
                    (path, readout)
                })
                .collect();
            self.cache.retain(|path, _| files.contains_key(path));
            Contents {
                identity: listed.identity,
                complete: listed.complete,
                files,
                ignored: listed.ignored,
            }
        });
        Survey {
            source,
            at_ms: listing.at_ms,
            outcome,
        }
    }

    fn readout(&mut self, source: &Path, path: &str, file: File) -> Readout {
        match file {
            File::Taken(text) => Readout::Says(self.cached(source, path, &text)),
            File::Settling { before } => {
                Readout::Settling(before.map(|text| self.cached(source, path, &text)))
            }
            File::Refused(why) => Readout::Says(Arc::new(Reading {
                path: path.to_owned(),
                owner: 0,
                outcome: Err(Refusal::plain(path, &why, Vec::new())),
            })),
        }
    }

    fn cached(&mut self, source: &Path, path: &str, text: &Text) -> Arc<Reading> {
        if let Some((digest, owner, reading)) = self.cache.get(path)
            && *digest == text.stamp.digest
            && *owner == text.owner
        {
            return Arc::clone(reading);
        }
        let reading = Arc::new(read(&self.config, source, path, text.owner, &text.bytes));
        let entry = (text.stamp.digest, text.owner, Arc::clone(&reading));
        self.cache.insert(path.to_owned(), entry);
        reading
    }
}

/// Reads one text as if its owner had put it into the source.
pub(crate) fn read(
    config: &Config,
    source: &Path,
    path: &str,
    owner: u32,
    bytes: &[u8],
) -> Reading {
    let text = String::from_utf8_lossy(bytes);
    let parsed = parse::parse(path, bytes);
    let mut found = parsed.diagnostics;
    let grant = config.policy.grant(&source.to_string_lossy(), owner);
    for located in &parsed.specs {
        found.extend(policy::check(located, &grant, path));
    }
    let documents: Result<Vec<Document>, String> = parsed.specs.into_iter().map(document).collect();
    let outcome = match documents {
        Err(why) => Err(Refusal::plain(path, &why, parsed.names)),
        Ok(mut documents) => {
            let sound = documents
                .iter()
                .map(|one| (one.spec.metadata.name.clone(), one.digest));
            let sound: Vec<(Key, Digest)> = sound.collect();
            let refused = if diagnostic::is_refused(&found) {
                Some(Refusal::of(&found, &text, parsed.names))
            } else {
                let profiles = documents.iter_mut().try_for_each(Document::read_profile);
                profiles
                    .err()
                    .map(|why| Refusal::plain(path, &why, parsed.names))
            };
            match refused {
                None => Ok(documents),
                Some(refusal) => Err(Refusal { sound, ..refusal }),
            }
        }
    };
    Reading {
        path: path.to_owned(),
        owner,
        outcome,
    }
}

fn document(located: Located) -> Result<Document, String> {
    let spec = located.spec;
    let json = serde_json::to_string(&spec).map_err(|err| format!("it has no JSON form: {err}"))?;
    Ok(Document {
        digest: Digest::of(json.as_bytes()),
        line: located.line,
        json,
        seccomp: None,
        spec,
    })
}

impl Document {
    fn read_profile(&mut self) -> Result<(), String> {
        self.seccomp = resolve::seccomp_path(&self.spec)
            .map(read_profile)
            .transpose()?;
        Ok(())
    }
}

/// Reads a profile: a regular file of bounded size, by one descriptor.
fn read_profile(path: &str) -> Result<String, String> {
    let attempt = |err: &dyn std::fmt::Display| format!("read the seccomp profile {path}: {err}");
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(CWD, path, flags | OFlags::NOFOLLOW, Mode::empty())
        .map_err(|err| attempt(&err))?;
    let stat = rustix::fs::fstat(&file).map_err(|err| attempt(&err))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(attempt(&"it is not a regular file"));
    }
    let mut bytes = Vec::new();
    std::fs::File::from(file)
        .take(PROFILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|err| attempt(&err))?;
    if bytes.len() as u64 > PROFILE_BYTES_MAX {
        return Err(attempt(&"it is larger than 1 MiB"));
    }
    String::from_utf8(bytes).map_err(|_| attempt(&"it is not UTF-8"))
}
