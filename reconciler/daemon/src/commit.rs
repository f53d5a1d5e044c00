//! Who changed a spec last, where its file lies in a Git checkout.
//!
//! Asked for only when a person asks `why`. A checkout may belong to somebody who may write
//! specs and nothing else, and its configuration can name programs to run: `git` is run as
//! the owner of the directory, who gains nothing by it, and refuses a checkout of another
//! owner. Nothing of it reaches the network or waits for a person.

use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::clock;

const GIT: &str = "/usr/bin/git";
/// Time for each question.
const PATIENCE_MS: u64 = 1_500;
/// How often an answer is looked for.
const LOOK: Duration = Duration::from_millis(2);
/// Most bytes of an answer: less than a pipe holds, so that nobody has to read meanwhile.
const ANSWER_MAX: u64 = 16 << 10;
/// Settings that go before those of the checkout: no program but `git` itself.
const SETTINGS: [&str; 5] = [
    "core.fsmonitor=false",
    "core.hooksPath=/dev/null",
    "core.pager=",
    "log.showSignature=false",
    "protocol.allow=never",
];

/// The newest commit that changed a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Commit {
    /// Abbreviated.
    pub(crate) id: String,
    /// Name of the author.
    pub(crate) author: String,
    /// Of the author, `YYYY-MM-DD`.
    pub(crate) date: String,
    /// First line of the message.
    pub(crate) subject: String,
    /// The file is not as the commit that is checked out has it.
    pub(crate) is_edited: bool,
}

/// Returns the newest commit that changed the file; nothing where there is none, no checkout,
/// no `git`, or no answer in time. Blocks for a few seconds at most.
pub(crate) fn newest(file: &Path) -> Option<Commit> {
    // A checkout may be reached over a link, as tools that switch whole trees do.
    let file = std::fs::canonicalize(file).ok()?;
    let (directory, name) = (file.parent()?, file.file_name()?.to_str()?);
    let log = ["log", "-1", "--format=%h%x00%an%x00%as%x00%s", "--", name];
    let said = ask(directory, &log)?;
    let mut parts = said.trim_end().split('\0').map(str::to_owned);
    let (id, author, date, subject) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let committed = ask(directory, &["rev-parse", &format!("HEAD:./{name}")]);
    let written = ask(directory, &["hash-object", "--no-filters", "--", name])?;
    Some(Commit {
        is_edited: committed != Some(written),
        id,
        author,
        date,
        subject,
    })
}

fn ask(directory: &Path, question: &[&str]) -> Option<String> {
    let owner = std::fs::metadata(directory).ok()?;
    let mut command = Command::new(GIT);
    for setting in SETTINGS {
        command.args(["-c", setting]);
    }
    let mut child = command
        .args(question)
        .current_dir(directory)
        .env_clear()
        .envs([
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("GIT_CONFIG_GLOBAL", "/dev/null"),
            ("GIT_NO_LAZY_FETCH", "1"),
            ("GIT_OPTIONAL_LOCKS", "0"),
            ("GIT_TERMINAL_PROMPT", "0"),
            ("GIT_LITERAL_PATHSPECS", "1"),
        ])
        .uid(owner.uid())
        .gid(owner.gid())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let until = clock::boot_ms().saturating_add(PATIENCE_MS);
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if clock::boot_ms() < until => std::thread::sleep(LOOK),
            Ok(None) | Err(_) => {
                tracing::debug!(directory = %directory.display(), "git gave no answer in time");
                child.kill().ok();
                child.wait().ok();
                return None;
            }
        }
    };
    let mut answer = String::new();
    let read = child
        .stdout
        .take()?
        .take(ANSWER_MAX)
        .read_to_string(&mut answer);
    (status.success() && read.is_ok()).then_some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn git(directory: &Path, arguments: &[&str]) {
        let done = Command::new(GIT)
            .args(["-c", "user.name=Ann", "-c", "user.email=ann@example.org"])
            .args(arguments)
            .current_dir(directory)
            .env_clear()
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        assert!(done.is_ok_and(|status| status.success()), "{arguments:?}");
    }

    fn checkout() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        git(dir.path(), &["init", "--quiet"]);
        std::fs::write(dir.path().join("web.yaml"), "one\n").unwrap();
        git(dir.path(), &["add", "."]);
        git(dir.path(), &["commit", "--quiet", "-m", "web: begin"]);
        std::fs::write(dir.path().join("db.yaml"), "one\n").unwrap();
        git(dir.path(), &["add", "."]);
        git(dir.path(), &["commit", "--quiet", "-m", "db: begin"]);
        dir
    }

    #[test]
    fn the_newest_commit_of_a_file_is_named_and_whether_it_was_edited_since() {
        let dir = checkout();
        let file = dir.path().join("web.yaml");
        let commit = newest(&file).unwrap();
        assert_eq!(
            (commit.author.as_str(), commit.subject.as_str()),
            ("Ann", "web: begin")
        );
        assert!(!commit.is_edited && commit.id.len() >= 7 && commit.date.len() == 10);
        std::fs::write(&file, "two\n").unwrap();
        assert!(newest(&file).unwrap().is_edited);
    }

    #[test]
    fn what_is_in_no_checkout_or_in_no_commit_has_none() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("web.yaml"), "one\n").unwrap();
        assert_eq!(newest(&dir.path().join("web.yaml")), None);
        assert_eq!(newest(&dir.path().join("none.yaml")), None);
        let dir = checkout();
        std::fs::write(dir.path().join("new.yaml"), "one\n").unwrap();
        assert_eq!(newest(&dir.path().join("new.yaml")), None);
    }

    #[test]
    fn a_hostile_checkout_runs_nothing() {
        let dir = checkout();
        let mark = dir.path().join("mark");
        let run = format!("touch {}", mark.display());
        for key in [
            "core.fsmonitor",
            "core.pager",
            "gpg.program",
            "core.sshCommand",
            "diff.external",
            "filter.x.clean",
        ] {
            git(dir.path(), &["config", key, &run]);
        }
        git(dir.path(), &["config", "log.showSignature", "true"]);
        std::fs::write(dir.path().join(".git/info/attributes"), "* filter=x\n").unwrap();
        std::fs::write(dir.path().join("web.yaml"), "two\n").unwrap();
        assert!(newest(&dir.path().join("web.yaml")).unwrap().is_edited);
        assert!(!mark.exists(), "a program of the checkout was run");
    }

    #[test]
    fn a_checkout_of_another_owner_is_not_believed() {
        let dir = checkout();
        std::os::unix::fs::chown(dir.path(), Some(1), Some(1)).unwrap();
        // The directory's new owner runs it, and `.git` is not theirs.
        assert_eq!(newest(&dir.path().join("web.yaml")), None);
    }
}
