//! Tasks of this repository: `cargo xtask quickstart`, `cargo xtask test`, `cargo xtask build`.
//! Each installs what it needs from Debian packages and says what it installs.
#![forbid(unsafe_code)]

mod bench;
mod build;
mod deb;
mod debian;
mod image;
mod mutants;
mod packages;
mod quickstart;
mod test;
mod vm;

use std::process::ExitCode;

const HELP: &str = "\
usage: cargo xtask TASK

  quickstart        builds, then shows the main job on a small real root
  test [FILTER...]  builds, then runs every test; with filters, those of nextest that match
  deb [--dev] [--version VERSION]
                    builds a Debian package (--dev: of unoptimised programs)
  vm-test [systemd] boots Debian's kernel in a virtual machine for what this host cannot show;
                    with `systemd` a whole Debian: the package installed, upgraded, removed, purged
  bench [--dev] [--quick] [GROUP...]
                    measures beside crun and runc, writes docs/benchmarks.*; a part (groups:
                    lives living output empty many) or a quick try is only shown
  mutants [NAME]    plants each bug of tests/mutants and checks that its test fails
  build [--release] builds `reconciler` and the static `reconciler-shim`, prints their folder
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let rest = arguments.get(1..).unwrap_or_default();
    let outcome = match arguments.first().map(String::as_str) {
        Some("quickstart") => quickstart::run(),
        Some("test") => test::run(rest),
        Some("vm-test") => vm::run(rest),
        Some("deb") => deb::run(rest),
        Some("bench") => bench::run(rest),
        Some("mutants") => mutants::run(rest.first().map(String::as_str)),
        Some("build") => build::run(rest.iter().any(|word| word == "--release")).map(|dir| {
            say(&format!("built into {}", dir.display()));
        }),
        _ => {
            say(HELP);
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            say(&format!("error: {err:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Prints a line for people; a closed pipe is not worth an error.
fn say(text: &str) {
    use std::io::Write as _;
    writeln!(std::io::stdout(), "{text}").ok();
}
