//! What stands below the options in each command's help: examples and exit codes.

macro_rules! order_help {
    ($verb:literal) => {
        concat!(
            "Examples:\n  reconciler ",
            $verb,
            " web\n  reconciler ",
            $verb,
            " web worker --wait --timeout 30s\n\n",
            "Doing it twice is the same as doing it once.\n\n",
            "Exit codes: 0 done, 1 failed, 3 not settled in time (--wait), 4 no such name,\n",
            "5 no daemon answers"
        )
    };
}
pub(super) use order_help;

pub(super) const EXIT_CODES: &str = "\
Exit codes:
   0  done
   1  it failed, or a file is at fault
   2  plan --exit-code: there is something to do
   3  status: the container is not active, or was not in time
   4  no container has this name
   5  no daemon answers
  64  the command line is wrong

Examples:
  reconciler validate web.yaml          what is wrong with a file, before anyone uses it
  reconciler plan                       what would be done, and why
  reconciler status -w                  what runs, as it changes
  reconciler why web                    why it is not as it should be";

pub(super) const STATUS_HELP: &str = "\
Examples:
  reconciler status
  reconciler status web -o wide
  reconciler status -l app=shop -w
  reconciler status web --wait --timeout 30s && echo it runs

CPU is processor time since the container was made. READY counts running processes.

Exit codes, with NAME: 0 active (Running, Updating, Completed), 3 not active or not
settled in time, 4 no such name. Without NAME: 0; with --wait 3 if one is not active.
Always: 1 failed, 5 no daemon answers";

pub(super) const TOP_HELP: &str = "\
Examples:
  reconciler top
  reconciler top --sort memory -n 5
  reconciler top --once -o json | jq '.containers[0].name'

CPU% is of one processor: 200 is two of them busy. MEMORY is the working set: what is charged
less page cache that was not used lately. PEAK is the most ever charged. HELD% is the part of
the time that the cpu quota held processes back. What this host does not count is `-`.

On a terminal the table is drawn anew in its place, else tables follow one another; ^C ends it.

Exit codes: 0 done, 1 failed, 5 no daemon answers";

pub(super) const CAPACITY_HELP: &str = "\
Examples:
  reconciler capacity
  reconciler capacity -o json | jq .idRanges.left

GONE is, for memory, cpu and pids, the sum of the limits of all containers that are wanted; it
may be more than there is. NO LIMIT counts containers that no sum can. Disk is the file system
of the state directory, whoever fills it.

Exit codes: 0 done, 1 failed, 5 no daemon answers";

pub(super) const LOGS_HELP: &str = "\
Examples:
  reconciler logs web
  reconciler logs web/server -f --tail 20
  reconciler logs worker --since 10m -t

Control characters are printed visibly (\\x1b); --raw prints what was written, and is
refused when a terminal reads.

Exit codes: 0 done, 1 failed, 4 no such name, 5 no daemon answers";

pub(super) const PLAN_HELP: &str = "\
Examples:
  reconciler plan                       what is not yet as the accepted specs say
  reconciler plan web.yaml              what would happen if this file were put in place
  reconciler plan . --exit-code         for CI: 0 nothing to do, 2 changes, 1 error

Marks: + create, ~ live (same processes), ! process restarts, -/+ container made anew,
- delete, * repair, x blocked

Exit codes: 0 done, 1 failed or a file is refused, 2 there is something to do
(--exit-code), 5 no daemon answers";

pub(super) const APPLY_HELP: &str = "\
Examples:
  reconciler apply -f web.yaml
  reconciler apply -f ./specs --dry-run
  generate | reconciler apply -f - --wait --timeout 30s

What is applied is kept in the daemon's store until `delete`. A container whose spec lies in
a watched directory is changed there and not by `apply`.

Exit codes: 0 done, 1 failed or a file is refused (then nothing was applied), 3 not settled
in time (--wait), 5 no daemon answers";

pub(super) const DELETE_HELP: &str = "\
Examples:
  reconciler delete web
  reconciler delete web db --wait --timeout 30s

A container whose spec lies in a watched directory goes when its document does.

Exit codes: 0 done, 1 failed, 3 not gone in time (--wait), 4 no such name, 5 no daemon
answers";

pub(super) const ROLLBACK_HELP: &str = "\
Examples:
  reconciler rollback web               to the newest generation that differs
  reconciler rollback web --to 3 --wait

The earlier spec is applied anew, under a new number, as the policy and the configuration of
today have it. A container whose spec lies in a watched directory is changed there.

Exit codes: 0 done, 1 failed, 3 not settled in time (--wait), 4 no such name or generation,
5 no daemon answers";

