//! What is generated and kept in the repository, compared with what it is generated
//! from. `BLESS=1 cargo test --locked --test generated` writes it anew.

use std::{env, fmt::Write, fs, path::Path};

use chat::limits::{DefaultValue, LIMITS, Limits};

/// The command that writes all that this file checks.
const REGENERATE: &str = "BLESS=1 cargo test --locked --test generated";

/// Compares the file at `path` with what it should hold, or writes it.
fn check(path: &str, expected: &[u8]) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if env::var_os("BLESS").is_some_and(|it| !it.is_empty()) {
        fs::write(&file, expected).unwrap_or_else(|error| panic!("{path}: {error}"));
    }
    let found = fs::read(&file).unwrap_or_default();
    assert!(
        found == expected,
        "{path} is not what it is generated from; write it anew: {REGENERATE}"
    );
}

/// The types that are built without the conformance suite, and those that its build
/// generates from the schema.
#[test]
fn the_types_that_are_kept_are_those_of_the_schema() {
    let generated = include_bytes!(concat!(env!("OUT_DIR"), "/chat.v1.rs"));
    check("proto/gen/chat.v1.rs", generated);
}

#[test]
fn the_documented_limits_are_those_that_are_declared() {
    let limits = Limits::default();
    let mut page = String::from(
        "# Limits\n\
         \n\
         Every limit of `chat-server` is an option, and an environment variable: \
         `--frame-bytes-max` is `CHAT_FRAME_BYTES_MAX`. A size is in bytes or has a unit \
         (`8192`, `8KiB`, `64MiB`), a time is in milliseconds or has a unit (`10000`, `10s`, \
         `2min`), a rate is a number a second or has a unit (`10`, `20/min`). `off` ends a \
         limit that has `off` in its range. A client learns the announced ones when it \
         registers. SIGHUP changes the live ones ([Reload](operate.md#reload)).\n\
         \n\
         | option | what it limits | default | range | announced | live | rule | beyond it |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    for limit in LIMITS {
        let default = match limit.default {
            DefaultValue::Fixed(value) => limit.show(value),
            DefaultValue::Derived(words, _) => {
                format!("{} ({words})", limit.show(limit.value(&limits)))
            }
        };
        let mut range = limit.shown_range(&limits);
        if let Some(because) = limit.because {
            write!(range, " ({because})").expect("a string takes all");
        }
        if limit.can_be_off {
            range.push_str(", off");
        }
        writeln!(
            page,
            "| `--{}` | {} | {default} | {range} | {} | {} | {} | {} |",
            limit.option(),
            limit.help(),
            if limit.announce.is_some() {
                "yes"
            } else {
                "no"
            },
            if limit.is_live { "yes" } else { "no" },
            limit.rule.unwrap_or_default(),
            limit.beyond,
        )
        .expect("a string takes all");
    }
    write!(
        page,
        "\n\
         A default or a range that follows from another limit is shown as it is beside the \
         other defaults. This page is generated from `src/limits.rs`: `{REGENERATE}`.\n"
    )
    .expect("a string takes all");
    check("docs/limits.md", page.as_bytes());
}

/// In what steps the sum is told, in MiB.
const TOLD_IN_STEPS_OF: u64 = 20;

#[test]
fn the_documented_memory_is_the_sum_of_the_bounds() {
    const BEFORE: &str = "that is less than ";
    let path = "docs/tuning.md";
    let page = include_str!("../docs/tuning.md");
    let (before, after) = page.split_once(BEFORE).expect("the sum");
    let (_, after) = after.split_once(' ').expect("its unit");
    let mebibytes = Limits::default().memory_bytes_max() >> 20;
    let told = (mebibytes / TOLD_IN_STEPS_OF + 1) * TOLD_IN_STEPS_OF;
    check(path, format!("{before}{BEFORE}{told} {after}").as_bytes());
}
