//! Trace: everything that happens in a run, line by line. Off unless a test reads it.

use std::{cell::RefCell, fmt::Arguments, rc::Rc};

/// A trace. It survives a panic of the run.
#[derive(Clone, Default)]
pub(super) struct Trace(Option<Rc<RefCell<String>>>);

impl Trace {
    pub(super) fn on() -> Self {
        Self(Some(Rc::default()))
    }

    pub(super) fn line(&self, line: Arguments<'_>) {
        if let Some(text) = &self.0 {
            let mut text = text.borrow_mut();
            text.push_str(&line.to_string());
            text.push('\n');
        }
    }

    pub(super) fn text(&self) -> String {
        self.0
            .as_ref()
            .map_or(String::new(), |text| text.borrow().clone())
    }
}
