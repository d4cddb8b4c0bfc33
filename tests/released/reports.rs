//! Programs that read reports go on reading them: what a report of a release had, every
//! later one has.

use std::fs;

use serde_json::Value;

use crate::releases;

const NOW: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/conformance/schema/report.schema.json"
);

#[test]
fn fields_of_reports_only_grow() {
    let read = |text: String| serde_json::from_str::<Value>(&text).expect("it is JSON");
    let now = read(fs::read_to_string(NOW).expect("a schema"));
    for release in releases() {
        let path = release.folder.join("report.schema.json");
        let then = read(fs::read_to_string(path).expect("a schema"));
        let mut lost = Vec::new();
        compare("", &then, &now, &mut lost);
        assert!(
            lost.is_empty(),
            "a report has no longer\n{}",
            lost.join("\n")
        );
    }
}

/// Notes what a schema of JSON promised at `path` and does not any more.
fn compare(path: &str, then: &Value, now: &Value, lost: &mut Vec<String>) {
    match (then, now) {
        (Value::Object(then), Value::Object(now)) => {
            for (key, then) in then {
                let path = format!("{path}/{key}");
                match now.get(key) {
                    // For people.
                    _ if matches!(key.as_str(), "title" | "description" | "$id") => {}
                    Some(now) if matches!(key.as_str(), "required" | "enum") => {
                        contains(&path, then, now, lost);
                    }
                    Some(now) => compare(&path, then, now, lost),
                    None => lost.push(path),
                }
            }
        }
        (Value::Array(then), Value::Array(now)) if then.len() == now.len() => {
            for (index, (then, now)) in then.iter().zip(now).enumerate() {
                compare(&format!("{path}/{index}"), then, now, lost);
            }
        }
        _ if then == now => {}
        _ => lost.push(format!("{path}: {then}, but {now}")),
    }
}

/// Lists of names may only grow.
fn contains(path: &str, then: &Value, now: &Value, lost: &mut Vec<String>) {
    let names = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let now = names(now);
    for name in names(then).iter().filter(|name| !now.contains(name)) {
        lost.push(format!("{path}/{name}"));
    }
}
