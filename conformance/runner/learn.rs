//! Learning: what is known of a target before any case is played.

use std::{
    panic,
    sync::{Arc, mpsc},
    thread,
};

use crate::{
    interrupt::{self, Interrupted},
    mark::Mark,
    plan::{Plan, Target},
    play,
    probe::{Facts, PROBE_CONNECTIONS_MAX, ProbeError, probe, probe_keys},
    server_under_test::ServerUnderTest,
    transcript::Keys,
};

/// Why nothing was judged: the target cannot be reached, or speaks another protocol.
pub struct Unreachable(pub String);

/// What is known of a target, and the server that answered.
pub struct Learned {
    /// Its limits and capabilities.
    pub facts: Facts,
    /// It runs, and plays a case as well as one that is started for it.
    pub server: Option<ServerUnderTest>,
}

impl Learned {
    fn nothing() -> Self {
        Self {
            facts: Facts::assumed(),
            server: None,
        }
    }
}

/// Finds out the limits and capabilities of the target, before any case.
pub fn learn(
    plan: &Arc<Plan>,
    target: &Target,
    run_name: &str,
) -> Result<Result<Learned, Unreachable>, Interrupted> {
    let (plan, target) = (Arc::clone(plan), target.clone());
    let name = Mark::new(run_name, 0).name("probe");
    let (sender, receiver) = mpsc::sync_channel(1);
    let learner = thread::spawn(move || {
        let _ = sender.send(ask(&plan, &target, &name));
    });
    match interrupt::receive(&receiver)? {
        Some(learned) => Ok(learned),
        None => match learner.join() {
            Err(panicked) => panic::resume_unwind(panicked),
            Ok(()) => Ok(Ok(Learned::nothing())),
        },
    }
}

fn ask(plan: &Plan, target: &Target, name: &str) -> Result<Learned, Unreachable> {
    let source = match target {
        Target::Server(source) => source,
        Target::Client(command) => {
            play::try_client(command).map_err(Unreachable)?;
            return Ok(Learned::nothing());
        }
    };
    let mut server = ServerUnderTest::open(source, plan.timing).map_err(Unreachable)?;
    let answer = probe(&server, name, &plan.admission, plan.timing);
    let answer = answer.map_err(|error| match error {
        ProbeError::Unreachable(why) => {
            let why = server.death().unwrap_or(why);
            Unreachable(format!("the server cannot be reached: {why}"))
        }
        ProbeError::OtherProtocol(greeting) => Unreachable(format!(
            "the server does not speak chat.v1: it answered {greeting:?}"
        )),
    })?;
    let has_answered = answer.is_some();
    let mut facts = answer.unwrap_or_else(Facts::assumed);
    // It takes connections, which a server may count.
    if plan.cases.iter().any(|case| case.keys > Keys::Ignored) {
        facts.keys = probe_keys(&server, name, &plan.admission, plan.timing);
    }
    server.connections_opened = PROBE_CONNECTIONS_MAX;
    Ok(Learned {
        facts,
        // One that does not answer may be about to end.
        server: has_answered.then_some(server),
    })
}
