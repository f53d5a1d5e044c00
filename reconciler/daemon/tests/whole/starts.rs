//! Starting, being refused a start, ending.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt as _;

use nix::sys::signal::Signal;

use crate::world::{World, spec};

#[test]
fn a_second_daemon_on_one_state_directory_ends_before_it_touches_anything() {
    let world = World::started();
    let before = fs::metadata(world.socket()).unwrap().ino();
    let second = world.command().output().unwrap();
    assert_eq!(second.status.code(), Some(75));
    let says = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(
        says.contains("another daemon") && says.contains("nothing was touched"),
        "{says}"
    );
    assert_eq!(fs::metadata(world.socket()).unwrap().ino(), before);
    assert_eq!(world.get("/v1/version")["ready"], true);
}

#[test]
fn a_wrong_config_is_shown_with_its_place_and_nothing_is_begun() {
    let world = World::new();
    world.config("reconcile: {resync: often}\n");
    let output = world.command().output().unwrap();
    assert_eq!(output.status.code(), Some(78));
    let says = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        says.contains("config.yaml:3:") && says.contains('^'),
        "{says}"
    );
    assert!(!world.dir.join("state").exists());
}

#[test]
fn a_config_that_others_may_write_decides_nothing() {
    let world = World::new();
    world.config("");
    let path = world.dir.join("config.yaml");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o664)).unwrap();
    let output = world.command().output().unwrap();
    assert_eq!(output.status.code(), Some(78));
    let says = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        says.contains("may be written by others than root"),
        "{says}"
    );
}

#[test]
fn whoever_is_not_root_is_told_so() {
    let world = World::new();
    let output = world.command().uid(60_000).gid(60_000).output().unwrap();
    assert_eq!(output.status.code(), Some(77));
    assert!(String::from_utf8_lossy(&output.stderr).contains("root"));
}

#[test]
fn a_stale_socket_is_replaced_and_a_file_in_its_place_is_not() {
    let mut world = World::new();
    drop(UnixListener::bind(world.socket()).unwrap());
    world.start();
    assert!(world.signal(Signal::SIGTERM).success());
    assert!(!world.socket().exists());
    fs::write(world.socket(), "mine").unwrap();
    let output = world.command().output().unwrap();
    assert_eq!(output.status.code(), Some(71));
    assert_eq!(fs::read_to_string(world.socket()).unwrap(), "mine");
}

#[test]
fn both_ending_signals_end_the_daemon_and_it_says_that_containers_go_on() {
    let mut world = World::started();
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        assert!(world.signal(signal).success());
        assert!(world.log().contains("containers go on running"));
        world.start();
    }
}

#[test]
fn a_hang_up_reads_every_directory_again() {
    let world = World::started();
    let pid = nix::unistd::Pid::from_raw(world.pid());
    nix::sys::signal::kill(pid, Signal::SIGHUP).unwrap();
    world.until("it to say so", || {
        world.log().contains("every directory again")
    });
    assert_eq!(world.get("/v1/version")["ready"], true);
}

#[test]
fn killed_at_once_and_started_again_it_knows_what_it_accepted() {
    let mut world = World::started();
    world.write("web.yaml", &spec("web"));
    world.until("it to be accepted", || {
        world.get("/v1/containers")["containers"][0]["status"]["generation"] == 1
    });
    assert!(!world.signal(Signal::SIGKILL).success());
    assert!(world.socket().exists(), "killed, it leaves its socket");
    world.start();
    let list = world.get("/v1/containers");
    assert_eq!(list["containers"][0]["status"]["key"], "web");
    assert_eq!(list["containers"][0]["status"]["generation"], 1);
}

#[test]
fn nothing_of_the_daemons_is_readable_by_others() {
    let world = World::started();
    for name in ["state", "run", "log"] {
        let mode = fs::metadata(world.dir.join(name))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o077, 0, "{name}: {mode:o}");
    }
    let mode = fs::metadata(world.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}
