//! The configuration.

use specs::config::{Config, Deletions, parse_config};
use specs::desired::NameOrId;

#[test]
fn a_configuration_that_says_nothing_is_the_default() {
    let text = b"apiVersion: reconciler/v1\nkind: Config\n";
    assert_eq!(
        parse_config("config.yaml", text).unwrap(),
        Config::default()
    );
}

#[test]
fn what_is_written_is_what_holds() {
    let text = include_bytes!("../fixtures/config/valid/full.yaml");
    let config = parse_config("config.yaml", text).unwrap();
    assert_eq!(
        config.paths.specs,
        ["/etc/reconciler/specs.d", "/srv/specs"]
    );
    assert_eq!(config.paths.socket, "/run/reconciler/api.sock");
    assert_eq!(config.instance.unwrap().as_str(), "main");
    assert_eq!(config.cgroup_parent.as_deref(), Some("/containers"));
    assert_eq!(config.pools.ids.first().unwrap().count, 65_536_000);
    assert_eq!(config.defaults.limits.pids, Some(512));
    assert_eq!(
        config.defaults.rlimits.given(),
        [("core", (0, 0)), ("nofile", (1024, 4096))]
    );
    assert_eq!(
        (config.reconcile.resync.0, config.reconcile.workers),
        (20_000, 8)
    );
    assert_eq!(
        config.api.write_groups,
        [NameOrId::Name("wheel".to_owned()), NameOrId::Id(1000)]
    );
}

#[test]
fn the_socket_follows_the_runtime_directory() {
    let text = b"apiVersion: reconciler/v1\nkind: Config\npaths: {runtime: /run/other}\n";
    let config = parse_config("config.yaml", text).unwrap();
    assert_eq!(config.paths.socket, "/run/other/reconciler.sock");
}

#[test]
fn a_removal_of_many_at_once_waits() {
    let deletions = Deletions::default();
    for (removed, present, held) in [
        (0, 0, false),
        (1, 1, false),
        (2, 2, false),
        (3, 3, true),
        (3, 6, true),
        (3, 7, false),
        (100, 1000, false),
        (500, 1000, true),
    ] {
        assert_eq!(
            deletions.is_held(removed, present),
            held,
            "{removed} of {present}"
        );
    }
}

#[test]
fn the_default_pool_can_be_used() {
    let config = Config::default();
    let pool = config.pools.ids.first().unwrap();
    assert!(pool.base > 65_535 && pool.count >= config.pools.ids_per_container);
    assert!(u64::from(pool.base) + u64::from(pool.count) <= 1 << 31);
}

#[test]
fn defaults_fill_what_a_spec_leaves_out_and_nothing_else() {
    let text = include_bytes!("../fixtures/config/valid/full.yaml");
    let config = parse_config("config.yaml", text).unwrap();
    let spec =
        super::one("limits: {pids: 7}\nprocesses: [{name: a, command: [x], rlimits: {nofile: 9}}]");
    let choices = specs::resolve::Choices {
        generation: specs::id::Generation(1),
        id_range: config.pools.ids.first().copied(),
        address: None,
        seccomp_json: None,
        run_override: Some(specs::desired::Run::Stopped),
        suspend_override: Some(true),
        restart_epoch: 3,
        defaults: &config.defaults,
    };
    let desired = specs::resolve::resolve(&spec.spec, &choices).unwrap();
    assert_eq!(desired.limits.pids, Some(7));
    assert_eq!(desired.limits.memory, Some(specs::units::Bytes(512 << 20)));
    assert_eq!(desired.limits.cpu_weight, Some(100));
    let rlimits = &desired.processes.values().next().unwrap().rlimits;
    assert_eq!(rlimits.get("nofile"), Some(&(9, 9)));
    assert_eq!(rlimits.get("core"), Some(&(0, 0)));
    assert_eq!(
        (desired.run, desired.suspend, desired.restart_epoch),
        (specs::desired::Run::Stopped, true, 3)
    );
}

#[test]
fn a_choice_that_is_missing_is_told_and_never_guessed() {
    let defaults = specs::config::Defaults::default();
    let spec = super::one("security: {seccomp: /srv/a.json}").spec;
    let mut choices = specs::resolve::Choices {
        generation: specs::id::Generation(1),
        id_range: None,
        address: None,
        seccomp_json: None,
        run_override: None,
        suspend_override: None,
        restart_epoch: 0,
        defaults: &defaults,
    };
    let missing = specs::resolve::resolve(&spec, &choices).unwrap_err();
    let codes: Vec<&str> = missing.iter().map(|one| one.code.as_str()).collect();
    assert_eq!(codes, ["E0601", "E0602"]);
    assert!(specs::resolve::needs_id_range(&spec));
    assert_eq!(specs::resolve::seccomp_path(&spec), Some("/srv/a.json"));
    choices.id_range = Some(specs::desired::IdRange { base: 1, count: 1 });
    choices.seccomp_json = Some("{}".to_owned());
    assert!(specs::resolve::resolve(&spec, &choices).is_ok());
}
