//! What others do to our table is seen, and mended.

use super::*;

const TABLE: &str = "inet reconciler-test";

/// Handle of the rule of a chain that has this in it.
fn handle(chain: &str, part: &str) -> String {
    let text = run(
        "nft",
        &["-a", "list", "chain", "inet", "reconciler-test", chain],
    );
    let line = text.lines().find(|line| line.contains(part));
    let line = line.unwrap_or_else(|| panic!("{part} is not in {text}"));
    line.rsplit(' ').next().unwrap().to_owned()
}

/// What an edit is to be seen in, beside the life `web.3`.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Seen {
    Life,
    Shared,
}

/// Has the table edited and checks that it is seen and mended.
#[track_caller]
fn check(seen: Seen, edit: impl Fn(&Life) -> String + Send + Sync) {
    apart(|| {
        let firewall = firewall();
        let (web, db) = (web(), db());
        set(&firewall, &web);
        set(&firewall, &db);
        let whole = all_of(&[&web, &db]);
        assert_eq!(observed(&firewall), whole);
        let before = stands();
        let edit = edit(&web);
        nft(&edit);
        assert_ne!(stands(), before, "{edit} did nothing");

        let after = observed(&firewall);
        match seen {
            Seen::Life => assert_ne!(after.lives.get("web.3"), Some(&web.observed()), "{edit}"),
            Seen::Shared => assert!(!after.shared, "{edit}"),
        }
        assert_eq!(after.lives.get("db.1"), Some(&db.observed()), "{edit}");

        set(&firewall, &web);
        assert_eq!(observed(&firewall), whole, "{edit}");
        assert_eq!(observed(&super::firewall()), whole, "{edit}");
        assert_eq!(stands(), before, "{edit}");
    });
}

#[test]
fn edits_of_a_lifes_chain_are_mended() {
    let replace = |part: &'static str, with: &'static str| {
        check(Seen::Life, move |_| {
            let handle = handle("out-web.3", part);
            format!("replace rule {TABLE} out-web.3 handle {handle} {with}")
        });
    };
    replace(
        "169.254",
        "ct original ip daddr 169.254.0.0-169.254.255.255 accept comment \
         \"deny 169.254.0.0-169.254.255.255\"",
    );
    replace(
        "169.254",
        "ct original ip daddr 169.254.0.0-169.254.255.254 \
         reject with icmpx admin-prohibited comment \"deny 169.254.0.0-169.254.255.255\"",
    );
    replace(
        "169.254",
        "ct original ip daddr 169.254.0.0-169.254.255.255 counter \
         reject with icmpx admin-prohibited comment \"deny 169.254.0.0-169.254.255.255\"",
    );
    replace("otherwise", "accept comment \"otherwise reject host\"");
    replace(
        "otherwise",
        "reject with icmpx host-unreachable comment \"otherwise reject host\"",
    );
    replace(
        "otherwise",
        "reject with icmpx admin-prohibited comment \"otherwise reject\"",
    );
    replace(
        "self",
        "ip daddr 10.77.0.3 accept comment \"self 10.77.0.3\"",
    );
    replace(
        "443 log",
        "ct original ip daddr 10.0.0.0/8 meta l4proto tcp \
         ct original proto-dst 443 log prefix \"db.1: \" accept comment \
         \"allow tcp 10.0.0.0-10.255.255.255 443-443 log\"",
    );
    for part in ["self", "deny", "allow tcp", "otherwise"] {
        check(Seen::Life, |_| {
            format!(
                "delete rule {TABLE} out-web.3 handle {}",
                handle("out-web.3", part)
            )
        });
    }
    for line in [
        "add rule {} out-web.3 accept",
        "insert rule {} out-web.3 accept",
        "insert rule {} out-web.3 ip daddr 10.77.0.2 accept comment \"self 10.77.0.2\"",
        "add rule {} out-web.3 accept comment \"otherwise accept host\"",
        "flush chain {} out-web.3",
    ] {
        check(Seen::Life, |_| line.replace("{}", TABLE));
    }
    check(Seen::Life, |web| {
        let key = format!("\"{}\" . {}", web.device, web.address);
        format!(
            "delete element {TABLE} policy4 {{ {key} }}; flush chain {TABLE} out-web.3; \
             delete chain {TABLE} out-web.3"
        )
    });
}

