//! Causes: a failure in a few words that are the same in all cases with the same cause.

use crate::{
    problem::{Place, Problem},
    transcript::{Action, print},
    verdict::Kind,
};

/// What went wrong, without the names, texts and numbers of the case.
pub fn cause(action: &Action, problem: &Problem) -> String {
    let due = due(action);
    match problem.kind {
        Kind::Malformed | Kind::Fault => problem.sentence.clone(),
        Kind::Crash => "the target crashes".to_owned(),
        Kind::Hang => format!("no {due}"),
        Kind::Closed => format!("a closed connection instead of {due}"),
        Kind::Refusal | Kind::WrongAnswer => {
            let came = came(problem);
            if problem.place != Place::Step {
                format!("{came} that is not due")
            } else if !problem.fields.is_empty() && came == due {
                format!("{due} with a wrong {}", problem.fields.join(" and "))
            } else if came.is_empty() {
                problem.sentence.clone()
            } else {
                format!("{came} instead of {due}")
            }
        }
    }
}

/// The message that a step waits for.
fn due(action: &Action) -> String {
    match action {
        Action::Receive { wanted, .. } => match wanted.first() {
            Some(first) if first.kind == "error" => {
                let code = first.body["code"].as_str().unwrap_or("error");
                code.trim_start_matches("ERROR_CODE_").to_owned()
            }
            Some(first) => first.kind.clone(),
            None => "message".to_owned(),
        },
        Action::Join { .. } | Action::Crowd(_) | Action::Saturate(_) => "registered".to_owned(),
        Action::Pieces { wanted, .. } => wanted.kind.clone(),
        Action::AllMembers { .. } | Action::Finds { .. } => "members".to_owned(),
        Action::Closed { .. } => "close".to_owned(),
        Action::Serves => "service for other clients".to_owned(),
        Action::Ends | Action::ClientEnds => "exit".to_owned(),
        Action::ClientStarts { .. } | Action::ClientJoins { .. } | Action::ClientComesBack => {
            "connection".to_owned()
        }
        Action::Prints(_) => "line of output".to_owned(),
        other => print::action(other),
    }
}

/// The message that came.
fn came(problem: &Problem) -> String {
    match (problem.code(), problem.came()) {
        (Some(code), _) => code.to_owned(),
        (None, Some("nothing")) => "empty envelope".to_owned(),
        (None, Some(kind)) => kind.to_owned(),
        (None, None) => String::new(),
    }
}
