//! The reader of transcripts: any text is read or refused with a line and a
//! sentence, and what was read is written so that it can be read again.

use crate::transcript::{
    Action,
    expr::Limits,
    parse::{self, ParseError},
    print,
};

/// Any bytes; a file that is no text never comes to the parser.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let lines = text.lines().count().max(1);
    match parse::case("area/case", text) {
        Ok(case) => {
            case.people();
            case.is_slow();
            case.any_step(&|step| {
                assert!((1..=lines).contains(&step.line), "line {}", step.line);
                if let Action::Silence(expr) = &step.action {
                    expr.value(&Limits::assumed());
                }
                false
            });
            check_written(&print::steps(&case.steps));
        }
        Err(ParseError { line, sentence }) => {
            assert!((1..=lines).contains(&line), "line {line}: {sentence}");
            assert!(!sentence.is_empty());
        }
    }
}

/// Steps spelled out mean what they meant: written again, they are the same.
fn check_written(steps: &[String]) {
    let text = steps.join("\n");
    // What is too long to be shown is shortened, and not to be read again.
    if text.contains("... (") {
        return;
    }
    // A number that is no integer may lose digits; the schema has none.
    let has_fraction = |pair: &[u8]| matches!(pair, [b'.', b'0'..=b'9'] | [b'e', b'+' | b'-']);
    if text.as_bytes().windows(2).any(has_fraction) {
        return;
    }
    match parse::case("area/case", &text) {
        Ok(case) => assert_eq!(print::steps(&case.steps), steps),
        Err(ParseError { line, sentence }) => panic!("line {line}: {sentence}\n{text}"),
    }
}
