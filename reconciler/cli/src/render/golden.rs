//! Golden renderings: the texts below `goldens/` are what people see. `BLESS=1` rewrites them.

use std::path::Path;

use jiff::tz::TimeZone;

use super::paint::Paint;
use reconciler_daemon::api::wire::{
    Applied, AppliedContainer, Difference, GenerationView, History, PlanField,
};

use super::{
    Look, apply, capacity, describe, doctor, escape, events, fixture, history, plan, status, top,
    why,
};

fn look(color: bool) -> Look {
    Look {
        paint: Paint { color },
        now_ms: fixture::NOW_MS,
        zone: TimeZone::UTC,
    }
}

/// Compares a text with its golden file; colour sequences are kept in a visible form.
fn check(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("goldens")
        .join(name);
    let seen = escape::screen(text, false);
    if std::env::var_os("BLESS").is_some_and(|value| value == "1") {
        std::fs::write(&path, seen.as_bytes()).unwrap();
    }
    let golden = std::fs::read_to_string(&path)
        .unwrap_or_else(|err| panic!("{}: {err}; BLESS=1 writes it", path.display()));
    assert!(
        golden == *seen,
        "{} differs:\n{seen}\nBLESS=1 takes it",
        path.display()
    );
}

/// Compares without colour, where no escape may be left at all.
fn check_plain(name: &str, text: &str) {
    assert!(
        !text.contains(|c: char| c.is_control() && c != '\n'),
        "{text:?}"
    );
    check(name, text);
}

fn table(wide: bool, color: bool) -> String {
    let list = fixture::list();
    let look = look(color);
    let mut grid = status::grid(wide);
    for view in &list.containers {
        grid.push(status::row(view, wide, &look));
    }
    grid.take(look.paint) + &status::remarks(&list, look.paint)
}

#[test]
fn the_table_shows_each_state_its_next_try_and_what_is_refused() {
    check_plain("table.txt", &table(false, false));
}

#[test]
fn the_wide_table_adds_columns_at_its_end() {
    check_plain("wide.txt", &table(true, false));
}

#[test]
fn colour_marks_states() {
    check("table-color.txt", &table(false, true));
}

#[test]
fn describe_tells_everything_of_a_running_container() {
    check_plain(
        "describe.txt",
        &describe::describe(&fixture::detail(fixture::web()), &look(false)),
    );
}

#[test]
fn describe_tells_what_failed_and_what_helps() {
    let mut detail = fixture::detail(fixture::broken());
    detail.refusal = None;
    detail.limits.clear();
    detail.mounts.clear();
    check_plain(
        "describe-broken.txt",
        &describe::describe(&detail, &look(false)),
    );
}

#[test]
fn nothing_hostile_survives_a_description() {
    let mut detail = fixture::detail(fixture::hostile());
    detail
        .mounts
        .insert("/\u{1b}[2J".into(), "bind \u{202e}".into());
    detail.limits.insert("mem\u{7}".into(), "\u{9b}2J".into());
    detail.refusal = Some("bad \u{1b}]0;x\u{7}".into());
    check_plain(
        "describe-hostile.txt",
        &describe::describe(&detail, &look(false)),
    );
}

#[test]
fn why_is_one_chain() {
    check_plain("why.txt", &why::why(&fixture::why(), look(false).paint));
}

#[test]
fn a_plan_shows_classes_fields_stages_reasons_and_a_sum() {
    check_plain("plan.txt", &plan::plan(&fixture::plan(), look(false).paint));
}

#[test]
fn a_clean_plan_says_so() {
    let mut view = fixture::plan();
    assert!(!plan::is_clean(&view));
    view.containers.clear();
    assert!(!plan::is_clean(&view), "a refused file is something to do");
    view.refused.clear();
    assert!(plan::is_clean(&view));
    check_plain("plan-clean.txt", &plan::plan(&view, look(false).paint));
}

#[test]
fn applied_texts_are_told_one_by_one_or_why_none_was_taken() {
    let one = |name: &str, generation, effect: &str| AppliedContainer {
        name: name.to_owned(),
        generation,
        effect: effect.to_owned(),
    };
    let mut view = Applied {
        containers: vec![
            one("db", 1, "unchanged"),
            one("web", 4, "configured"),
            one("job", 1, "created"),
        ],
        refused: Vec::new(),
    };
    let taken = apply::applied(&view, look(false).paint);
    view.containers.clear();
    view.refused = fixture::plan().refused;
    let none = apply::applied(&view, look(false).paint);
    check_plain("apply.txt", &format!("{taken}\n{none}"));
}

#[test]
fn history_names_what_each_generation_changed() {
    let fields = |names: &[&str]| {
        let field = |name: &&str| PlanField {
            path: (*name).to_owned(),
            class: "live".to_owned(),
            from: "64Mi".to_owned(),
            to: "\u{1b}[2J".to_owned(),
        };
        names.iter().map(field).collect::<Vec<_>>()
    };
    let one = |generation, ago_ms, source: &str, changed| GenerationView {
        generation,
        at_ms: fixture::NOW_MS - ago_ms,
        source: source.to_owned(),
        current: generation == 4,
        changed,
    };
    let four = ["spec.a", "spec.b", "spec.c", "spec.d"];
    let history = History {
        generations: vec![
            one(2, 90_000_000, "/etc/reconciler/specs.d/web.yaml:1", None),
            one(3, 7_200_000, "api", Some(fields(&four))),
            one(4, 1_000, "api", Some(Vec::new())),
        ],
    };
    let mut found = Difference {
        from: 2,
        to: 3,
        fields: fields(&four[..2]),
    };
    let mut text = history::history(&history, &look(false));
    text.push('\n');
    text.push_str(&history::difference(&found, look(false).paint));
    found.fields.clear();
    text.push_str(&history::difference(&found, look(false).paint));
    check_plain("history.txt", &text);
}

#[test]
fn events_stand_in_columns() {
    let mut grid = events::grid();
    for event in fixture::history() {
        grid.push(events::row(&event, &look(false)));
    }
    check_plain("events.txt", &grid.take(look(false).paint));
}

#[test]
fn the_doctor_names_what_to_do() {
    check_plain(
        "doctor.txt",
        &doctor::doctor(&fixture::doctor(), look(false).paint),
    );
}

#[test]
fn top_shows_rates_and_what_is_nearly_full() {
    let (before, after) = fixture::samples();
    let shown = top::Top::between(&before, &after);
    check_plain("top.txt", &top::table(&shown, look(false).paint));
    check("top-color.txt", &top::table(&shown, look(true).paint));
    let none = top::table(&top::Top::default(), look(false).paint);
    assert_eq!(none, "no containers\n");
}

#[test]
fn capacity_shows_what_is_gone_and_what_is_tight() {
    let told = fixture::capacity();
    check_plain(
        "capacity.txt",
        &capacity::capacity(&told, look(false).paint),
    );
}
