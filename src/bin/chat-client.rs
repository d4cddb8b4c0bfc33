//! `chat-client`: joins a chat from a terminal or a script.

use std::process::ExitCode;

use chat::client::app::{self, Exit, Options};

fn main() -> ExitCode {
    let options = Options::read();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    match runtime {
        Ok(runtime) => runtime.block_on(app::run(&options)).into(),
        Err(error) => {
            eprintln!("chat-client: this system gives no event loop: {error}");
            Exit::Failed.into()
        }
    }
}
