//! Options for scripts: lines of JSON, one text, the members, joins and leaves.

use chat::wire::{Capability, ErrorCode, Joined, Left, LeftReason, Register};

use crate::fake::{Peer, Server, ToClient};
use crate::program::{Outcome, Program};

fn start(server: &Server, options: &[&str]) -> (Program, Peer, Register) {
    let address = server.address();
    let arguments = [&[&*address, "Alice"], options].concat();
    let program = Program::start(&arguments);
    let (peer, register) = server.welcome();
    (program, peer, register)
}

#[track_caller]
fn check(program: Program, code: i32, output: &str, errors: &str) {
    let expected = Outcome {
        code: Some(code),
        output: output.to_owned(),
        errors: errors.to_owned(),
    };
    assert_eq!(program.outcome(), expected);
}

const REGISTERED: &str = "{\"registered\":{\"name\":\"Alice\",\"epoch\":\"e\",\"seq\":\"0\"}}\n";

fn last(ending: &str, refused: u32) -> String {
    format!(
        "{{\"ended\":{{\"ending\":\"{ending}\",\"refused\":{refused},\"unsent\":0,\"unconfirmed\":0}}}}\n"
    )
}

#[test]
fn json_goes_out_and_comes_in() {
    let server = Server::new();
    let (mut program, mut peer, register) = start(&server, &["--json", "--events"]);
    assert!(register.capabilities().any(|it| it == Capability::Presence));
    program.write(
        b"{\"chat\":{\"text\":\"one\",\"id\":\"41\"}}\n\nhi\n{\"chat\":{\"text\":\"rude\"}}\n",
    );
    assert_eq!(peer.accept_chat(), "one");
    let chat = peer.chat();
    assert_eq!(chat.text, "rude");
    peer.refuse(chat.id, ErrorCode::TextInvalid, 0);
    peer.members(&["Alice", "Bob"]);
    peer.send(ToClient::Joined(Joined {
        name: "Eve".to_owned(),
    }));
    peer.send(ToClient::Left(Left {
        name: "Eve".to_owned(),
        reason: LeftReason::Leave.into(),
    }));
    program.write(b"{\"leave\":{}}\n{\"chat\":{\"text\":\"too late\"}}\n");
    peer.leave();
    let output = format!(
        "{REGISTERED}{}{}{}{}{}{}",
        "{\"receipt\":{\"id\":\"41\",\"seq\":\"1\"}}\n",
        "{\"error\":{\"code\":\"ERROR_CODE_TEXT_INVALID\",\"detail\":\"as the server puts it\",\"endsSession\":false,\"id\":\"2\",\"retryAfterMs\":0}}\n",
        "{\"members\":{\"names\":[\"Alice\",\"Bob\"],\"more\":false}}\n",
        "{\"joined\":{\"name\":\"Eve\"}}\n",
        "{\"left\":{\"name\":\"Eve\",\"reason\":\"LEFT_REASON_LEAVE\"}}\n",
        last("LEFT", 2),
    );
    check(
        program,
        7,
        &output,
        "chat-client: not sent: line 3 of the input: expected value at line 1 column 1\n\
         chat-client: not sent: rude - the server does not take this text, write it in another way\n\
         chat-client: lines that may not have arrived: 2 refused\n",
    );
}

#[test]
fn json_tells_a_server_that_closes() {
    let server = Server::new();
    let (program, mut peer, _) = start(&server, &["--json"]);
    peer.say("Bob", "hi");
    peer.closing("bye");
    peer.close();
    let outcome = program.outcome();
    let lines: Vec<&str> = outcome.output.lines().collect();
    assert_eq!(outcome.code, Some(0));
    assert!(lines[1].starts_with(
        "{\"chat\":{\"text\":\"hi\",\"sender\":\"Bob\",\"seq\":\"1\",\"timeUnixMs\":\""
    ));
    assert_eq!(lines[2], "{\"serverClosing\":{\"detail\":\"bye\"}}");
    assert_eq!(lines[3], last("SERVER_CLOSED", 0).trim_end());
    assert_eq!(lines.len(), 4);
}

#[test]
fn one_text_is_sent_and_confirmed() {
    let server = Server::new();
    let (mut program, mut peer, _) = start(&server, &["--send", "build\tdone"]);
    // The input is not read.
    program.write(b"not this\n");
    let chat = peer.chat();
    assert_eq!(chat.text, "build    done");
    peer.say("Bob", "not printed");
    peer.receipt(chat.id);
    peer.leave();
    check(program, 0, "", "");
    let (program, mut peer, _) = start(&server, &["--send", "rude"]);
    let chat = peer.chat();
    peer.refuse(chat.id, ErrorCode::TextInvalid, 0);
    peer.leave();
    assert_eq!(program.outcome().code, Some(7));
}

#[test]
fn the_members_are_printed() {
    for (options, output) in [
        (&["--who"][..], "Bob\ncarol\n"),
        (
            &["--who", "--json"],
            "{\"members\":{\"names\":[\"Bob\",\"carol\"],\"more\":false}}\n",
        ),
    ] {
        let server = Server::new();
        let (program, mut peer, _) = start(&server, options);
        peer.say("Bob", "not printed");
        peer.members(&["carol", "Alice", "Bob"]);
        peer.leave();
        check(program, 0, output, "");
    }
    // A server without presence.
    let server = Server::new();
    let program = Program::start(&[&server.address(), "Alice", "--who"]);
    let (peer, _) = server.welcome_with(crate::fake::limits(), Some(&[]));
    peer.leave();
    check(
        program,
        1,
        "",
        "chat-client: this server does not tell who is here\n",
    );
}

#[test]
fn joins_and_leaves_are_told_on_the_error_output() {
    let server = Server::new();
    let (mut program, mut peer, _) = start(&server, &["--events"]);
    peer.members(&["Alice"]);
    peer.send(ToClient::Joined(Joined {
        name: "Eve".to_owned(),
    }));
    peer.say("Eve", "hi");
    peer.send(ToClient::Left(Left {
        name: "Eve".to_owned(),
        reason: LeftReason::ConnectionLost.into(),
    }));
    program.end_input();
    peer.leave();
    check(
        program,
        0,
        "@Eve: hi\n",
        "chat-client: Eve joined\nchat-client: Eve left (connection lost)\n",
    );
}