pub(super) const VALIDATE_HELP: &str = "\
Examples:
  reconciler validate                   all of /etc/reconciler/specs.d
  reconciler validate web.yaml specs/
  git show :web.yaml | reconciler validate -
  reconciler validate specs/ --config config.yaml     with the policy of a host
  reconciler validate . -o json | jq '.diagnostics[].code'

Exit codes: 0 nothing is wrong (warnings are allowed), 1 a file has an error or cannot
be read";

pub(super) const SYNC_HELP: &str = "\
Examples:
  reconciler sync
  reconciler sync web --wait
  reconciler sync --allow-deletes 40    let a held-back deletion of at most 40 go on

Exit codes: 0 done, 1 failed or (--wait) a file is refused, 3 not settled in time
(--wait), 4 no such name, 5 no daemon answers";

pub(super) const RUN_HELP: &str = "\
Examples:
  reconciler run
  reconciler run --specs ./examples/web --state-dir ./state --runtime-dir ./run \\
      --log-dir ./log --socket ./run/reconciler.sock --instance demo

TERM and INT end the daemon and leave every container running; the next start adopts
them. HUP reads configuration and specs again. RECONCILER_LOG=debug tells more.

Exit codes: 0 ended on a signal, 64 wrong command line, 70 a bug, 71 the system refused
something, 75 another daemon has this state directory, 77 not root, 78 configuration";

pub(super) const EXEC_HELP: &str = "\
Examples:
  reconciler exec -it web -- sh
  reconciler exec web/server -- cat /etc/hosts
  reconciler exec -i db -- psql < dump.sql
  reconciler exec -u root -e DEBUG=1 web -- /bin/check

It runs with user, variables and directory of the container's process, beside it, under
the same limits. When you go it is hung up: HUP, ten seconds later KILL.

Exit codes: the command's own, 128 and the number of the signal that ended it, 127 no such
command, 126 it cannot be run, 125 anything else, 137 its container ended";

pub(super) const ATTACH_HELP: &str = "\
Examples:
  reconciler attach web                     what it writes from now on
  reconciler attach --tail 20 game/server
  reconciler attach -i game/server          and type to it (its spec says `stdin: open`)

Nobody who reads slowly makes the process wait. When you go it runs on.

Exit codes: the process' own, 128 and the number of the signal that ended it, 126 there is
nothing to take part in, 125 anything else, 137 its container ended or its supervisor did";

pub(super) const COPY_HELP: &str = "\
Examples:
  reconciler cp web:/etc/nginx ./nginx
  reconciler cp ./site/. web:/srv/www
  reconciler cp web:/var/lib/app - | zstd > app.tar.zst
  zstd -dc app.tar.zst | reconciler cp - web:/var/lib

A directory that is there is copied into, under the name of what is copied; SRC/. copies
what is in it. Owners (of root), modes, times, links and holes are kept. A name with a colon
of this host is written ./NAME.

Exit codes: 0 all of it was copied, 1 it was not, or not all, 4 no such container, 5 no
daemon answers, 64 wrong command line";

pub(super) const COMPLETION_HELP: &str = "\
Examples:
  reconciler completion bash > /usr/share/bash-completion/completions/reconciler
  reconciler completion zsh > /usr/share/zsh/vendor-completions/_reconciler
  reconciler completion fish > /usr/share/fish/vendor_completions.d/reconciler.fish
  source <(reconciler completion bash)  for this shell only

Names of containers are asked of the daemon at each use, for half a second at most; where
none answers there are none.

Exit codes: 0 done, 1 failed";

pub(super) const MAN_HELP: &str = "\
Examples:
  reconciler man | man -l -
  reconciler man /usr/local/share/man/man1    reconciler.1 and one page for each command

Exit codes: 0 done, 1 failed";

pub(super) const DRAIN_HELP: &str = "\
Examples:
  systemctl stop reconciler && reconciler drain --cgroup-parent /reconciler.slice

Takes the options of `run`, which have to be those that the daemon was started with. Specs,
applied specs, volumes, persistent roots and logs stay: the next start makes the same
containers again. Refused while the daemon runs.

Exit codes: 0 nothing is left, 1 failed, 3 not in time, 64 wrong command line, 71 the system
refused something, 75 the daemon runs, 77 not root, 78 configuration";

pub(super) const STORE_HELP: &str = "\
Examples:
  systemctl stop reconciler && reconciler store check
  reconciler store export backup.export
  reconciler store import backup.export --state-dir /mnt/lib/reconciler

Containers run on meanwhile. The store holds intent: specs as accepted, their history, orders,
allocations, events. Volumes, persistent roots and logs are directories beside it.

Exit codes: 0 done, 1 something is wrong, or it failed, 71 the system refused something, 75 the
daemon runs, 77 not root, 78 configuration";
