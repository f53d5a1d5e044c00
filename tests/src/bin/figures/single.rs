//! One container: made, edited, entered, deleted, beside what a user would pick instead.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use tests::world::{World, bin};

use super::clock::{ms, now, stamp, wait};
use super::ours::{Places, SOON, STAY, client, first_instruction, spec, world};
use super::peers::{Peer, enter_own_mounts};
use super::stats::{Figure, Series, Target};

/// What was measured of everybody's containers.
struct Lives {
    floor: Series,
    applied: Series,
    dropped: Series,
    deleted: Series,
    taken: Series,
    made: Vec<Series>,
    removed: Vec<Series>,
}

/// Makes and deletes containers, everybody in turn.
pub(crate) fn lives(rounds: usize, remarks: &mut Vec<String>) -> Vec<Figure> {
    let mut world = world();
    world.start();
    let mut lives = Lives {
        floor: Series::new("floor"),
        applied: Series::new("reconciler"),
        dropped: Series::new("reconciler"),
        deleted: Series::new("reconciler"),
        taken: Series::new("reconciler"),
        made: Vec::new(),
        removed: Vec::new(),
    };
    std::thread::scope(|scope| {
        let measured = scope.spawn(|| {
            enter_own_mounts();
            let peers = peers(&world, remarks);
            for peer in &peers {
                lives.made.push(Series::new(peer.name));
                lives.removed.push(Series::new(peer.name));
            }
            for round in 0..rounds {
                lives.round(round, &world, &peers);
            }
        });
        measured.join().expect("the rounds");
    });
    world.finish();
    lives.figures()
}

/// The runtimes that work here; why one does not is remarked.
fn peers(world: &World, remarks: &mut Vec<String>) -> Vec<Peer> {
    let (dir, lower) = (world.path("peers"), world.path("rootfs"));
    let mut peers = Vec::new();
    for name in ["crun", "runc"] {
        match Peer::find(name, &dir, &lower) {
            Ok(peer) => peers.push(peer),
            Err(why) => remarks.push(format!("skipped: {name}: {why}")),
        }
    }
    peers
}

impl Lives {
    fn round(&mut self, round: usize, world: &World, peers: &[Peer]) {
        self.floor.add(ms(floor(&world.path("rootfs"))));
        let name = format!("applied-{round}");
        let file = world.path(&format!("{name}.yaml"));
        let text = world.localised(&spec(&name, "256Mi", STAY));
        fs::write(&file, text).expect("write a spec");
        let file = file.display().to_string();
        let asked = now();
        let mut applying = client(world, &["apply", "-f", &file]);
        let mut applying = applying.spawn().expect("start the client");
        self.applied
            .add(ms(first_instruction(world, &name) - asked));
        assert!(applying.wait().expect("wait").success());
        let places = Places::of(world);
        let asked = now();
        let mut deleting = client(world, &["delete", &name]);
        let mut deleting = deleting.spawn().expect("start the client");
        wait("nothing to be left", SOON, || {
            places.are_clear_of(&name).then_some(())
        });
        self.deleted.add(ms(now() - asked));
        assert!(deleting.wait().expect("wait").success());

        let name = format!("dropped-{round}");
        let text = spec(&name, "256Mi", STAY);
        let asked = now();
        world.write(&format!("{name}.yaml"), &text);
        self.dropped
            .add(ms(first_instruction(world, &name) - asked));
        let asked = now();
        world.remove(&format!("{name}.yaml"));
        wait("nothing to be left", SOON, || {
            places.are_clear_of(&name).then_some(())
        });
        self.taken.add(ms(now() - asked));

        let series = self.made.iter_mut().zip(&mut self.removed);
        for (peer, (making, removing)) in peers.iter().zip(series) {
            let made = peer.make(&format!("c{round}"), STAY).expect("a container");
            making.add(ms(made.first - made.asked));
            let took = peer.remove(&made).expect("it is removed");
            removing.add(ms(took));
        }
    }

