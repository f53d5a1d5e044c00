//! `cargo xtask deb`: a Debian package, byte for byte the same each time it is made of the same
//! programs and commit.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};

use crate::build::{self, target_directory, workspace};
use crate::say;

const NAME: &str = "reconciler";
const MAINTAINER: &str = "The reconciler authors <reconciler@packages.invalid>";
/// What is told of it, in the form of `deb-control(5)`.
const DESCRIPTION: &str = "\
declarative reconciler for Linux containers on one host
 Specs in a watched directory, or applied into its store, become running
 containers and stay what the specs say: a loop compares what is desired with
 what the host says is there, and creates, limits, repairs, restarts, removes.
 .
 It needs no container engine. Its daemon can be stopped, upgraded or killed at
 any time: containers run on, and the next one adopts them.";

/// Builds the programs and makes the package.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let (mut release, mut version) = (true, None);
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "--dev" => release = false,
            "--version" => version = Some(rest.next().context("--version needs a value")?.as_str()),
            other => bail!("`deb` takes --dev and --version VERSION, not {other}"),
        }
    }
    let programs = build::run(release)?;
    let programs = &programs;
    let compressed = release;
    make(&Wanted {
        programs,
        compressed,
        version,
    })
    .map(drop)
}

/// What is to be made.
pub(crate) struct Wanted<'a> {
    /// Folder with the two programs.
    pub(crate) programs: &'a Path,
    /// Small, or made soon.
    pub(crate) compressed: bool,
    /// Version of the package; without it that of the workspace and the commit.
    pub(crate) version: Option<&'a str>,
}

/// Makes the package; returns its file, below the target directory.
pub(crate) fn make(wanted: &Wanted<'_>) -> Result<PathBuf> {
    ensure!(
        Path::new("/usr/bin/dpkg-deb").exists(),
        "dpkg-deb is not here: a Debian package is made on Debian"
    );
    let commit = Commit::newest()?;
    let version = match wanted.version {
        Some(said) => said.to_owned(),
        None => commit.version(),
    };
    let place = target_directory().join("deb");
    let tree = place.join("tree");
    if tree.exists() {
        fs::remove_dir_all(&tree).context("clear the tree")?;
    }
    let package = Package {
        tree,
        sources: workspace().join("reconciler/packaging"),
        version,
        commit,
    };
    package.programs(wanted.programs)?;
    package.units()?;
    package.papers(wanted.programs)?;
    package.documents()?;
    package.control(wanted.programs)?;
    let architecture = architecture()?;
    let file = place.join(format!("{NAME}_{}_{architecture}.deb", package.version));
    let compression = if wanted.compressed { "-Zxz" } else { "-Znone" };
    // `dpkg-deb(1)`: sorted, owned by root, and no file newer than SOURCE_DATE_EPOCH.
    let status = Command::new("/usr/bin/dpkg-deb")
        .args(["--root-owner-group", compression, "--build"])
        .arg(&package.tree)
        .arg(&file)
        .env("SOURCE_DATE_EPOCH", package.commit.epoch.to_string())
        .stdout(Stdio::null())
        .status()
        .context("run dpkg-deb")?;
    ensure!(status.success(), "dpkg-deb failed");
    say(&format!("made {}", file.display()));
    Ok(file)
}

/// What a package is made of.
struct Commit {
    /// Seconds since the epoch.
    epoch: u64,
    /// As `20260131`.
    day: String,
    short: String,
}

impl Commit {
    fn newest() -> Result<Self> {
        let said = git(&["log", "-1", "--date=format:%Y%m%d", "--format=%ct %cd %h"])?;
        let words: Vec<&str> = said.split_whitespace().collect();
        let [epoch, day, short] = words[..] else {
            bail!("git tells no commit: {said}");
        };
        // Whoever builds packages by the hundred says what time it is.
        let epoch = std::env::var("SOURCE_DATE_EPOCH").unwrap_or_else(|_| epoch.to_owned());
        Ok(Self {
            epoch: epoch.parse().context("SOURCE_DATE_EPOCH is no number")?,
            day: day.to_owned(),
            short: short.to_owned(),
        })
    }

    /// Sorts before the release that it is on the way to.
    fn version(&self) -> String {
        let release = env!("CARGO_PKG_VERSION");
        format!("{release}~git{}.{}", self.day, self.short)
    }
}

struct Package {
    /// The file system as it is unpacked.
    tree: PathBuf,
    /// Where what is written by hand lies.
    sources: PathBuf,
    version: String,
    commit: Commit,
}

