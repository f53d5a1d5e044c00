//! `reconciler validate`: needs neither root nor a daemon.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::Serialize;
use specs::config::{Config, parse_config};
use specs::diagnostic::{self, Diagnostic, Severity};
use specs::parse::{Located, parse};
use specs::policy;
use specs::validate::validate_set;

use super::input::{self, Input};
use super::{Exit, Failure, Session};
use crate::args::{DEFAULT_SPECS, ValidateArgs};
use crate::render::Look;
use crate::render::paint::Tone;

/// What was found.
#[derive(Debug, Default, Serialize)]
struct Findings {
    files: usize,
    containers: usize,
    errors: usize,
    warnings: usize,
    diagnostics: Vec<Diagnostic>,
    /// Texts by name, to show the lines in question.
    #[serde(skip)]
    texts: BTreeMap<String, String>,
}

/// Checks spec files, and with `--config` that file and what its policy says to the specs.
///
/// # Errors
/// When a path cannot be read, or standard output takes nothing.
pub(crate) fn validate(session: &mut Session, args: &ValidateArgs) -> Result<Exit, Failure> {
    let default = [PathBuf::from(DEFAULT_SPECS)];
    let paths = if args.paths.is_empty() {
        &default[..]
    } else {
        &args.paths
    };
    let config = args
        .config
        .as_ref()
        .map(|path| input::read_file(path))
        .transpose()?;
    let findings = check(input::read(paths)?, config)?;
    session.print(args.output, &findings, render)?;
    Ok(if findings.errors == 0 {
        Exit::Done
    } else {
        Exit::Failed
    })
}

fn check(inputs: Vec<Input>, config: Option<Input>) -> Result<Findings, Failure> {
    let mut findings = Findings {
        files: inputs.len(),
        ..Findings::default()
    };
    let mut set: Vec<(String, Located)> = Vec::new();
    for input in &inputs {
        let parsed = parse(&input.name, &input.bytes);
        findings.diagnostics.extend(parsed.diagnostics);
        set.extend(
            parsed
                .specs
                .into_iter()
                .map(|located| (input.name.clone(), located)),
        );
    }
    findings.containers = set.len();
    findings.diagnostics.extend(validate_set(&set));
    if let Some(config) = &config {
        match parse_config(&config.name, &config.bytes) {
            Ok(config) => findings.diagnostics.extend(refused_by(&config, &set)?),
            Err(faults) => findings.diagnostics.extend(faults),
        }
    }
    findings.texts = inputs
        .into_iter()
        .chain(config)
        .map(|input| {
            (
                input.name,
                String::from_utf8_lossy(&input.bytes).into_owned(),
            )
        })
        .collect();
    let order = |one: &Diagnostic| (one.file.clone(), one.line, one.column);
    findings.diagnostics.sort_by_key(order);
    let count = |severity| {
        findings
            .diagnostics
            .iter()
            .filter(|one| one.severity == severity)
            .count()
    };
    (findings.errors, findings.warnings) = (count(Severity::Error), count(Severity::Warning));
    Ok(findings)
}

/// What the policy refuses, taking each file as the spec of its owner in its own directory.
fn refused_by(config: &Config, set: &[(String, Located)]) -> Result<Vec<Diagnostic>, Failure> {
    let mut refused = Vec::new();
    for (file, located) in set {
        let path = Path::new(file);
        // Standard input has no owner and no place: it is held to what a stranger may ask for.
        let (directory, owner) = if file == input::STDIN {
            (String::new(), u32::MAX)
        } else {
            let broken = |err| Failure::Read(path.to_owned(), err);
            let owner = path.metadata().map_err(broken)?.uid();
            let absolute = std::path::absolute(path).map_err(broken)?;
            let parent = absolute.parent().unwrap_or(Path::new("/"));
            (parent.display().to_string(), owner)
        };
        let grant = config.policy.grant(&directory, owner);
        refused.extend(policy::check(located, &grant, file));
    }
    Ok(refused)
}

fn render(findings: &Findings, look: &Look) -> String {
    let mut out = String::new();
    for one in &findings.diagnostics {
        let text = findings
            .texts
            .get(&one.file)
            .map(String::as_str)
            .unwrap_or_default();
        out.push_str(&diagnostic::render(
            std::slice::from_ref(one),
            text,
            look.paint.color,
        ));
    }
    let several = |count: usize, word: &str| match count {
        1 => format!("1 {word}"),
        count => format!("{count} {word}s"),
    };
    let tone = match (findings.errors, findings.warnings) {
        (0, 0) => Tone::Good,
        (0, _) => Tone::Warn,
        _ => Tone::Bad,
    };
    let result = format!(
        "{}, {}",
        several(findings.errors, "error"),
        several(findings.warnings, "warning")
    );
    let files = several(findings.files, "file");
    let containers = several(findings.containers, "container");
    out.push_str(&format!(
        "{files}, {containers}: {}\n",
        look.paint.put(tone, &result)
    ));
    out
}
