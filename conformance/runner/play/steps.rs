//! Dispatch: the steps of a case in their order, each handed to the code of its kind,
//! and the check at the end that no message is left.

use std::{
    thread,
    time::{Duration, Instant},
};

use super::{Outcome, Play, Played, StepError, Stop};
use crate::{
    problem::{Place, Problem},
    rules::{Level, heaviest},
    transcript::{Action, Step, print},
    verdict::{Failure, Kind, millis},
};

impl<'a> Play<'a> {
    /// Plays the steps up to the first that breaks a MUST.
    pub(super) fn all_steps(&mut self, played: &mut Played) {
        let case = self.context.case;
        let mut has_failed = false;
        for step in &case.steps {
            if matches!(step.action, Action::Otherwise) {
                if has_failed {
                    played.is_whole = false;
                    return;
                }
                continue;
            }
            self.failing = None;
            let result = self.step(step);
            has_failed = result.is_err();
            let Err(error) = result else {
                let shown = print::steps(std::slice::from_ref(step));
                played.observed.extend(shown);
                continue;
            };
            if matches!(error, StepError::Fault(_)) && !played.warnings.is_empty() {
                // It needs a value that the step which failed would have brought.
                played.is_whole = false;
                return;
            }
            match self.stopped(step, error, &mut played.observed) {
                Stop::Failed(failure) if self.is_advice(&failure) => {
                    played.warnings.push(*failure);
                }
                stop => {
                    played.stop = Some(stop);
                    return;
                }
            }
        }
        // After a step that failed, its message may still come.
        if played.warnings.is_empty()
            && let (Some(last), Err(error)) = (case.steps.last(), self.nothing_is_left())
        {
            self.failing = None;
            played.stop = Some(self.stopped(last, error, &mut played.observed));
        }
    }

    /// Whether a failure breaks no MUST, so that the steps behind it are still judged.
    fn is_advice(&self, failure: &Failure) -> bool {
        !failure.kind.is_certain()
            && heaviest(self.context.rules, &failure.rules).is_some_and(|l| l < Level::Must)
    }

    /// Plays a step, and remembers it if it fails.
    fn step(&mut self, step: &'a Step) -> Outcome {
        let result = self.try_step(step);
        if result.is_err() {
            self.failing.get_or_insert(step);
        } else if step.action.wait().is_some() {
            self.waited += self.step_began.elapsed();
        }
        result
    }