    fn figures(self) -> Vec<Figure> {
        let mut beside = self.made;
        beside.push(self.floor);
        vec![
            Figure::new(
                "`apply -f` to first instruction",
                "ms",
                self.applied,
            )
            .beside(beside.clone())
            .target(Target::Times(0.5, "crun"))
            .target(Target::Times(0.15, "runc"))
            .target(Target::Times(2.0, "floor"))
            .note("from the start of the client program, as with the others; they get their root mounted and their files written before"),
            Figure::new("file renamed to first instruction", "ms", self.dropped)
                .beside(beside)
                .target(Target::Most(50, 25.0))
                .target(Target::Most(99, 60.0))
                .note("no client program; the directory is watched"),
            Figure::new("`delete` to nothing left", "ms", self.deleted)
                .beside(self.removed.clone())
                .target(Target::Times(0.5, "crun"))
                .note("with the stop signal; `delete --force` kills"),
            Figure::new("file removed to nothing left", "ms", self.taken)
                .beside(self.removed),
        ]
    }
}

fn floor(root: &Path) -> Duration {
    let asked = now();
    let output = Command::new(bin("bare"))
        .arg("floor")
        .arg(root)
        .args(["/bin/bare", "stamp"])
        .stdin(Stdio::null())
        .output()
        .expect("run the floor");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{output:?}");
    stamp(&text).expect("a stamp") - asked
}

/// Edits a limit and runs commands in a container that lives.
pub(crate) fn living(rounds: usize, remarks: &mut Vec<String>) -> Vec<Figure> {
    let mut world = world();
    world.start();
    world.write("web.yaml", &spec("web", "256Mi", STAY));
    world.wait_phase("web", "Running");
    let mut edited = Series::new("reconciler");
    let file = memory_file(&world, "web");
    for round in 0..rounds {
        let wanted = (257 + round) << 20;
        let text = spec("web", &format!("{}Mi", 257 + round), STAY);
        let asked = now();
        world.write("web.yaml", &text);
        wait("the limit", SOON, || {
            let text = fs::read_to_string(&file).ok()?;
            (text.trim() == wanted.to_string()).then_some(())
        });
        edited.add(ms(now() - asked));
    }
    let mut entered = Series::new("reconciler");
    let mut others = Vec::new();
    std::thread::scope(|scope| {
        let measured = scope.spawn(|| {
            enter_own_mounts();
            let peers = peers(&world, remarks);
            let made: Vec<_> = peers
                .iter()
                .map(|peer| peer.make("web", STAY).expect("a container"))
                .collect();
            others.extend(peers.iter().map(|peer| Series::new(peer.name)));
            for _ in 0..rounds {
                let asked = now();
                let status = client(&world, &["exec", "web", "--", "/bin/true"]).status();
                entered.add(ms(now() - asked));
                assert!(status.expect("start the client").success());
                for ((peer, made), series) in peers.iter().zip(&made).zip(&mut others) {
                    series.add(ms(peer.exec(made, &["/bin/true"])));
                }
            }
            for (peer, made) in peers.iter().zip(&made) {
                peer.remove(made).expect("it is removed");
            }
        });
        measured.join().expect("the rounds");
    });
    world.finish();
    vec![
        Figure::new(
            "limit edited in the file to the cgroup's value changed",
            "ms",
            edited,
        )
        .target(Target::Most(50, 15.0)),
        Figure::new("`exec` of `/bin/true`", "ms", entered)
            .beside(others)
            .target(Target::Times(0.5, "crun")),
    ]
}

/// The file of a container's memory limit, whichever version it is of.
pub(crate) fn memory_file(world: &World, name: &str) -> std::path::PathBuf {
    let groups = world.cgroups();
    let lives = groups
        .iter()
        .flat_map(|group| fs::read_dir(group).into_iter().flatten());
    let prefix = format!("{name}.");
    lives
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
        .flat_map(|entry| {
            ["memory.limit_in_bytes", "memory.max"].map(|file| entry.path().join(file))
        })
        .find(|path| path.exists())
        .expect("a limit of memory")
}
