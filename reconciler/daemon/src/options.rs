//! What `run` was told, and what the config says where it was told nothing.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{CWD, Mode, OFlags};
use specs::config::{self, Config};

use specs::diagnostic;
use specs::id::{Instance, LabelError};

use crate::resolvers;

/// Where the config is looked for when nothing is said.
const CONFIG: &str = "/etc/reconciler/config.yaml";
/// Largest config, in bytes.
const CONFIG_BYTES_MAX: u64 = 1 << 20;
/// The supervisor's name, beside this program or where a package puts it.
const SHIM: &str = "reconciler-shim";
/// Name of a daemon when nothing is said.
const INSTANCE: &str = "main";

/// What `run` is told. What is `None` or empty is the config's to say, then the default's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunOptions {
    /// Directories watched for specs.
    pub specs: Vec<PathBuf>,
    /// The config; given here it must be there.
    pub config: Option<PathBuf>,
    /// Where the store, upper layers and volumes live.
    pub state_dir: Option<PathBuf>,
    /// Where sockets and adoption handles live; gone at reboot.
    pub runtime_dir: Option<PathBuf>,
    /// Where output is kept.
    pub log_dir: Option<PathBuf>,
    /// The daemon's own socket.
    pub socket: Option<PathBuf>,
    /// Cgroup below which containers live.
    pub cgroup_parent: Option<String>,
    /// Name of the daemon; part of every mark.
    pub instance: Option<String>,
    /// The supervisor's binary; without it `reconciler-shim` beside this program, or in
    /// `../libexec/reconciler` as packages have it.
    pub shim: Option<PathBuf>,
    /// How roots are put together.
    pub assembly: Assembly,
}

/// How roots are put together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Assembly {
    /// As the kernel can.
    #[default]
    Auto,
    /// As a detached mount tree.
    Detached,
    /// In a private mount namespace.
    Classic,
}

/// Everything decided.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) config: Config,
    pub(crate) specs: Vec<PathBuf>,
    pub(crate) state: PathBuf,
    pub(crate) runtime: PathBuf,
    pub(crate) logs: PathBuf,
    pub(crate) socket: PathBuf,
    pub(crate) cgroup_parent: Option<String>,
    pub(crate) instance: Instance,
    pub(crate) shim: PathBuf,
    pub(crate) assembly: Assembly,
}

/// A config that was read again.
#[derive(Clone, Debug)]
pub(crate) struct Reread {
    pub(crate) config: Arc<Config>,
    /// Fields that changed and hold from the next start on.
    pub(crate) later: Vec<&'static str>,
}

