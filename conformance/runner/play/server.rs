//! Server steps: checking the members that it names and that it still serves,
//! restarting and stopping it.

use std::time::Instant;

use serde_json::json;

use super::{Outcome, Play, StepError, Subject};
use crate::{
    conn::Event,
    control_command::ControlCommand,
    framing,
    messages::{self, Envelope},
    problem::Problem,
    register::leave,
    server_under_test::ServerUnderTest,
    transcript::print,
    verdict::Kind,
};

impl Play<'_> {
    pub(super) fn finds(&mut self, who: &str, names: &[String]) -> Outcome {
        let mut wanted = Vec::new();
        for name in names {
            match name.as_str() {
                "<crowd>" => wanted.extend(self.crowd_names.iter().cloned()),
                name => wanted.push(self.bindings.fill_text(name)?),
            }
        }
        let mut found = self.conn(who)?.members.0.clone();
        wanted.sort();
        found.sort();
        if wanted == found {
            return Ok(());
        }
        self.expected = format!("{who} finds {}", wanted.join(", "));
        let mut problem = Problem::new(Kind::WrongAnswer, &[], "Members named others");
        problem.received = print::message("members", &json!({ "names": found }));
        Err(problem.into())
    }

    /// Two fresh members come, one hears the other, both go.
    pub(super) fn still_serves(&mut self) -> Outcome {
        let names = ["fresha", "freshb"];
        for who in names {
            let name = self.context.mark.name(who);
            self.helpers.push(name.clone());
            self.join(who, &name, &[], false)?;
        }
        self.helpers.clear();
        let envelope = messages::encode(
            Envelope::Client,
            "chat",
            &json!({"text": "still here"}),
            &[],
            &[],
        )?;
        let frame = framing::frame(&envelope);
        let conn = self.conn(names[0])?;
        conn.send(&frame, 1, "chat \"still here\"")?;
        conn.flush()?;
        let deadline = self.until();
        let Some(message) = self.take(names[1], 1, deadline, true)? else {
            return Err(self.silent(names[1]).into());
        };
        if message.kind != "chat" || message.body["text"] != "still here" {
            return Err(self.unexpected(names[1], &message).into());
        }
        for who in names {
            self.helpers.push(self.context.mark.name(who));
        }
        for who in names {
            if let Some(mut conn) = self.conns.remove(who) {
                conn.send(&leave()?, 1, "leave")?;
                conn.flush()?;
                let deadline = self.until();
                while let Ok(Event::Message(_)) = conn.next(deadline) {}
                self.keep_trace(who, Some(conn));
            }
        }
        Ok(())
    }

    /// A fresh member comes, sends a chat and leaves. Returns its name.
    pub(super) fn helper_says(&mut self, text: &str) -> Result<String, StepError> {
        let who = "freshc";
        let name = self.context.mark.name(who);
        self.helpers.push(name.clone());
        self.join(who, &name, &[], false)?;
        let chat = messages::encode(Envelope::Client, "chat", &json!({"text": text}), &[], &[])?;
        let deadline = self.until();
        if let Some(mut conn) = self.conns.remove(who) {
            conn.send(&framing::frame(&chat), 1, "chat")?;
            conn.send(&leave()?, 1, "leave")?;
            conn.flush()?;
            while let Ok(Event::Message(_)) = conn.next(deadline) {}
            self.keep_trace(who, Some(conn));
        }
        Ok(name)
    }

    /// Ends the server and starts it anew.
    pub(super) fn restart(&mut self) -> Outcome {
        self.conns.clear();
        match &mut self.subject {
            Subject::Server(server) => Ok(server.restart()?),
            Subject::Client(_) => Err(StepError::Fault(
                "a client case has no server to start".to_owned(),
            )),
        }
    }

    /// Starts the server with what it kept.
    pub(super) fn comes_back(&mut self) -> Outcome {
        self.conns.clear();
        match &mut self.subject {
            Subject::Server(server) => Ok(server.come_back()?),
            Subject::Client(_) => Err(StepError::Fault(
                "a client case has no server to start".to_owned(),
            )),
        }
    }

    /// Ends the server as a crash does.
    pub(super) fn kill_server(&mut self) -> Outcome {
        let deadline = self.until();
        match &mut self.subject {
            Subject::Server(ServerUnderTest {
                process: Some(process),
                ..
            }) => {
                process.kill(deadline);
                Ok(())
            }
            _ => Err(StepError::NotRun(
                "the suite can kill only a server that it started with --cmd".to_owned(),
            )),
        }
    }

    pub(super) fn stop_server(&mut self) -> Outcome {
        match &mut self.subject {
            Subject::Server(ServerUnderTest {
                process: Some(process),
                ..
            }) => {
                process.terminate();
                Ok(())
            }
            _ => Err(StepError::NotRun(
                "the suite can stop only a server that it started with --cmd".to_owned(),
            )),
        }
    }

    /// The operator acts on the server.
    pub(super) fn operate(&mut self, words: &str) -> Outcome {
        let words = self.bindings.fill_text(words)?;
        let deadline = self.until();
        let (Subject::Server(server), Some(command)) = (&self.subject, self.context.control) else {
            return Err(StepError::NotRun(ControlCommand::MISSING.to_owned()));
        };
        command
            .run(server, &words, deadline)
            .map_err(StepError::NotRun)
    }

    pub(super) fn server_ends(&mut self) -> Outcome {
        let shutdown = self.context.timing.shutdown();
        let deadline = Instant::now() + shutdown;
        self.deadline += shutdown;
        let Subject::Server(ServerUnderTest {
            process: Some(process),
            ..
        }) = &mut self.subject
        else {
            return Err(StepError::NotRun(
                "the suite can watch only a server that it started with --cmd".to_owned(),
            ));
        };
        match process.wait(deadline) {
            Some(_) => Ok(()),
            None => Err(Problem::new(
                Kind::Hang,
                &[],
                "the server has not ended within 5 seconds of being told to",
            )
            .into()),
        }
    }
}