    fn try_step(&mut self, step: &'a Step) -> Outcome {
        if let Some(who) = step.action.who() {
            self.who = who.to_owned();
        }
        self.expected = print::action(&step.action);
        self.step_began = Instant::now();
        if !matches!(step.action, Action::Send { .. } | Action::Nothing { .. }) {
            self.flush()?;
        }
        self.in_time()?;
        // Messages on their way are no part of the suite's time.
        self.deadline += self.context.timing.round_trip() * 2;
        match &step.action {
            Action::Connect { who, small_window } => self.connect(who, *small_window),
            Action::Join {
                who,
                name,
                capabilities,
                patiently,
            } => self.join(who, name, capabilities, *patiently),
            Action::Send { who, payload } => self.send(who, payload),
            Action::Receive {
                who,
                wanted,
                arrival,
            } => self.receive(who, wanted, arrival),
            Action::Pieces { who, wanted } => self.pieces(who, wanted),
            Action::AllMembers { who } => self.all_members(who),
            Action::Finds { who, names } => self.finds(who, names),
            Action::Nothing { who } => {
                self.conn(who)?.nothing_since = Some(step.line);
                Ok(())
            }
            Action::Closed {
                who,
                arrival,
                in_order,
            } => self.closed(who, arrival, *in_order),
            Action::HalfClose { who } => {
                self.conn(who)?.half_close();
                Ok(())
            }
            Action::Close { who } => {
                let conn = self.conns.remove(who);
                self.keep_trace(who, conn);
                Ok(())
            }
            Action::Reset { who } => {
                let conn = self.conns.remove(who);
                if let Some(mut conn) = conn {
                    conn.set_reset();
                    self.keep_trace(who, Some(conn));
                }
                Ok(())
            }
            Action::Silence(expr) => {
                let ms = expr.value(&self.bindings.limits);
                self.silence(self.context.timing.silence(ms, expr.is_limit()))
            }
            Action::Repeat { count, steps } => {
                for i in 1..=count.value(&self.bindings.limits) {
                    self.bindings.set("i", i.to_string());
                    steps.iter().try_for_each(|step| self.step(step))?;
                }
                Ok(())
            }
            // Decided where the steps are counted.
            Action::Otherwise => Ok(()),
            Action::AnyOrder(lanes) => self.any_order(lanes),
            Action::Serves => self.still_serves(),
            Action::Restarts => self.restart(),
            Action::Kills => self.kill_server(),
            Action::ComesBack => self.comes_back(),
            Action::Crowd(count) => self.crowd(count.value(&self.bindings.limits)),
            Action::Skips { who } => self.skip(who),
            Action::CatchesUp {
                who,
                with_everything,
            } => self.catch_up(who, *with_everything),
            Action::Accounts { who, receiver } => self.account(who, receiver),
            Action::SameEnd(people) => self.same_end(people),
            Action::Stops => self.stop_server(),
            Action::Operates(words) => self.operate(words),
            Action::Ends => self.server_ends(),
            Action::Saturate(saturation) => self.saturate(*saturation),
            Action::ClientStarts { password } => self.client_starts(password.as_deref()),
            Action::ClientJoins { capabilities } => self.client_joins(capabilities),
            Action::ClientComesBack => self.client_comes_back(),
            Action::ClientStaysAway => self.client_stays_away(),
            Action::Types(line) => self.client_types(line),
            Action::InputEnds => self.client_input_ends(),
            Action::Prints(line) => self.client_prints(line),
            Action::NeverPrints(line) => self.client_never_prints(line),
            Action::NeverShows(text) => self.client_never_shows(text),
            Action::ClientEnds => self.client_ends(),
            Action::ClientFails => self.client_fails(),
        }
    }

    /// Sleeps. A deadline of the server may have passed during a sleep that took too
    /// long.
    fn silence(&mut self, pause: Duration) -> Outcome {
        self.deadline += pause;
        let began = Instant::now();
        thread::sleep(pause);
        let elapsed = began.elapsed();
        self.overslept += elapsed.saturating_sub(pause);
        if self.context.timing.is_overslept(pause, elapsed) {
            return Err(StepError::Late(format!(
                "this machine is too busy: a pause of {} ms took {} ms",
                millis(pause),
                millis(elapsed)
            )));
        }
        Ok(())
    }

    /// Everything that came has been asked for.
    fn nothing_is_left(&mut self) -> Outcome {
        self.flush()?;
        self.expected = "nothing more".to_owned();
        let names: Vec<String> = self.conns.keys().cloned().collect();
        thread::sleep(self.context.timing.rest());
        for who in names {
            self.who.clone_from(&who);
            self.pump_what_has_come(&who, Duration::ZERO)?;
            let is_shared = self.context.shared;
            let queues = self.conns.get(&who).map(|conn| &conn.queues);
            let mut unasked = queues.into_iter().flatten().flatten();
            let message = unasked.find(|message| {
                // The rest of a list that is long for others' sake.
                let names = message.body["names"].as_array();
                let is_rest = message.kind == "members" && names.is_none_or(|n| n.is_empty());
                let is_expected = is_shared && is_rest || self.is_due(message);
                !is_expected
            });
            if let Some(message) = message {
                let sentence = format!("{who} received a message that no step expects");
                let mut problem = Problem::new(Kind::WrongAnswer, &[], sentence).showing(message);
                problem.place = Place::End;
                return Err(problem.into());
            }
        }
        Ok(())
    }
}