impl Package {
    fn programs(&self, from: &Path) -> Result<()> {
        let shim = "usr/libexec/reconciler/reconciler-shim";
        for (name, to) in [
            ("reconciler", "usr/bin/reconciler"),
            ("reconciler-shim", shim),
        ] {
            let bytes = read(&from.join(name))?;
            self.put(to, &bytes, 0o755)?;
        }
        Ok(())
    }

    fn units(&self) -> Result<()> {
        for unit in ["reconciler.service", "reconciler.slice"] {
            let text = read(&self.sources.join(unit))?;
            self.put(&format!("lib/systemd/system/{unit}"), &text, 0o644)?;
        }
        let config = read(&self.sources.join("debian/config.yaml"))?;
        self.put("etc/reconciler/config.yaml", &config, 0o644)?;
        self.directory("etc/reconciler/specs.d")
    }

    /// What the program tells of itself.
    fn papers(&self, programs: &Path) -> Result<()> {
        let program = programs.join("reconciler");
        let told = |arguments: &[&str]| said(Command::new(&program).args(arguments));
        for (shell, place) in [
            ("bash", "bash-completion/completions/reconciler"),
            ("zsh", "zsh/vendor-completions/_reconciler"),
            ("fish", "fish/vendor_completions.d/reconciler.fish"),
        ] {
            let script = told(&["completion", shell])?;
            self.put(&format!("usr/share/{place}"), &script, 0o644)?;
        }
        let pages = self.tree.join("usr/share/man/man1");
        let listed = told(&["man", &pages.display().to_string()])?;
        for page in String::from_utf8_lossy(&listed).lines() {
            let text = read(Path::new(page))?;
            fs::remove_file(page).with_context(|| format!("replace {page}"))?;
            let name = Path::new(page).file_name().context("a page has a name")?;
            let to = format!("usr/share/man/man1/{}.gz", name.to_string_lossy());
            self.put(&to, &compressed(&text)?, 0o644)?;
        }
        Ok(())
    }

    fn documents(&self) -> Result<()> {
        let place = format!("usr/share/doc/{NAME}");
        let licence = read(&workspace().join("LICENSE-MIT"))?;
        let licence = String::from_utf8_lossy(&licence).into_owned();
        // `debian/copyright`: an empty line of a text is a dot.
        let lines = licence
            .lines()
            .skip_while(|line| !line.starts_with("Permission"));
        let lines = lines.map(|line| match line.trim() {
            "" => " .\n".to_owned(),
            line => format!(" {line}\n"),
        });
        let lines: String = lines.collect();
        let copyright = read(&self.sources.join("debian/copyright"))?;
        let copyright = String::from_utf8_lossy(&copyright).replace("@MIT@\n", &lines);
        self.put(&format!("{place}/copyright"), copyright.as_bytes(), 0o644)?;
        let date = said(
            Command::new("date")
                .args(["-u", "-R", "-d"])
                .arg(format!("@{}", self.commit.epoch)),
        )?;
        let changes = format!(
            "{NAME} ({}) unstable; urgency=medium\n\n  * Built from commit {}; CHANGELOG.md.gz has what changed.\n\n -- {MAINTAINER}  {}",
            self.version,
            self.commit.short,
            String::from_utf8_lossy(&date),
        );
        self.put(
            &format!("{place}/changelog.gz"),
            &compressed(changes.as_bytes())?,
            0o644,
        )?;
        let changelog = read(&workspace().join("CHANGELOG.md"))?;
        self.put(
            &format!("{place}/CHANGELOG.md.gz"),
            &compressed(&changelog)?,
            0o644,
        )?;
        let list = git(&["ls-files", "examples"])?;
        for example in list.lines() {
            let text = read(&workspace().join(example))?;
            self.put(&format!("{place}/{example}"), &text, 0o644)?;
        }
        let overrides = read(&self.sources.join("debian/overrides"))?;
        self.put(
            &format!("usr/share/lintian/overrides/{NAME}"),
            &overrides,
            0o644,
        )
    }

