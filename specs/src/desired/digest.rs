//! Digests of the parts of a [`Desired`].
//!
//! A digest covers a normalised form: fields by name, in fixed order, each with its length
//! before it, and **none that has its default**. A field that a later release adds therefore
//! changes no digest until someone sets it, and an upgrade restarts nothing. The form must
//! never change; `tests/digests.rs` holds fixed values.

use super::{
    Container, Desired, Device, File, LogMode, Mount, MountSource, Network, OnChange, Process,
    Propagation, Seccomp, Security, UserNamespace, Writable,
};
use crate::id::Digest;
use crate::resolve::{MASKED_PATHS, READ_ONLY_PATHS, capability};

/// A form in the making: `NAME LENGTH:VALUE` for each field.
#[derive(Default)]
struct Form(Vec<u8>);

impl Form {
    fn text(&mut self, name: &str, value: &str) {
        self.bytes(name, value.as_bytes());
    }

    fn bytes(&mut self, name: &str, value: &[u8]) {
        self.0.extend_from_slice(name.as_bytes());
        self.0
            .extend_from_slice(format!(" {}:", value.len()).as_bytes());
        self.0.extend_from_slice(value);
    }

    /// Adds the field if it holds: for booleans whose default is not this.
    fn flag(&mut self, name: &str, is_set: bool) {
        if is_set {
            self.text(name, "yes");
        }
    }

    fn list<T>(&mut self, name: &str, items: &[T], each: impl Fn(&mut Self, &T)) {
        if items.is_empty() {
            return;
        }
        let mut form = Self::default();
        for item in items {
            let mut inner = Self::default();
            each(&mut inner, item);
            form.bytes("", &inner.0);
        }
        self.bytes(name, &form.0);
    }

    fn texts<T: AsRef<str>>(&mut self, name: &str, items: impl IntoIterator<Item = T>) {
        let items: Vec<T> = items.into_iter().collect();
        self.list(name, &items, |form, item| {
            form.0.extend_from_slice(item.as_ref().as_bytes())
        });
    }

    fn pairs<'a>(&mut self, name: &str, pairs: impl Iterator<Item = (&'a str, &'a str)>) {
        let mut form = Self::default();
        for (key, value) in pairs {
            form.text("", key);
            form.text("", value);
        }
        if !form.0.is_empty() {
            self.bytes(name, &form.0);
        }
    }

    fn digest(&self) -> Digest {
        Digest::of(&self.0)
    }
}

impl Container {
    /// Returns the digest of everything here: another one means that the container is made
    /// anew.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut form = Form::default();
        form.text("rootfs.directory", &self.rootfs.directory);
        match self.rootfs.writable {
            Writable::Ephemeral => {}
            Writable::Persistent => form.text("rootfs.writable", "persistent"),
            Writable::None => form.text("rootfs.writable", "none"),
        }
        if let Some(bound) = self.rootfs.bound {
            let inodes = bound.inodes.map_or(0, |inodes| inodes.0);
            form.text("limits.disk", &inodes.to_string());
        }
        form.text("hostname", &self.hostname);
        form.flag("network.host", self.network == Network::Host);
        if let Some(isolated) = self.network.isolated() {
            form.text("network.address", &isolated.address.to_string());
            if isolated.mtu != 1500 {
                form.text("network.mtu", &isolated.mtu.to_string());
            }
        }
        form.list("mounts", &self.mounts, mount);
        security(&mut form, &self.security);
        form.digest()
    }
}

fn mount(form: &mut Form, mount: &Mount) {
    form.text("path", &mount.path);
    form.flag("readOnly", mount.read_only);
    match &mount.source {
        MountSource::Bind {
            source,
            recursive,
            propagation,
            // A policy that becomes wider or narrower makes no container anew.
            beneath: _,
        } => {
            form.text("source", source);
            form.flag("recursive", *recursive);
            form.flag("slave", *propagation == Propagation::Slave);
        }
        MountSource::Tmpfs { bytes, mode } => {
            form.text("tmpfs", &bytes.0.to_string());
            if *mode != 0o1777 {
                form.text("mode", &mode.to_string());
            }
        }
        MountSource::Volume(volume) => form.text("volume", volume.as_str()),
    }
}

