//! Who may do what, seen from processes of other users.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use crate::world::{World, parse};

const READER: (u32, u32) = (60_100, 60_101);
const WRITER: (u32, u32) = (60_200, 60_201);
const STRANGER: (u32, u32) = (60_300, 60_301);
const LIST: &str = "GET /v1/containers HTTP/1.1\r\nhost: d\r\nconnection: close\r\n\r\n";
const SYNC: &str =
    "POST /v1/sync HTTP/1.1\r\nhost: d\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
const STOP: &str = "POST /v1/containers/x/stop HTTP/1.1\r\nhost: d\r\nconnection: \
                    close\r\ncontent-length: 0\r\n\r\n";
const EXEC: &str = "POST /v1/containers/x/exec HTTP/1.1\r\nhost: d\r\nconnection: upgrade, \
                    close\r\nupgrade: reconciler-exec\r\ncontent-length: 18\r\n\r\n\
                    {\"command\":[\"/x\"]}";

fn status(world: &World, (uid, gid): (u32, u32), request: &str) -> Option<u16> {
    let output = world.ask_as(uid, gid, request);
    parse(&output.stdout).map(|(status, _)| status)
}

#[test]
fn without_groups_only_root_gets_in() {
    let world = World::started();
    let output = world.ask_as(STRANGER.0, STRANGER.1, LIST);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("PermissionDenied"));
    assert_eq!(status(&world, (0, 0), LIST), Some(200));
}

#[test]
fn a_reading_group_sees_and_orders_nothing() {
    let mut world = World::new();
    world.config("api: {readGroups: [60101]}\n");
    world.start();
    let socket = fs::metadata(world.socket()).unwrap();
    assert_eq!(
        (socket.permissions().mode() & 0o777, socket.gid()),
        (0o660, READER.1)
    );
    assert_eq!(status(&world, READER, LIST), Some(200));
    assert_eq!(status(&world, READER, SYNC), Some(403));
    assert_eq!(status(&world, READER, STOP), Some(403));
    assert_eq!(status(&world, READER, EXEC), Some(403));
    assert!(world.log().contains("forbidden"), "a refusal leaves a line");
    assert_eq!(
        status(&world, STRANGER, LIST),
        None,
        "the file itself refuses a stranger"
    );
}

#[test]
fn with_two_groups_the_peer_check_alone_decides_and_holds() {
    let mut world = World::new();
    world.config("api: {readGroups: [60101], writeGroups: [60201]}\n");
    world.start();
    let table = [
        ((0, 0), 200, 200, 404),
        (WRITER, 200, 200, 404),
        (READER, 200, 403, 403),
        (STRANGER, 403, 403, 403),
    ];
    for (peer, list, sync, stop) in table {
        assert_eq!(status(&world, peer, LIST), Some(list), "{peer:?}");
        assert_eq!(status(&world, peer, SYNC), Some(sync), "{peer:?}");
        assert_eq!(status(&world, peer, STOP), Some(stop), "{peer:?}");
        assert_eq!(status(&world, peer, EXEC), Some(stop), "{peer:?}");
    }
}
