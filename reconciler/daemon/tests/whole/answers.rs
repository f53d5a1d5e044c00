//! What is answered, and that asking changes nothing.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;

use serde_json::{Value, json};

use crate::world::{BOUND, World, spec};

fn accepted(world: &World, name: &str) {
    world.write(&format!("{name}.yaml"), &spec(name));
    world.until("it to be accepted", || {
        world.try_get(&format!("/v1/containers/{name}")).is_some()
    });
}

#[test]
fn a_refused_file_is_told_with_its_place_for_people_and_machines() {
    let world = World::started();
    world.write("web.yaml", &format!("{}  memroy: 1\n", spec("web")));
    world.until("it to be told", || {
        world.get("/v1/containers")["refused"]
            .as_array()
            .is_some_and(|all| !all.is_empty())
    });
    let list = world.get("/v1/containers");
    let refused = &list["refused"][0];
    assert!(
        refused["rendered"]
            .as_str()
            .unwrap()
            .contains("web.yaml:6:3"),
        "{refused}"
    );
    assert_eq!(refused["diagnostics"][0]["line"], 6, "{refused}");
    assert_eq!(
        list["containers"][0]["status"]["phase"], "Invalid",
        "{list}"
    );
    let why = world.get("/v1/containers/web/why");
    assert!(why["summary"].as_str().unwrap().contains("memroy"), "{why}");
}

#[test]
fn why_names_the_spec_the_step_and_the_cause() {
    let world = World::started();
    accepted(&world, "web");
    let kinds = |why: &Value| -> Vec<String> {
        let chain = why["chain"].as_array().cloned().unwrap_or_default();
        chain
            .iter()
            .map(|link| link["kind"].as_str().unwrap_or_default().to_owned())
            .collect()
    };
    world.until("a cause", || {
        let kinds = kinds(&world.get("/v1/containers/web/why"));
        ["spec", "generation", "step", "cause"]
            .iter()
            .all(|kind| kinds.iter().any(|k| k == kind))
    });
}

#[test]
fn a_preview_writes_nothing() {
    let world = World::started();
    accepted(&world, "web");
    let before = world.get("/v1/containers")["containers"][0]["status"]["generation"].clone();
    let edited = format!(
        "{}  limits: {{memory: 32Mi, pids: 7}}\n  hostname: x\n",
        spec("web")
    );
    let ask = json!({"files": [
        {"path": "web.yaml", "text": edited},
        {"path": "new.yaml", "text": spec("new")},
        {"path": "bad.yaml", "text": "kind: Nothing\n"},
    ]});
    let (status, view) = world.post("/v1/plan", &ask.to_string());
    assert_eq!(status, 200, "{view}");
    let of = |name: &str| {
        let all = view["containers"].as_array().unwrap();
        all.iter()
            .find(|one| one["name"] == name)
            .unwrap_or_else(|| panic!("{view}"))
            .clone()
    };
    assert_eq!(of("new")["class"], "create");
    assert_eq!(of("web")["class"], "recreate");
    let fields: Vec<String> = of("web")["fields"]
        .as_array()
        .unwrap()
        .iter()
        .map(|field| field["path"].as_str().unwrap().to_owned())
        .collect();
    assert!(
        fields.iter().any(|path| path.contains("hostname")),
        "{fields:?}"
    );
    assert_eq!(view["refused"][0]["path"], "bad.yaml");
    let after = world.get("/v1/containers");
    assert_eq!(after["containers"].as_array().unwrap().len(), 1, "{after}");
    assert_eq!(after["containers"][0]["status"]["generation"], before);
}