#[test]
fn edits_of_a_lifes_elements_are_mended() {
    let keys = [
        ("policy4", "\"DEV\" . 10.77.0.2"),
        ("speakers4", "\"DEV\" . 10.77.0.2"),
        ("host4", "\"DEV\" . 10.77.0.2"),
        ("ours4", "10.77.0.2"),
        ("self4", "10.77.0.2 . 10.77.0.2"),
        ("any4", "tcp . 8080"),
        ("bound4", "192.0.2.1 . udp . 53"),
    ];
    for (set, key) in keys {
        check(Seen::Life, |web| {
            let key = key.replace("DEV", &web.device);
            format!("delete element {TABLE} {set} {{ {key} }}")
        });
    }
    let change = |set: &'static str, key: &'static str, with: &'static str| {
        check(Seen::Life, move |web| {
            format!(
                "delete element {TABLE} {set} {{ {key} }}; add element {TABLE} {set} {{ {with} }}"
            )
            .replace("DEV", &web.device)
        });
    };
    let speaker = "\"DEV\" . 10.77.0.2";
    change(
        "any4",
        "tcp . 8080",
        "tcp . 8080 comment \"web.3\" : 10.77.0.2 . 81",
    );
    change(
        "any4",
        "tcp . 8080",
        "tcp . 8080 comment \"web.3\" : 10.77.0.3 . 80",
    );
    change(
        "any4",
        "tcp . 8080",
        "tcp . 8081 comment \"web.3\" : 10.77.0.2 . 80",
    );
    change("any4", "tcp . 8080", "tcp . 8080 : 10.77.0.2 . 80");
    change(
        "policy4",
        speaker,
        "\"DEV\" . 10.77.0.2 comment \"web.3\" : goto out-db.1",
    );
    change(
        "policy4",
        speaker,
        "\"DEV\" . 10.77.0.2 comment \"web.3\" : accept",
    );
    change("policy4", speaker, "\"DEV\" . 10.77.0.2 : goto out-web.3");
    change("ours4", "10.77.0.2", "10.77.0.2 comment \"no.1\"");
    check(Seen::Life, |web| {
        let device = &web.device;
        format!("add element {TABLE} speakers4 {{ \"{device}\" . 10.77.0.9 comment \"web.3\" }}")
    });
}

#[test]
fn edits_of_the_shared_part_are_mended() {
    for edit in [
        "insert rule {} forward accept",
        "add rule {} host accept comment \"mine\"",
        "flush chain {} from",
        "flush chain {} publish",
        "flush chain {} output; delete chain {} output",
        "chain {} forward { policy drop; }",
        "add chain {} more { type filter hook input priority 0; }",
        "add chain {} out-no.1 { type filter hook input priority 0; }",
        "add chain {} more; add rule {} more accept; add rule {} to jump more",
        "add set {} more { type ipv4_addr; }",
        "add element {} ours4 { 10.77.0.9 }",
        "add element {} any4 { sctp . 80 comment \"web.3\" : 10.77.0.2 . 80 }",
        "add element {} speakers4 { \"eth0\" . 10.77.0.9 }",
        "add table {} { flags dormant; }",
        "flush chain {} host; delete set {} host4; \
         add set {} host4 { type ifname . ipv4_addr; size 9; }; \
         add element {} host4 { \"DEV\" . 10.77.0.2 comment \"web.3\" }",
    ] {
        check(Seen::Shared, |web| {
            edit.replace("{}", TABLE).replace("DEV", &web.device)
        });
    }
    for (chain, part) in [
        ("raw", "127.0.0.0/8"),
        ("raw", "\" drop"),
        ("srcnat", "self4"),
        ("to", "dnat"),
    ] {
        check(Seen::Shared, |_| {
            format!("delete rule {TABLE} {chain} handle {}", handle(chain, part))
        });
        check(Seen::Shared, |_| {
            let handle = handle(chain, part);
            format!("replace rule {TABLE} {chain} handle {handle} accept")
        });
    }
}

#[test]
fn a_flushed_ruleset_comes_back_life_by_life() {
    apart(|| {
        let firewall = firewall();
        set(&firewall, &web());
        set(&firewall, &db());
        let before = stands();
        nft("flush ruleset");
        assert_eq!(observed(&firewall), TableObserved::default());
        set(&firewall, &web());
        assert_eq!(observed(&firewall), all_of(&[&web()]));
        set(&firewall, &db());
        assert_eq!(observed(&firewall), all_of(&[&web(), &db()]));
        assert_eq!(stands(), before);
    });
}

#[test]
fn a_chain_that_cannot_be_read_is_closed_when_the_table_is_made_anew() {
    apart(|| {
        let firewall = firewall();
        set(&firewall, &web());
        set(&firewall, &db());
        nft("insert rule inet reconciler-test out-db.1 counter accept");
        nft("chain inet reconciler-test forward { policy drop; }");
        set(&firewall, &web());
        let between = observed(&firewall);
        assert!(between.shared);
        assert_eq!(between.lives["db.1"].egress, None);
        assert_eq!(between.lives["db.1"].ports, db().observed().ports);
        let closed = nft("list chain inet reconciler-test out-db.1");
        assert!(
            closed.contains("drop") && !closed.contains("accept"),
            "{closed}"
        );
        set(&firewall, &db());
        assert_eq!(observed(&firewall), all_of(&[&web(), &db()]));
    });
}

#[test]
fn a_life_goes_though_others_lead_to_its_chain() {
    apart(|| {
        let firewall = firewall();
        set(&firewall, &web());
        set(&firewall, &db());
        nft("add rule inet reconciler-test out-db.1 jump out-web.3");
        let device = device('z');
        nft(&format!(
            "add element inet reconciler-test policy4 {{ \"{device}\" . 10.77.0.9 comment \
             \"no.1\" : goto out-web.3 }}"
        ));
        assert!(firewall.remove("web.3", PATIENCE).unwrap());
        assert!(!nft("list ruleset").contains("web.3"));
        assert_eq!(observed(&firewall).lives["db.1"].egress, None);
        set(&firewall, &db());
        assert_eq!(observed(&firewall), all_of(&[&db()]));
    });
}
