//! A recorded conversation, with today's program on one side of it.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
};

use serde_json::Value;

use crate::{
    conversation::{Conversation, Step, body, read_frame},
    record::{CLIENT, Client, start_server},
    schema::{Schema, steady},
    support::PATIENCE,
};

/// Says again what the old clients said; what comes back is what came then, as far as
/// the old clients can tell.
pub fn against_server(conversation: &Conversation, schema: &Schema) {
    let mut server = start_server(&conversation.server, conversation.password.as_deref());
    let mut connections = BTreeMap::new();
    for (at, step) in conversation.steps.iter().enumerate() {
        let mut connection = |who: &String| {
            let connect = || {
                let stream = TcpStream::connect(server.address).expect("the server accepts");
                stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
                stream
            };
            let stream = connections.entry(who.clone()).or_insert_with(connect);
            stream.try_clone().expect("it is open")
        };
        match step {
            Step::Sent { who, bytes } => {
                connection(who).write_all(bytes).expect("the server reads")
            }
            Step::SentEnd { who } => {
                // The server may have closed it already.
                let _ = connection(who).shutdown(Shutdown::Write);
            }
            Step::Received { who, bytes } => {
                let frame = read_frame(&mut connection(who)).expect("a frame");
                let frame = frame.unwrap_or_else(|| panic!("step {at}: {who} is closed"));
                let [then, now] =
                    [bytes, &frame].map(|frame| schema.server(body(frame)).map(steady));
                assert_eq!(now, then, "step {at}, to {who}");
            }
            Step::ReceivedEnd { who } => {
                let mut rest = Vec::new();
                // A reset after the last frame is an end too.
                let _ = connection(who).read_to_end(&mut rest);
                assert!(rest.is_empty(), "step {at}: {who} is sent {rest:02x?}");
            }
            Step::Typed { .. } | Step::InputEnd => {}
            Step::Stop => server.signal("TERM"),
        }
    }
    if conversation.steps.contains(&Step::Stop) {
        assert_eq!(server.wait().code(), Some(0));
    }
}

/// Says to today's client what the old server said; it says what the old client said,
/// as far as the old server can tell, and comes to the same end.
pub fn against_client(conversation: &Conversation, schema: &Schema) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let mut client = Client::start(conversation, address);
    let (mut stream, _) = listener.accept().expect("the client connects");
    stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
    for (at, step) in conversation.steps.iter().enumerate() {
        match step {
            Step::Typed { line } => client.type_line(line),
            Step::InputEnd => client.end_input(),
            Step::Sent { who, bytes } if who == CLIENT => {
                let frame = read_frame(&mut stream).expect("a frame");
                let frame = frame.unwrap_or_else(|| panic!("step {at}: it has closed"));
                let [then, now] = [bytes, &frame]
                    .map(|frame| schema.client(body(frame)).map(without_new_capabilities));
                assert_eq!(now, then, "step {at}");
            }
            Step::Received { who, bytes } if who == CLIENT => {
                stream.write_all(bytes).expect("the client reads");
            }
            Step::SentEnd { who } if who == CLIENT => {
                assert_eq!(read_frame(&mut stream).ok().flatten(), None, "step {at}");
            }
            Step::ReceivedEnd { who } if who == CLIENT => {
                let _ = stream.shutdown(Shutdown::Write);
            }
            _ => {}
        }
    }
    let (output, exit) = client.finish();
    assert_eq!(output, conversation.output);
    assert_eq!(exit, conversation.exit);
}

/// A client may ask for more than an old server knows of (CHAT-GROW-4).
fn without_new_capabilities(mut message: Value) -> Value {
    if let Some(Value::Array(asked)) = message.pointer_mut("/register/capabilities") {
        asked.retain(Value::is_string);
    }
    message
}
