//! Any bytes at all get an answer.

use proptest::prelude::*;
use specs::config::parse_config;
use specs::diagnostic::{is_refused, render};
use specs::parse::parse;

fn check(bytes: &[u8]) {
    let parsed = parse("any.yaml", bytes);
    assert_eq!(parsed.specs.is_empty(), is_refused(&parsed.diagnostics));
    let source = String::from_utf8_lossy(bytes);
    let shown = render(&parsed.diagnostics, &source, false);
    assert!(
        !shown.contains(|c: char| c.is_control() && c != '\n'),
        "{shown:?}"
    );
    let lines = source.split('\n').count();
    for one in &parsed.diagnostics {
        assert!(usize::try_from(one.line).unwrap() <= lines + 1, "{one:?}");
        assert!(
            one.line >= 1 && one.column >= 1 && one.end_column >= one.column,
            "{one:?}"
        );
    }
    if let Err(faults) = parse_config("any.yaml", bytes) {
        assert!(!faults.is_empty());
    }
}

/// Pieces of YAML and of specs, to be strung together at random.
const TOKENS: [&str; 62] = [
    "apiVersion: reconciler/v1\n",
    "kind: Container\n",
    "metadata:\n",
    "  name: web\n",
    "metadata: {name: web}\n",
    "spec:\n",
    "  rootfs:\n",
    "    directory: /srv/a\n",
    "  rootfs: {directory: /x}\n",
    "  limits:\n",
    "    memory: 1Gi\n",
    "    pids: 10\n",
    "  mounts:\n",
    "  - {path: /a, source: /b}\n",
    "  - path: /a\n",
    "    tmpfs: 1Mi\n",
    "  processes:\n",
    "  - name: a\n",
    "    command: [x]\n",
    "  env: {A: b}\n",
    "  env:\n",
    "  security:\n",
    "    privileged: true\n",
    "    capabilities: {add: [NET_RAW]}\n",
    "---\n",
    "...\n",
    "a",
    ": ",
    "- ",
    "? ",
    "[",
    "]",
    "{",
    "}",
    ", ",
    "\n",
    "  ",
    "\"",
    "'",
    "|\n",
    ">-\n",
    "# c\n",
    "&a ",
    "*a ",
    "!t ",
    "<<: ",
    "~",
    "null",
    "0",
    "1e3",
    "true",
    "\t",
    "\r\n",
    "\u{85}",
    "\u{feff}",
    "\u{2028}",
    "\0",
    "é",
    "%",
    "@",
    "`",
    "\\",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        check(&bytes);
    }

    #[test]
    fn any_string_of_tokens_is_answered(
        picks in prop::collection::vec(0..TOKENS.len(), 0..60)
    ) {
        let text: String = picks.iter().map(|at| TOKENS[*at]).collect();
        check(text.as_bytes());
    }

    #[test]
    fn a_damaged_spec_is_answered(
        at in 0_usize..2000, cut in 0_usize..40, put in any::<[u8; 3]>()
    ) {
        let mut bytes = include_bytes!("../fixtures/valid/full.yaml").to_vec();
        let at = at.min(bytes.len());
        let end = (at + cut).min(bytes.len());
        bytes.splice(at..end, put);
        check(&bytes);
    }

    #[test]
    fn a_spec_with_another_line_moved_is_answered(from in 0_usize..97, to in 0_usize..97) {
        let mut lines: Vec<&str> = include_str!("../fixtures/valid/full.yaml").lines().collect();
        let line = lines.remove(from.min(lines.len() - 1));
        lines.insert(to.min(lines.len()), line);
        check(lines.join("\n").as_bytes());
    }
}
