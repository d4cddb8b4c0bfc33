//! `chat-client`: joins a chat from a terminal or a script.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use chat::{
    client::app::{self, Exit, Options},
    runtime,
};
use tokio::runtime::Builder;

fn main() -> ExitCode {
    let options = Options::read();
    match runtime::build(&mut Builder::new_current_thread()) {
        Ok(runtime) => runtime.block_on(app::run(&options)).into(),
        Err(error) => {
            let sentence = format!("chat-client: cannot start the event loop: {error}");
            // A caller that closed the error output still gets the exit code.
            let _ = writeln!(io::stderr(), "{sentence}");
            Exit::Failed.into()
        }
    }
}