/// Options or a config that nothing can be begun with.
#[derive(Debug, thiserror::Error)]
pub enum OptionsError {
    /// The config cannot be read.
    #[error("read the config {}", .0.display())]
    Read(PathBuf, #[source] io::Error),
    /// Others than root may write what decides about their rights.
    #[error("the config {} {why}; it decides who may do what", .path.display())]
    Owner {
        /// The config.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The config is wrong; the text shows where, with carets.
    #[error("the config is wrong\n{rendered}")]
    Config {
        /// The first fault, on one line.
        line: String,
        /// All of them, with carets.
        rendered: String,
    },
    /// A name that is none.
    #[error("the instance name")]
    Instance(#[source] LabelError),
    /// A path cannot be made absolute.
    #[error("the path {}", .0.display())]
    Path(PathBuf, #[source] io::Error),
    /// There is no supervisor.
    #[error("there is no supervisor at {}; say where it is with --shim", .0.display())]
    NoShim(PathBuf),
}

impl RunOptions {
    /// Reads the config and fills in what was not said. Makes and changes nothing.
    pub(crate) fn settle(&self) -> Result<Settings, OptionsError> {
        let mut config = match &self.config {
            Some(path) => load(path)?
                .ok_or_else(|| OptionsError::Read(path.clone(), io::ErrorKind::NotFound.into()))?,
            None => load(Path::new(CONFIG))?.unwrap_or_default(),
        };
        if config.defaults.network.dns.is_empty() {
            config.defaults.network.dns = resolvers::of_host();
        }
        let paths = &config.paths;
        let pick = |said: &Option<PathBuf>, else_: &str| {
            absolute(said.as_deref().unwrap_or_else(|| Path::new(else_)))
        };
        let specs = match self.specs.is_empty() {
            false => self.specs.iter().map(|path| absolute(path)).collect(),
            true => paths
                .specs
                .iter()
                .map(|path| absolute(Path::new(path)))
                .collect(),
        };
        let specs: Result<Vec<PathBuf>, OptionsError> = specs;
        let mut specs = specs?;
        specs.sort();
        specs.dedup();
        let instance = match &self.instance {
            Some(name) => Instance::new(name.as_str()).map_err(OptionsError::Instance)?,
            None => match &config.instance {
                Some(instance) => instance.clone(),
                None => Instance::new(INSTANCE).map_err(OptionsError::Instance)?,
            },
        };
        // The socket goes with the runtime directory, unless somebody said where it is.
        let beside = Path::new(&paths.runtime).join("reconciler.sock");
        let socket = match (&self.socket, &self.runtime_dir) {
            (None, Some(runtime)) if Path::new(&paths.socket) == beside => {
                absolute(&runtime.join("reconciler.sock"))?
            }
            (said, _) => pick(said, &paths.socket)?,
        };
        let settings = Settings {
            specs,
            state: pick(&self.state_dir, &paths.state)?,
            runtime: pick(&self.runtime_dir, &paths.runtime)?,
            logs: pick(&self.log_dir, &paths.logs)?,
            socket,
            cgroup_parent: self
                .cgroup_parent
                .clone()
                .or_else(|| config.cgroup_parent.clone()),
            instance,
            shim: self.find_shim()?,
            assembly: self.assembly,
            config,
        };
        Ok(settings)
    }

    /// Reads the config again while a daemon with these settings runs.
    ///
    /// # Errors
    /// On one line, with the place of the first fault.
    pub(crate) fn settle_again(&self, running: &Settings) -> Result<Reread, String> {
        let settings = self.settle().map_err(|err| match err {
            OptionsError::Config { line, .. } => line,
            err => crate::errors::chain(&err),
        })?;
        Ok(Reread {
            later: running.fixed_differences(&settings),
            config: Arc::new(settings.config),
        })
    }

    fn find_shim(&self) -> Result<PathBuf, OptionsError> {
        let shim = match &self.shim {
            Some(said) => absolute(said)?,
            None => {
                let own = std::env::current_exe();
                let own = own.map_err(|err| OptionsError::Path("/proc/self/exe".into(), err))?;
                let beside = own.with_file_name(SHIM);
                let installed = own
                    .with_file_name("..")
                    .join("libexec/reconciler")
                    .join(SHIM);
                match (beside.is_file(), installed.canonicalize()) {
                    (false, Ok(installed)) => installed,
                    _ => beside,
                }
            }
        };
        if shim.is_file() {
            Ok(shim)
        } else {
            Err(OptionsError::NoShim(shim))
        }
    }
}

impl Settings {
    /// Returns what differs of that which holds as long as a daemon runs.
    fn fixed_differences(&self, new: &Self) -> Vec<&'static str> {
        let paths = |settings: &Self| {
            let all = [&settings.state, &settings.runtime, &settings.logs];
            (
                settings.specs.clone(),
                all.map(PathBuf::clone),
                settings.socket.clone(),
            )
        };
        let differs = [
            ("paths", paths(self) != paths(new)),
            ("instance", self.instance != new.instance),
            ("cgroupParent", self.cgroup_parent != new.cgroup_parent),
            ("reconcile", self.config.reconcile != new.config.reconcile),
            ("api", self.config.api != new.config.api),
        ];
        let differing = differs.into_iter().filter(|(_, differs)| *differs);
        differing.map(|(field, _)| field).collect()
    }
}

fn absolute(path: &Path) -> Result<PathBuf, OptionsError> {
    std::path::absolute(path).map_err(|err| OptionsError::Path(path.to_owned(), err))
}

/// Reads a config, `None` if there is none.
fn load(path: &Path) -> Result<Option<Config>, OptionsError> {
    let failed = |err: rustix::io::Errno| OptionsError::Read(path.to_owned(), err.into());
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = match rustix::fs::openat(CWD, path, flags, Mode::empty()) {
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        file => file.map_err(failed)?,
    };
    let stat = rustix::fs::fstat(&file).map_err(failed)?;
    let refuse = |why| {
        let path = path.to_owned();
        Err(OptionsError::Owner { path, why })
    };
    if stat.st_uid != 0 {
        return refuse("does not belong to root");
    }
    if stat.st_mode & 0o022 != 0 {
        return refuse("may be written by others than root");
    }
    let mut bytes = Vec::new();
    std::fs::File::from(file)
        .take(CONFIG_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|err| OptionsError::Read(path.to_owned(), err))?;
    let name = path.to_string_lossy();
    let parsed = config::parse_config(&name, &bytes);
    parsed.map(Some).map_err(|found| {
        let text = String::from_utf8_lossy(&bytes);
        OptionsError::Config {
            line: found.first().map(|one| one.one_line()).unwrap_or_default(),
            rendered: diagnostic::render(&found, &text, false),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(more: impl FnOnce(RunOptions) -> RunOptions) -> Result<Settings, OptionsError> {
        let shim = tempfile::NamedTempFile::new().unwrap();
        let empty = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(empty.path(), "apiVersion: reconciler/v1\nkind: Config\n").unwrap();
        let options = RunOptions {
            shim: Some(shim.path().to_owned()),
            config: Some(empty.path().to_owned()),
            ..RunOptions::default()
        };
        more(options).settle()
    }

    #[test]
    fn what_is_said_overrides_the_config_and_the_config_the_defaults() {
        let config = tempfile::NamedTempFile::new().unwrap();
        let text = "apiVersion: reconciler/v1\nkind: Config\ninstance: shop\npaths: {state: /s, \
                    logs: /l, specs: [/a]}\n";
        std::fs::write(config.path(), text).unwrap();
        let settings = said(|options| RunOptions {
            config: Some(config.path().to_owned()),
            log_dir: Some("/other".into()),
            ..options
        })
        .unwrap();
        assert_eq!(settings.instance.as_str(), "shop");
        assert_eq!(
            (settings.state, settings.logs),
            ("/s".into(), "/other".into())
        );
        assert_eq!(settings.specs, [PathBuf::from("/a")]);
        assert_eq!(settings.runtime, Path::new("/run/reconciler"));
    }

    #[test]
    fn what_changed_and_holds_from_the_next_start_on_is_named() {
        let config = tempfile::NamedTempFile::new().unwrap();
        let write = |text: &str| {
            let text = format!("apiVersion: reconciler/v1\nkind: Config\n{text}");
            std::fs::write(config.path(), text).unwrap();
        };
        let shim = tempfile::NamedTempFile::new().unwrap();
        let options = RunOptions {
            config: Some(config.path().to_owned()),
            shim: Some(shim.path().to_owned()),
            state_dir: Some("/told".into()),
            ..RunOptions::default()
        };
        write("");
        let running = options.settle().unwrap();
        write("paths: {state: /s}\ndefaults: {limits: {pids: 7}}\n");
        // A flag goes before the config: that path does not differ.
        let read = options.settle_again(&running).unwrap();
        assert_eq!(read.later, [""; 0]);
        assert_eq!(read.config.defaults.limits.pids, Some(7));
        write("paths: {logs: /l}\ninstance: shop\nreconcile: {workers: 9}\n");
        let read = options.settle_again(&running).unwrap();
        assert_eq!(read.later, ["paths", "instance", "reconcile"]);
        write("defaults: {limits: {pids: many}}\n");
        let why = options.settle_again(&running).unwrap_err();
        assert!(why.contains(":3:") && !why.contains('\n'), "{why}");
    }

    #[test]
    fn the_socket_goes_with_the_runtime_directory_unless_it_was_said() {
        let runtime = Some(PathBuf::from("/run/other"));
        let settings = said(|options| RunOptions {
            runtime_dir: runtime.clone(),
            ..options
        });
        assert_eq!(
            settings.unwrap().socket,
            Path::new("/run/other/reconciler.sock")
        );
        let settings = said(|options| RunOptions {
            runtime_dir: runtime,
            socket: Some("/run/s".into()),
            ..options
        });
        assert_eq!(settings.unwrap().socket, Path::new("/run/s"));
    }

    #[test]
    fn relative_paths_are_made_absolute_and_one_directory_is_watched_once() {
        let settings = said(|options| RunOptions {
            specs: vec!["x".into(), "./x".into(), "/y".into()],
            ..options
        })
        .unwrap();
        assert_eq!(settings.specs.len(), 2);
        assert!(settings.specs.iter().all(|path| path.is_absolute()));
    }

    #[test]
    fn what_was_named_and_is_not_there_is_told() {
        let missing = said(|options| RunOptions {
            config: Some("/none.yaml".into()),
            ..options
        });
        assert!(matches!(missing, Err(OptionsError::Read(..))));
        let missing = said(|options| RunOptions {
            shim: Some("/none".into()),
            ..options
        });
        assert!(matches!(missing, Err(OptionsError::NoShim(_))));
        let bad = said(|options| RunOptions {
            instance: Some("A.b".into()),
            ..options
        });
        assert!(matches!(bad, Err(OptionsError::Instance(_))));
    }
}