fn security(form: &mut Form, security: &Security) {
    match security.user_namespace {
        UserNamespace::Own(range) => {
            form.text("ids", &format!("{} {}", range.base, range.count));
        }
        UserNamespace::Host => form.text("ids", "host"),
    }
    form.flag("privileged", security.privileged);
    if !security.privileged {
        let base: Vec<&str> = capability::BASE.to_vec();
        let has = |name: &str| security.capabilities.contains(name);
        let added = security
            .capabilities
            .iter()
            .filter(|name| !base.contains(&name.as_str()));
        form.texts("capabilities.add", added);
        form.texts("capabilities.drop", base.iter().filter(|name| !has(name)));
        match &security.seccomp {
            Seccomp::Default => {}
            Seccomp::Unconfined => form.text("seccomp", "unconfined"),
            Seccomp::Profile { json, .. } => form.text("seccomp.profile", json),
        }
    }
    let default = !security.privileged;
    form.flag(
        "noNewPrivileges.changed",
        security.no_new_privileges != default,
    );
    form.list("devices", &security.devices, device);
    let sysctls = security.sysctls.iter();
    form.pairs(
        "sysctls",
        sysctls.map(|(name, value)| (name.as_str(), value.as_str())),
    );
    // The built-in lists are defaults: a release that extends them restarts nothing.
    let added = |paths: &[String], built_in: &[&str]| {
        let own = paths
            .iter()
            .filter(|path| !built_in.contains(&path.as_str()));
        own.cloned().collect::<Vec<String>>()
    };
    form.texts(
        "readOnlyPaths",
        added(&security.read_only_paths, &READ_ONLY_PATHS),
    );
    form.texts("maskedPaths", added(&security.masked_paths, &MASKED_PATHS));
}

fn device(form: &mut Form, device: &Device) {
    form.text("path", &device.path);
    form.flag("read", device.read);
    form.flag("write", device.write);
    form.flag("mknod", device.mknod);
}

impl Process {
    /// Returns the digest of what cannot change while it runs; `restart`, `stop` and
    /// `dependsOn` can.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut form = Form::default();
        form.texts("command", &self.command);
        let user = self.user.to_string();
        if user != "0:0" {
            form.text("user", &user);
        }
        if self.work_dir != "/" {
            form.text("workDir", &self.work_dir);
        }
        let env = self
            .env
            .iter()
            .map(|(name, value)| (name.as_str(), value.0.as_str()));
        form.pairs("env", env);
        let rlimits: Vec<_> = self.rlimits.iter().collect();
        form.list("rlimits", &rlimits, |form, (name, (soft, hard))| {
            form.text("name", name);
            form.text("soft", &soft.to_string());
            form.text("hard", &hard.to_string());
        });
        form.flag("stdin.open", self.has_open_stdin);
        let logs = &self.logs;
        if logs.max_bytes.0 != 10 << 20 {
            form.text("logs.maxBytes", &logs.max_bytes.0.to_string());
        }
        if logs.max_files != 5 {
            form.text("logs.maxFiles", &logs.max_files.to_string());
        }
        form.flag("logs.drop", logs.mode == LogMode::Drop);
        form.flag("logs.discard", logs.discard);
        form.digest()
    }
}

impl File {
    /// Returns the digest of path, content, mode and owner.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut form = Form::default();
        form.text("path", &self.path);
        form.text("content", &self.content.0);
        if self.mode != 0o644 {
            form.text("mode", &self.mode.to_string());
        }
        let user = self.user.to_string();
        if user != "0:0" {
            form.text("user", &user);
        }
        form.digest()
    }
}

impl Desired {
    /// Returns the digest of the files whose change restarts the processes.
    #[must_use]
    pub fn files_digest(&self) -> Digest {
        self.digest_of_files(|file| file.on_change == OnChange::Restart)
    }

    /// Returns the digest of the files whose change is announced by a signal.
    #[must_use]
    pub fn signal_files_digest(&self) -> Digest {
        self.digest_of_files(|file| matches!(file.on_change, OnChange::Signal(_)))
    }

    fn digest_of_files(&self, wanted: impl Fn(&File) -> bool) -> Digest {
        let files = self.files.iter().filter(|file| wanted(file));
        let mut form = Form::default();
        form.texts("files", files.map(|file| file.digest().to_string()));
        form.digest()
    }
}
