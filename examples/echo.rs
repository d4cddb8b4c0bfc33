//! A bot that repeats what follows `!echo`:
//! `cargo run --example echo chat://127.0.0.1:PORT`.

use std::{env, error::Error};

use chat::client::{Event, Session};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = env::args().nth(1).ok_or("usage: echo ADDRESS")?;
    run(&address).await
}

/// Takes part until the session ends.
pub async fn run(address: &str) -> Result<(), Box<dyn Error>> {
    let mut session = Session::connect(address, "echo").await?;
    while let Some(event) = session.next().await {
        match event {
            Event::Message { text, .. } => {
                if let Some(words) = text.strip_prefix("!echo ").filter(|it| !it.is_empty()) {
                    session.send(words).await?;
                }
            }
            Event::Ended(ended) => println!("the session is over: {:?}", ended.ending),
            _ => {}
        }
    }
    Ok(())
}
