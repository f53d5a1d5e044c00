//! A small server that speaks the protocol, and the binary that asks it.

use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use reconciler_daemon::api::wire::{ContainerView, Detail, List, PROTOCOL, Version};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// Longest that any of these tests waits for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A server on a socket of its own; ends with the value.
pub(crate) struct Daemon {
    pub(crate) directory: TempDir,
    asked: Arc<Mutex<Vec<String>>>,
    _runtime: Runtime,
}

impl Daemon {
    /// Serves the routes, which stand below `/v1`.
    pub(crate) fn start(routes: Router) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let app = Router::new()
            .nest("/v1", routes)
            .layer(middleware::from_fn_with_state(asked.clone(), note));
        let path = directory.path().join("sock");
        let listener = runtime.block_on(async { tokio::net::UnixListener::bind(path).unwrap() });
        runtime.spawn(async { axum::serve(listener, app).await.unwrap() });
        Self {
            directory,
            asked,
            _runtime: runtime,
        }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("sock")
    }

    /// Every request so far: `METHOD PATH?QUERY`.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    /// The binary, told of this server by the environment.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = reconciler(args);
        command.env("RECONCILER_SOCKET", self.socket());
        command
    }

    /// Runs the binary to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        Ran::from(&self.command(args).output().unwrap())
    }
}

async fn note(
    State(asked): State<Arc<Mutex<Vec<String>>>>,
    request: Request,
    next: Next,
) -> Response {
    asked
        .lock()
        .unwrap()
        .push(format!("{} {}", request.method(), request.uri()));
    next.run(request).await
}

/// The binary with an environment that holds nothing of the tester's.
pub(crate) fn reconciler(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_reconciler"));
    command
        .args(args)
        .env_clear()
        .env("TERM", "xterm-256color")
        .env("TZ", "UTC");
    command.stdin(Stdio::null());
    command
}

/// How a run ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl From<&Output> for Ran {
    fn from(output: &Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout.clone()).unwrap(),
            stderr: String::from_utf8(output.stderr.clone()).unwrap(),
        }
    }
}

impl Ran {
    /// Asserts that it went well and complained of nothing; returns what it printed.
    #[track_caller]
    pub(crate) fn good(self) -> String {
        assert_eq!(
            (self.code, self.stderr.as_str()),
            (Some(0), ""),
            "{}",
            self.stdout
        );
        self.stdout
    }

    /// Asserts that it failed with a code, an error, and nothing on standard output; returns
    /// the error.
    #[track_caller]
    pub(crate) fn bad(self, code: i32) -> String {
        assert_eq!(
            (self.code, self.stdout.as_str()),
            (Some(code), ""),
            "{}",
            self.stderr
        );
        assert!(self.stderr.starts_with("error: "), "{}", self.stderr);
        self.stderr
    }
}

/// Waits for a child to end by itself; kills it when it does not.
#[track_caller]
pub(crate) fn ended(mut child: Child) -> Option<i32> {
    let begin = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        if begin.elapsed() > PATIENCE {
            child.kill().unwrap();
            panic!("still running after {PATIENCE:?}");
        }
        std::thread::yield_now();
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// Reads from a pipe until the text holds what is looked for.
#[track_caller]
pub(crate) fn read_until(from: &mut ChildStdout, wanted: &str) -> String {
    let mut seen = Vec::new();
    let mut buffer = [0; 4096];
    let patience = Timespec {
        tv_sec: i64::try_from(PATIENCE.as_secs()).unwrap(),
        tv_nsec: 0,
    };
    loop {
        let ready = poll(&mut [PollFd::new(from, PollFlags::IN)], Some(&patience)).unwrap();
        let text = String::from_utf8_lossy(&seen).into_owned();
        assert!(ready > 0, "nothing came after {text:?}, no {wanted:?}");
        let count = from.read(&mut buffer).unwrap();
        seen.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&seen).into_owned();
        if text.contains(wanted) {
            return text;
        }
        assert!(count > 0, "ended without {wanted:?}: {text:?}");
    }
}

/// A container as the daemon tells it.
pub(crate) fn view(name: &str, phase: &str, settled: bool) -> Value {
    let truth = if settled { "True" } else { "False" };
    json!({
        "status": {
            "key": name, "generation": 1, "observedGeneration": 1, "phase": phase,
            "conditions": [{
                "kind": "Settled", "status": truth, "reason": "X", "message": "x",
                "generation": 1, "sinceMs": 0,
            }],
            "processes": [{
                "name": "main", "state": "running", "pid": 12, "startedMs": 0, "restarts": 0,
                "lastExit": null, "nextStartMs": null,
            }],
            "restarts": 0, "pid": 11, "createdMs": 0, "nextRetryMs": null, "usage": null,
            "lastError": null, "overrideNote": null, "drift": [],
        },
        "labels": {"app": name},
        "source": format!("/specs/{name}.yaml:1"),
    })
}

pub(crate) fn list(views: &[Value]) -> List {
    let views = views.iter().map(parse::<ContainerView>).collect();
    List {
        containers: views,
        refused: Vec::new(),
        notices: Vec::new(),
    }
}

pub(crate) fn detail(view: &Value) -> Detail {
    Detail {
        usage: None,
        view: parse(view),
        effective: json!({"hostname": "web"}),
        mounts: Default::default(),
        limits: Default::default(),
        events: Vec::new(),
        refusal: None,
    }
}

/// `GET /version` of a daemon that is ready, or not yet.
pub(crate) fn version(ready: bool) -> Version {
    Version {
        version: "9.9.9".into(),
        protocol: PROTOCOL,
        instance: "main".into(),
        ready,
        safe_mode: None,
        held_deletes: None,
        adopted: 3,
        restarted: 0,
    }
}

pub(crate) fn parse<T: serde::de::DeserializeOwned>(value: &Value) -> T {
    serde_json::from_value(value.clone()).unwrap()
}