    fn control(&self, programs: &Path) -> Result<()> {
        for script in ["postinst", "prerm", "postrm"] {
            let text = read(&self.sources.join("debian").join(script))?;
            self.put(&format!("DEBIAN/{script}"), &text, 0o755)?;
        }
        self.put("DEBIAN/conffiles", b"/etc/reconciler/config.yaml\n", 0o644)?;
        let (mut sums, mut bytes) = (String::new(), 0);
        for file in files(&self.tree)? {
            let name = file.strip_prefix(&self.tree).context("below the tree")?;
            if name.starts_with("DEBIAN") {
                continue;
            }
            bytes += fs::metadata(&file).context("measure a file")?.len();
            if !name.starts_with("etc") {
                let sum = said(Command::new("md5sum").arg("--").arg(&file))?;
                let sum = String::from_utf8_lossy(&sum);
                let sum = sum.split(' ').next().unwrap_or_default();
                sums.push_str(&format!("{sum}  {}\n", name.display()));
            }
        }
        self.put("DEBIAN/md5sums", sums.as_bytes(), 0o644)?;
        let control = format!(
            "Package: {NAME}\nVersion: {}\nArchitecture: {}\nMaintainer: {MAINTAINER}\n\
             Installed-Size: {}\nDepends: {}\nRecommends: e2fsprogs\nSuggests: git\nSection: admin\nPriority: optional\n\
             Description: {DESCRIPTION}\n",
            self.version,
            architecture()?,
            bytes.div_ceil(1024),
            depends(&programs.join("reconciler"))?,
        );
        self.put("DEBIAN/control", control.as_bytes(), 0o644)
    }

    fn put(&self, to: &str, bytes: &[u8], mode: u32) -> Result<()> {
        let path = self.tree.join(to);
        self.directory(to.rsplit_once('/').map_or("", |(directory, _)| directory))?;
        fs::write(&path, bytes).with_context(|| format!("write {to}"))?;
        let mode = fs::Permissions::from_mode(mode);
        fs::set_permissions(&path, mode).with_context(|| format!("set the mode of {to}"))
    }

    /// Makes a directory and those above it, 0755 whatever the umask.
    fn directory(&self, to: &str) -> Result<()> {
        let mut path = self.tree.clone();
        fs::create_dir_all(path.join(to)).with_context(|| format!("make {to}"))?;
        for part in Path::new(to).components() {
            path.push(part);
            let mode = fs::Permissions::from_mode(0o755);
            fs::set_permissions(&path, mode).with_context(|| format!("set the mode of {to}"))?;
        }
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(&self.tree, mode).context("set the mode of the tree")
    }
}

/// Returns which libraries it needs: the newest symbol of glibc that it names decides.
fn depends(program: &Path) -> Result<String> {
    let bytes = read(program)?;
    let mut newest = (0, 0);
    for at in bytes
        .windows(8)
        .enumerate()
        .filter(|(_, b)| *b == b"GLIBC_2.")
    {
        let rest = bytes.get(at.0 + 8..).unwrap_or_default();
        let digits: Vec<u8> = rest
            .iter()
            .copied()
            .take_while(u8::is_ascii_digit)
            .collect();
        let minor = String::from_utf8_lossy(&digits).parse().unwrap_or(0);
        newest = newest.max((2, minor));
    }
    ensure!(
        newest.1 > 0,
        "{} names no symbol of glibc",
        program.display()
    );
    let linked = said(Command::new("ldd").arg(program))?;
    let gcc = String::from_utf8_lossy(&linked).contains("libgcc_s.so.1");
    let more = if gcc { ", libgcc-s1 (>= 4.2)" } else { "" };
    Ok(format!(
        "libc6 (>= {}.{}){more}, init-system-helpers (>= 1.54~)",
        newest.0, newest.1
    ))
}

fn architecture() -> Result<String> {
    let said = said(Command::new("/usr/bin/dpkg").arg("--print-architecture"))?;
    Ok(String::from_utf8_lossy(&said).trim().to_owned())
}

fn compressed(bytes: &[u8]) -> Result<Vec<u8>> {
    use std::io::Write as _;
    // -n: neither name nor time, which would differ from one making to the next.
    let mut gzip = Command::new("gzip")
        .arg("-9n")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("run gzip")?;
    let mut pipe = gzip.stdin.take().context("speak to gzip")?;
    let bytes = bytes.to_vec();
    let writer = std::thread::spawn(move || pipe.write_all(&bytes));
    let output = gzip.wait_with_output().context("hear gzip")?;
    let written = matches!(writer.join(), Ok(Ok(())));
    ensure!(output.status.success() && written, "gzip failed");
    Ok(output.stdout)
}

/// Every file below a directory, in order.
fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut entries: Vec<PathBuf> = fs::read_dir(directory)
        .with_context(|| format!("list {}", directory.display()))?
        .flatten()
        .map(|entry| entry.path())
        .collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.push(path);
        }
    }
    Ok(found)
}

fn git(arguments: &[&str]) -> Result<String> {
    let output = said(Command::new("git").args(arguments).current_dir(workspace()))?;
    Ok(String::from_utf8_lossy(&output).into_owned())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("read {}", path.display()))
}

fn said(command: &mut Command) -> Result<Vec<u8>> {
    let output = command
        .output()
        .with_context(|| format!("run {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?} failed: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(output.stdout)
}
