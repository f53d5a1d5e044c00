//! Texts made to cost time or memory, or to be read in two ways.
//!
//! One test, alone in its process: it measures the peak memory of the whole process.
#![cfg(test)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use specs::diagnostic::{DIAGNOSTICS_MAX, render};
use specs::parse::parse;

/// Held in every build: the parsers are optimised in all profiles (`Cargo.toml`).
const CPU_MS_MAX: u64 = 50;
/// What the yardstick of [`is_allowed`] costs on the machine that the promise is made for. The
/// costliest text takes 1.6 times as long on a quiet machine, and 2.3 times as long where a
/// neighbour uses the caches: it is larger than the yardstick.
const YARDSTICK_MS: u64 = 20;
const MEMORY_KB_MAX: u64 = 32 * 1024;

/// Processor time of this thread in milliseconds: waiting for others does not count
/// (`sched-stats.rst`).
fn cpu_ms() -> u64 {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse::<u64>().unwrap() / 1_000_000
}

fn memory_kb(field: &str) -> u64 {
    let text = fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn repeated(part: &str, bytes: usize) -> String {
    part.repeat(bytes / part.len())
}

const HEAD: &str = "apiVersion: reconciler/v1\nkind: Container\nmetadata: {name: web}\nspec:\n  ";
const CAP: usize = 1 << 20;

fn hostile() -> Vec<(&'static str, Vec<u8>)> {
    let text = |name, text: String| (name, text.into_bytes());
    let room = CAP - 1000;
    let bomb: String = (1..12)
        .map(|at| format!("a{at}: &a{at} [{}]\n", format!("*a{}, ", at - 1).repeat(10)))
        .collect();
    let numbered = |form: &str, count: usize| -> String {
        (0..count)
            .map(|at| form.replace('@', &at.to_string()))
            .collect()
    };
    vec![
        text("100 k [", repeated("[", 100_000)),
        text("1 M [", repeated("[", room)),
        text("1 M ]", repeated("]", room)),
        text("100 k {a: ", repeated("{a: ", 500_000)),
        text("1 M {a: ", repeated("{a: ", room)),
        text("1 M {", repeated("{", room)),
        text("- - - -", repeated("- ", room)),
        text("? ? ? ?", repeated("? ", room)),
        text(": : : :", repeated(": ", room)),
        text("? lines", repeated("? a\n", room)),
        text("unclosed '", format!("a: '{}", repeated("x ", room))),
        text("unclosed \"", format!("a: \"{}", repeated("\\n", room))),
        text("quote lines", format!("a: \"{}", repeated("\n\n \n", room))),
        text("unclosed [", format!("[{}", repeated("a, ", room))),
        text("flow commas", format!("[{}]", repeated(",", room))),
        text("flow entries", format!("[{}]", repeated("a,", room))),
        text("flow keys", format!("{{{}}}", repeated("a: 1, ", room))),
        text("flow pairs", format!("[{}]", repeated("a: 1, ", room))),
        text("flow questions", format!("[{}]", repeated("? a, ", room))),
        text("alias bomb", format!("a0: &a0 [x]\n{bomb}")),
        text(
            "big anchor",
            format!(
                "a: &a {}\nb: [{}]\n",
                repeated("x", 100_000),
                repeated("*a, ", 80_000)
            ),
        ),
        text(
            "merge keys",
            format!("a: &a {{x: 1}}\n{}", repeated("b: {<<: *a}\n", room)),
        ),
        text("anchors", repeated("- &a x\n", room)),
        text("tags", repeated("- !!str x\n", room)),
        text("tag directives", repeated("%TAG ! tag:x,2000:\n", room)),
        text("long tag", format!("!<{}> x", repeated("x", room))),
        text("long anchor", format!("&{} x", repeated("x", room))),
        text(
            "1 M scalar",
            format!("{HEAD}hostname: {}\n", repeated("x", room)),
        ),
        text(
            "1 M words",
            format!("{HEAD}hostname: {}\n", repeated("x ", room)),
        ),
        text(
            "10 M scalar",
            format!("{HEAD}hostname: {}\n", repeated("x", 10 * CAP)),
        ),
        text("10 M keys", numbered("k@: x\n", 1_000_000)),
        text("many keys", numbered("k@: x\n", 90_000)),
        text(
            "many unknown",
            format!("{HEAD}{}", numbered("k@: x\n  ", 70_000)),
        ),
        text("same key", repeated("a: 1\n", room)),
        text(
            "env",
            format!(
                "{HEAD}rootfs: {{directory: /x}}\n  env:\n{}",
                numbered("    K@: x\n", 45_000)
            ),
        ),
        text(
            "command",
            format!(
                "{HEAD}rootfs: {{directory: /x}}\n  processes:\n  - name: a\n    command:\n{}",
                repeated("    - x\n", room)
            ),
        ),
        text(
            "processes",
            format!(
                "{HEAD}processes:\n{}",
                repeated("  - {name: a, command: [x]}\n", room)
            ),
        ),
        text(
            "files",
            format!(
                "{HEAD}files:\n{}",
                numbered("  - {path: /a/@, content: x}\n", 10_000)
            ),
        ),
        text(
            "mounts",
            format!(
                "{HEAD}mounts:\n{}",
                numbered("  - {path: /a/@, source: /@}\n", 10_000)
            ),
        ),
        text(
            "deep path",
            format!(
                "{HEAD}mounts:\n  - {{path: {}, source: /}}\n",
                repeated("/a", room)
            ),
        ),
        text("documents", repeated("---\n", room)),
        text("document ends", repeated("...\n", room)),
        text("one-letter documents", repeated("--- a\n", room)),
        text(
            "deep indentation",
            (0..1000)
                .map(|at| format!("{}a:\n", " ".repeat(at)))
                .collect(),
        ),
        text(
            "wide indentation",
            format!("a:\n{}b: c", repeated(" ", room)),
        ),
        text("comments", repeated("#\n", room)),
        text("one comment", format!("#{}", repeated("x", room))),
        text("blank lines", repeated("\n", room)),
        text("tabs", repeated("\t", room)),
        text("tab lines", repeated("a:\n\tb: c\n", room)),
        text("block scalar", format!("a: |\n{}", repeated(" x\n", room))),
        text("block blanks", format!("a: |\n{}", repeated("\n", room))),
        text("folded", format!("a: >\n{}", repeated(" x\n\n", room))),
        text("plain lines", format!("a: x\n{}", repeated("  x\n", room))),
        text("colons", repeated("a:b:", room)),
        text("escapes", format!("a: \"{}\"", repeated("\\x41", room))),
        text("carriage returns", repeated("\r", room)),
        text("crlf", repeated("a: b\r\n", room)),
        text("nul", repeated("\0", room)),
        text("next line", repeated("\u{85}", room)),
        text("line separators", repeated("a: b\u{2028}", room)),
        text("marks inside", repeated("a\u{feff}", room)),
        text("wide characters", repeated("😀", room)),
        ("not UTF-8", vec![0xff; CAP]),
        ("overlong", [0xc0, 0xaf].repeat(CAP / 2)),
        ("surrogate", b"a: \xed\xa0\x80".to_vec()),
        ("late bad byte", [vec![b'\n'; CAP - 1], vec![0xfe]].concat()),
        ("utf-16", [0xff, 0xfe, b'a', 0, b':', 0].to_vec()),
        ("empty", Vec::new()),
    ]
}

/// Texts that are in order and as large as can be: the second reader sees these.
fn large() -> Vec<(&'static str, String)> {
    let env: String = (0..20_000)
        .map(|at| format!("    KEY_{at}: value {at}\n"))
        .collect();
    let documents: String = (0..64)
        .map(|at| {
            let text = "x".repeat(12_000);
            format!(
                "---\napiVersion: reconciler/v1\nkind: Container\n\
                 metadata: {{name: c{at}}}\nspec:\n  \
                 rootfs: {{directory: /x}}\n  files:\n  - {{path: /a, content: {text}}}\n"
            )
        })
        .collect();
    let block = "        {\"key\": [1, 2, 3], \"other\": {}}\n".repeat(23_000);
    let head = "rootfs: {directory: /x}\n";
    let word = "word ".repeat(190_000);
    vec![
        ("many variables", format!("{HEAD}{head}  env:\n{env}")),
        ("many documents", documents),
        (
            "a large block",
            format!("{HEAD}{head}  files:\n    - path: /a\n      content: |\n{block}"),
        ),
        (
            "a large line",
            format!("{HEAD}{head}  files:\n    - path: /a\n      content: {word}\n"),
        ),
        (
            "a large quote",
            format!("{HEAD}{head}  files:\n    - path: /a\n      content: \"{word}\"\n"),
        ),
    ]
}

/// Returns whether a text may cost this: as promised, or as much more as this machine takes
/// for a fixed piece of work of the readers' kind, many short strings made, put in order and
/// found again.
fn is_allowed(ms: u64) -> bool {
    let once = || {
        let before_ms = cpu_ms();
        let words: BTreeSet<String> = (0..100_000_u32)
            .map(|at| format!("key {}", at.wrapping_mul(2_654_435_761)))
            .collect();
        let found = words.iter().filter(|word| words.contains(*word)).count();
        assert_eq!(found, 100_000);
        cpu_ms() - before_ms
    };
    ms <= CPU_MS_MAX || {
        let here_ms = (0..5).map(|_| once()).min().unwrap();
        println!("{ms} ms where the yardstick takes {here_ms} ms");
        ms * YARDSTICK_MS <= CPU_MS_MAX * here_ms
    }
}

/// What reading a text costs: processor time in milliseconds, the best of five tries since
/// others on the machine take caches and clocks from us, and memory in kB, the most of them.
fn cost(bytes: &[u8]) -> (u64, u64) {
    let mut cost = (u64::MAX, 0);
    for _ in 0..5 {
        // The peak begins anew here (`proc_pid_clear_refs(5)`).
        fs::write("/proc/self/clear_refs", "5").unwrap();
        let (before_ms, before_kb) = (cpu_ms(), memory_kb("VmRSS"));
        let parsed = parse("hostile.yaml", bytes);
        let ms = cpu_ms() - before_ms;
        let kb = memory_kb("VmHWM").saturating_sub(before_kb);
        drop(parsed);
        cost = (cost.0.min(ms), cost.1.max(kb));
        if cost.0 <= CPU_MS_MAX {
            break;
        }
    }
    cost
}

/// The examples that people start from.
fn examples() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let stories = fs::read_dir(folder).unwrap().flatten();
    let found: Vec<_> = stories
        .filter_map(|story| {
            let name = story.file_name().into_string().unwrap();
            fs::read(story.path().join(format!("{name}.yaml"))).ok()
        })
        .collect();
    assert!(found.len() > 5, "the examples were not found");
    found
}

