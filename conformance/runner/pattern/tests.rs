//! Tests of the patterns.

use super::*;
use serde_json::json;

fn bindings() -> Bindings {
    Bindings::new(Mark::new("x", 7), &["alice"], Limits::assumed())
}

fn check(pattern: Value, got: Value, expected: bool) {
    let mut bindings = bindings();
    assert_eq!(
        bindings.matches(&pattern, Some(&got)),
        Ok(expected),
        "{pattern} {got}"
    );
}

#[test]
fn matching_is_strict_about_fields() {
    check(json!({"a": 1}), json!({"a": 1}), true);
    check(json!({"a": 1}), json!({"a": 1, "b": 2}), false);
    check(json!({"a": 1, "b": 2}), json!({"a": 1}), false);
    check(json!({"a": 1, "b": 0, "c": false}), json!({"a": 1}), true);
    check(json!({"b": "0"}), json!({}), true);
    check(json!({"a": "<any>"}), json!({}), false);
    check(json!({"a": "<maybe>"}), json!({}), true);
    check(json!({"a": "<alice>"}), json!({"a": "alice-x.7-"}), true);
    check(
        json!({"a": "<alice upper>"}),
        json!({"a": "ALICE-X.7-"}),
        true,
    );
    check(json!({"a": ["x", "y"]}), json!({"a": ["y", "x"]}), true);
    check(json!({"a": ["x", "y"]}), json!({"a": ["y", "y"]}), false);
    check(json!({"a": "</^[a-c]+$/>"}), json!({"a": "abc"}), true);
    // An absent text is empty, not the number 0.
    check(json!({"a": "</^[ -~]{1,64}$/>"}), json!({}), false);
    check(json!({"a": "<not 5>"}), json!({"a": "5"}), false);
    check(
        json!({"a": "<without x 5>"}),
        json!({"a": "6 x 5 4"}),
        false,
    );
    check(json!({"a": "<without x 5>"}), json!({"a": "6 x 4"}), true);
    check(json!({"a": "<without x 5>"}), json!({}), true);
    check(
        json!({"a": "<without alice>"}),
        json!({"a": "-alice-x.7--"}),
        false,
    );
    check(json!({"a": "<without alice>"}), json!({"a": "alice"}), true);
}

/// Only the numbers of chats skip those of others.
#[test]
fn a_repetition_counts_on_whatever_others_say() {
    let mut bindings = bindings();
    bindings.foreign_seqs = vec![50];
    bindings.set("i", "49".to_owned());
    bindings.set("n", "49".to_owned());
    let pattern = json!({"id": "<i+1>", "seq": "<n+1>"});
    let got = json!({"id": "50", "seq": "51"});
    assert_eq!(bindings.matches(&pattern, Some(&got)), Ok(true));
}

#[test]
fn the_fields_that_differ_are_named() {
    let (pattern, got) = (
        json!({"a": 1, "b": "<any>"}),
        json!({"a": 2, "b": 3, "c": 4}),
    );
    assert_eq!(bindings().differing(&pattern, &got), ["a", "c"]);
    assert_eq!(bindings().differing(&pattern, &json!({"a": 1})), ["b"]);
}

#[test]
fn a_captured_number_is_bound_once_and_can_be_counted_from() {
    let mut b = bindings();
    assert_eq!(b.matches(&json!("<n>"), Some(&json!("41"))), Ok(true));
    assert_eq!(b.matches(&json!("<n>"), Some(&json!("42"))), Ok(false));
    assert_eq!(b.matches(&json!("<n+1>"), Some(&json!("42"))), Ok(true));
    b.foreign_seqs.push(42);
    assert_eq!(b.matches(&json!("<n+1>"), Some(&json!("43"))), Ok(true));
    assert!(b.matches(&json!("<m+1>"), Some(&json!("42"))).is_err());
}

#[test]
fn a_password_is_added_to_a_register_without_one() {
    let added = |b: &Bindings, mut register: Value| {
        b.add_password(&mut register);
        register
    };
    let mut b = bindings();
    assert_eq!(added(&b, json!({"name": "a"})), json!({"name": "a"}));
    b.set_password("sesame");
    assert_eq!(
        added(&b, json!({"name": "a"})),
        json!({"name": "a", "password": "sesame"})
    );
    assert_eq!(added(&b, json!({"password": ""})), json!({"password": ""}));
    assert_eq!(
        b.fill_text("<password.short> <password>!").as_deref(),
        Ok("sesam sesame!")
    );
}

#[test]
fn placeholders_in_texts_are_substituted() {
    let b = bindings();
    assert_eq!(b.fill_text("hi <alice>!").as_deref(), Ok("hi alice-x.7-!"));
    assert_eq!(b.fill_text("<alice:12>").as_deref(), Ok("alice-x.7-xx"));
    assert_eq!(b.fill_text("a < b <3").as_deref(), Ok("a < b <3"));
    let filled = b.fill_text("<fill text_bytes_max é>").unwrap();
    assert_eq!(filled.len(), 4096);
    assert!(b.fill_text("<bob>").is_err());
}