fn follow(world: &World, path: &str) -> impl Iterator<Item = Value> + use<> {
    let mut stream = UnixStream::connect(world.socket()).unwrap();
    stream.set_read_timeout(Some(BOUND)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: d\r\n\r\n").unwrap();
    let lines = BufReader::new(stream).lines();
    lines
        .map_while(Result::ok)
        .filter_map(|line| serde_json::from_str(&line).ok())
        .filter(
            // The lengths of chunks may read as numbers.
            Value::is_object,
        )
}

#[test]
fn watching_shows_all_that_is_there_then_each_change_and_at_last_that_it_is_gone() {
    let world = World::started();
    accepted(&world, "web");
    let mut changes = follow(&world, "/v1/watch");
    let first = changes.next().unwrap();
    assert_eq!(first["status"]["key"], "web");
    assert_eq!(first["labels"]["app"], "web");
    accepted(&world, "db");
    assert!(
        changes
            .by_ref()
            .any(|one| one["status"]["key"] == "db" && one["gone"] == false)
    );
    std::fs::remove_file(world.dir.join("specs/db.yaml")).unwrap();
    assert!(
        changes
            .by_ref()
            .any(|one| one["status"]["key"] == "db" && one["gone"] == true)
    );
}

#[test]
fn events_are_given_from_where_one_was_and_as_they_come() {
    let world = World::started();
    let all: Vec<Value> = follow(&world, "/v1/events?tail=1&follow=true")
        .take(1)
        .collect();
    assert_eq!(all[0]["reason"], "Started");
    let mut news = follow(&world, "/v1/events?tail=0&follow=true");
    accepted(&world, "web");
    let first = news.next().unwrap();
    assert_eq!(
        (&first["reason"], &first["key"]),
        (&json!("SpecAccepted"), &json!("web"))
    );
    let after = first["seq"].as_u64().unwrap() - 1;
    let again = follow(
        &world,
        &format!("/v1/events?after={after}&key=web&follow=true"),
    )
    .next();
    assert_eq!(again.unwrap()["seq"], first["seq"]);
}

#[test]
fn orders_are_answered_in_words_and_shown() {
    let world = World::started();
    accepted(&world, "web");
    let (status, done) = world.post("/v1/containers/web/stop", "");
    assert_eq!(status, 200, "{done}");
    world.until("the order to show", || {
        world.get("/v1/containers/web")["view"]["status"]["overrideNote"] == "stopped"
    });
    let (status, problem) = world.post("/v1/containers/web/restart", "");
    assert_eq!((status, &problem["code"]), (409, &json!("Conflict")));
    assert!(
        problem["message"].as_str().unwrap().contains("web.yaml:1"),
        "{problem}"
    );
    assert_eq!(world.post("/v1/containers/none/stop", "").0, 404);
    assert_eq!(world.post("/v1/sync", r#"{"name":"none"}"#).0, 404);
    assert_eq!(world.post("/v1/sync", r#"{"allowDeletes":5}"#).0, 200);
}

#[test]
fn secrets_are_shown_as_their_length_everywhere() {
    let world = World::started();
    let text = format!(
        "{}  env: {{TOKEN: kMarker1}}\n  files: [{{path: /etc/x, content: kMarker2}}]\n",
        spec("web")
    );
    world.write("web.yaml", &text);
    world.until("it to be accepted", || {
        world.try_get("/v1/containers/web").is_some()
    });
    let ask = json!({"files": [
        {"path": "web.yaml", "text": text.replace("kMarker1", "kMarker3")},
    ]});
    let shown = [
        world.get("/v1/containers").to_string(),
        world.get("/v1/containers/web").to_string(),
        world.get("/v1/containers/web/why").to_string(),
        world.post("/v1/plan", &ask.to_string()).1.to_string(),
        world.log(),
    ];
    for text in shown {
        assert!(!text.contains("kMarker"), "{text}");
    }
}

#[test]
fn the_host_is_described() {
    let world = World::started();
    let checks = world.get("/v1/doctor");
    let checks = checks["checks"].as_array().unwrap();
    assert!(!checks.is_empty());
    for check in checks {
        assert!(["ok", "fallback", "missing"].contains(&check["result"].as_str().unwrap()));
    }
}
