//! `explain` knows every field.

use specs::change::Class;
use specs::explain::{config_fields, field, fields};

#[test]
fn every_field_says_what_it_is() {
    for doc in fields().iter().chain(config_fields()) {
        assert!(
            doc.text.len() >= 8 && doc.text.ends_with('.'),
            "{}: {:?}",
            doc.path,
            doc.text
        );
        assert!(!doc.type_name.is_empty());
        assert_ne!(
            doc.default.as_deref(),
            Some(""),
            "{} has no default in words",
            doc.path
        );
    }
}

#[test]
fn every_single_field_of_a_spec_says_what_a_change_costs() {
    for doc in fields() {
        let head = doc.path == "apiVersion" || doc.path == "kind";
        let single = doc.type_name != "mapping" && !head;
        assert_eq!(doc.class.is_some(), single, "{}", doc.path);
    }
}

#[test]
fn a_field_is_found_by_the_ways_people_write_it() {
    for path in ["spec.limits.memory", "limits.memory"] {
        assert_eq!(field(path).unwrap().class, Some(Class::Live));
    }
    for path in [
        "spec.processes[].command",
        "processes[0].command",
        "processes.command",
    ] {
        assert_eq!(field(path).unwrap().class, Some(Class::Process));
    }
    let disk = |part: &str| field(&format!("limits.disk.{part}")).unwrap().class;
    assert_eq!(disk("bytes"), Some(Class::Live));
    assert_eq!(disk("inodes"), Some(Class::Recreate));
    assert_eq!(field("spec.limits.nothing"), None);
    assert_eq!(field(""), None);
}

#[test]
fn the_ports_that_host_networking_cannot_bind_are_named() {
    assert!(field("network.mode").unwrap().text.contains("1024"));
}
