//! A busy machine: runs of right clients and servers while every core is taken by
//! something else. No verdict is false.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use crate::support::{CONFORMS, SHORT_DEADLINES, client, python, reference, report};

/// How many runs must agree.
const RUNS: usize = 20;

/// Runs `judge` while every core is busy with a loop besides.
fn under_load(judge: impl FnOnce()) {
    let is_over = AtomicBool::new(false);
    let cores = thread::available_parallelism().map_or(2, usize::from);
    thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        // Also when it panics: the loops would spin on.
        let _over = SetOnDrop(&is_over);
        judge();
    });
}

struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn all_conform(arguments: &[&str]) {
    under_load(|| {
        for run in 1..=RUNS {
            let (ran, _) = report(arguments);
            assert_eq!(
                ran.code, CONFORMS,
                "run {run}: {}{}",
                ran.stdout, ran.stderr
            );
        }
    });
}

#[test]
#[ignore = "takes minutes"]
fn the_reference_client_conforms_on_a_busy_machine() {
    let command = client(env!("CARGO_BIN_EXE_chat-client"));
    all_conform(&["client", "--cmd", &command]);
}

#[test]
#[ignore = "takes minutes"]
fn the_python_client_conforms_on_a_busy_machine() {
    let command = client(&python("client.py"));
    all_conform(&["client", "--cmd", &command, "--cuts", "whole"]);
}

/// Many cases at a time, at a server with the default limits.
#[test]
#[ignore = "takes minutes"]
fn the_reference_server_conforms_on_a_busy_machine() {
    let command = reference(SHORT_DEADLINES);
    all_conform(&["server", "--cmd", &command, "--cuts", "whole"]);
}