#[test]
fn no_text_costs_more_than_a_moment() {
    let mut slowest = (0, "");
    let mut largest = (0, "");
    let mut check = |name: &'static str, bytes: &[u8], is_taken: bool| {
        let (ms, kb) = cost(bytes);
        let parsed = parse("hostile.yaml", bytes);
        slowest = slowest.max((ms, name));
        largest = largest.max((kb, name));
        assert!(is_allowed(ms), "{name}: {ms} ms");
        assert!(kb <= MEMORY_KB_MAX, "{name}: {kb} kB");
        assert_eq!(
            parsed.diagnostics.is_empty(),
            is_taken,
            "{name}: {:?}",
            parsed.diagnostics.first()
        );
        assert_eq!(parsed.specs.is_empty(), !is_taken, "{name}");
        assert!(parsed.diagnostics.len() <= DIAGNOSTICS_MAX + 1, "{name}");
        let source = String::from_utf8_lossy(bytes);
        let told = parsed.diagnostics.get(..3).unwrap_or(&parsed.diagnostics);
        let shown = render(told, &source, false);
        assert!(shown.len() < 8000, "{name}: {}", shown.len());
        assert!(
            !shown.contains(['\u{1b}', '\0', '\r', '\u{2028}', '\u{feff}']),
            "{name}"
        );
    };
    for (name, bytes) in hostile() {
        check(name, &bytes, false);
    }
    for (name, text) in large() {
        check(name, text.as_bytes(), true);
    }
    for example in examples() {
        for end in 0..=example.len() {
            let (ms, kb) = cost(&example[..end]);
            assert!(is_allowed(ms), "{end} bytes of an example: {ms} ms");
            assert!(kb <= MEMORY_KB_MAX, "{end} bytes of an example: {kb} kB");
        }
    }
    println!("slowest {slowest:?}, largest {largest:?}");
}
