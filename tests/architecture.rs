//! The plan of the house, enforced: arrows, rooms, sizes.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => walk(&path, found),
                false if path.extension().is_some_and(|extension| extension == "rs") => found.push(path),
                false => {}
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    walk(&root.join(folder), &mut found);
    found.sort();
    let relative = |path: &PathBuf| path.strip_prefix(root).unwrap().to_owned();
    found.iter().map(|path| (relative(path), fs::read_to_string(path).unwrap())).collect()
}

/// Lower rooms first; a room may use its own level's file and everything below, but not what stands above.
const LEVELS: &[&[&str]] = &[
    &["error", "message", "retry", "telemetry", "failpoint", "time"],
    &["commit", "config", "event", "health", "policy"],
    &["outgoing"],
    &["log"],
    &["database"],
    &["handler", "outbox", "seen"],
    &["relay", "processor"],
    &["settings", "pipeline"],
    &["testing"],
    &["prelude"],
];

fn level(room: &str) -> Option<usize> {
    LEVELS.iter().position(|rooms| rooms.contains(&room))
}

/// The rooms of `use crate::...` in a file, nested braces included.
fn uses(text: &str) -> Vec<String> {
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    let mut rooms = Vec::new();
    for start in code.match_indices("crate::").map(|(at, found)| at + found.len()) {
        let rest = &code[start..];
        let name =
            |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
        match rest.strip_prefix('{') {
            None => rooms.push(name(rest)),
            Some(inside) => {
                let mut depth = 0;
                let mut fresh = true;
                for (at, c) in inside.char_indices() {
                    match c {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => fresh = true,
                        c if fresh && depth == 0 && !c.is_whitespace() => {
                            rooms.push(name(&inside[at..]));
                            fresh = false;
                        }
                        _ => {}
                    }
                }
            }
        }
    }
    rooms
}

#[test]
fn arrows_point_down() {
    let mut wrong = Vec::new();
    for (path, text) in sources("framework") {
        let room = path
            .components()
            .nth(1)
            .unwrap()
            .as_os_str()
            .to_str()
            .unwrap()
            .trim_end_matches(".rs")
            .to_owned();
        if room == "lib" {
            continue;
        }
        let own = level(&room).unwrap_or_else(|| panic!("{} stands in no level", path.display()));
        for used in uses(&text) {
            let Some(used_level) = level(&used) else { continue };
            if used != room && used_level >= own {
                wrong.push(format!("{} uses {used}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn rdkafka_is_named_only_in_its_room() {
    let allowed = [
        "framework/log/kafka/",
        "examples/orders/verify_topics.rs",
        "tests/witness.rs",
        "tests/log_kafka",
        "tests/campaign/src/kafka/",
        "benches/limits/",
    ];
    for folder in ["framework", "examples", "tests", "benches", "lab/src"] {
        for (path, text) in sources(folder) {
            let path = path.display().to_string();
            if path != "tests/architecture.rs" && !allowed.iter().any(|room| path.starts_with(room)) {
                assert!(!text.replace("librdkafka", "").contains("rdkafka"), "{path} names rdkafka");
            }
        }
    }
}

#[test]
fn sql_is_written_only_in_its_rooms() {
    for (path, text) in sources("framework") {
        let path = path.display().to_string();
        let database = path.starts_with("framework/database/");
        if database && !path.ends_with("database/mod.rs") && !path.ends_with("none.rs")
            || path == "framework/log/embedded/store.rs"
        {
            continue;
        }
        for (number, line) in text.lines().enumerate() {
            let code = line.trim_start();
            if code.starts_with("//") {
                continue;
            }
            let sql = ["\"SELECT ", "\"INSERT ", "\"UPDATE ", "\"DELETE ", "\"CREATE ", "sqlx::query"];
            assert!(!sql.iter().any(|word| code.contains(word)), "{path}:{} holds SQL", number + 1);
        }
    }
}

#[test]
fn the_checker_shares_no_code() {
    let manifest =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("checker/Cargo.toml")).unwrap();
    for line in manifest.lines().filter(|line| !line.starts_with('#')) {
        let own = line == r#"name = "tidelock-checker""#;
        assert!(
            own || !line.contains("tidelock") && !line.contains("path = \"..\""),
            "checker/Cargo.toml: {line}"
        );
    }
    for (path, text) in sources("checker") {
        let foreign = text.replace("tidelock_checker", "");
        for word in
            ["tidelock::", "tidelock_lab", "framework/", "lab/src", "include!", "include_str!", "#[path"]
        {
            assert!(!foreign.contains(word), "{} says {word}", path.display());
        }
    }
}

#[test]
fn files_stay_small() {
    let mut lengths = BTreeMap::new();
    for folder in ["framework", "examples", "tests", "benches", "lab", "checker"] {
        for (path, text) in sources(folder) {
            lengths.insert(path, text.lines().count());
        }
    }
    let long: Vec<_> = lengths.iter().filter(|(_, lines)| **lines > 600).collect();
    assert!(long.is_empty(), "longer than 600 lines: {long:?}");
    let crate_wide = ["util", "utils", "common", "helpers", "manager", "base", "misc"];
    for path in lengths.keys() {
        let stem = path.file_stem().unwrap().to_str().unwrap();
        assert!(!crate_wide.contains(&stem), "{} says nothing of what it holds", path.display());
    }
}
