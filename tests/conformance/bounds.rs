//! How long a run takes at the most: against targets that are silent in several ways, a
//! run ends within bounds that a CI system can wait for.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use prost::Message as _;

use chat::wire::{
    self, Capability, ClientEnvelope, ServerEnvelope, client_envelope, server_envelope::Message,
};

use crate::support::{VIOLATES, report};

/// A run by `--cmd`, with eight cases at a time and short deadlines.
const BY_COMMAND_MAX: Duration = Duration::from_secs(120);

/// A run by address, with the defaults.
const BY_ADDRESS_MAX: Duration = Duration::from_secs(4 * 60);

/// A target that answers some of the messages, and is silent after that.
fn silent_after(answers: fn(&ClientEnvelope) -> Vec<Message>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || serve(stream, answers));
        }
    });
    address
}

fn serve(mut stream: TcpStream, answers: fn(&ClientEnvelope) -> Vec<Message>) {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    while let Ok(read @ 1..) = stream.read(&mut chunk) {
        bytes.extend_from_slice(&chunk[..read]);
        // Whole frames only; what is no frame is read and left unanswered.
        let mut left = bytes.as_slice();
        while let Ok(envelope) = ClientEnvelope::decode_length_delimited(&mut left) {
            for message in answers(&envelope) {
                let envelope = ServerEnvelope {
                    message: Some(message),
                };
                let _ = stream.write_all(&envelope.encode_length_delimited_to_vec());
            }
            let rest = left.to_vec();
            bytes = rest;
            left = bytes.as_slice();
        }
    }
}

/// Registers members with all capabilities, and the shortest of the usual deadlines.
fn registers(envelope: &ClientEnvelope) -> Vec<Message> {
    let Some(client_envelope::Message::Register(register)) = &envelope.message else {
        return Vec::new();
    };
    let granted = [
        Capability::Presence,
        Capability::Receipts,
        Capability::Keepalive,
    ];
    let asked = |c: &Capability| register.capabilities.contains(&i32::from(*c));
    let granted: Vec<Capability> = granted.into_iter().filter(asked).collect();
    let mut messages = vec![Message::Registered(wire::Registered {
        name: register.name.clone(),
        epoch: "e".to_owned(),
        capabilities: granted.iter().map(|&c| c.into()).collect(),
        limits: Some(wire::Limits {
            frame_bytes_max: 8192,
            text_bytes_max: 4096,
            name_bytes_max: 32,
            chat_burst: 100,
            chat_interval_ms: 100,
            register_deadline_ms: 1500,
            keepalive_interval_ms: 500,
            idle_deadline_ms: 1500,
            write_deadline_ms: 1500,
            lag_bytes_max: 1 << 20,
            frames_per_second_max: 200,
            bytes_per_second_max: 1 << 20,
            name_check_deadline_ms: 500,
            errors_max: 300,
            ..Default::default()
        }),
        ..Default::default()
    })];
    if granted.contains(&Capability::Presence) {
        messages.push(Message::Members(wire::Members {
            names: vec![register.name.clone()],
            more: false,
        }));
    }
    messages
}

fn ends_within(bound: Duration, arguments: &[&str]) {
    let began = Instant::now();
    let (ran, report) = report(arguments);
    assert_eq!(ran.code, VIOLATES, "{arguments:?}: {}", ran.stderr);
    assert!(
        began.elapsed() < bound,
        "{arguments:?}: {:?}",
        began.elapsed()
    );
    assert!(report["counts"]["failed"].as_u64() > Some(0));
}

/// The long wait is at a target that registers members, and sends nothing after that: the
/// suite cannot know that each further case fails as well.
#[test]
#[ignore = "takes minutes"]
fn a_run_by_address_ends_within_four_minutes() {
    for target in [silent_after(|_| Vec::new()), silent_after(registers)] {
        ends_within(BY_ADDRESS_MAX, &["server", &target]);
    }
}

#[test]
#[ignore = "takes minutes"]
fn a_run_by_command_ends_within_two_minutes() {
    // The command is a relay to a target in this process.
    for target in [silent_after(|_| Vec::new()), silent_after(registers)] {
        let command = format!("sh -c 'echo listening on chat://{target}; exec sleep 600'");
        ends_within(
            BY_COMMAND_MAX,
            &["server", "--cmd", &command, "--jobs", "8"],
        );
    }
}

/// A client that connects, or registers, and then is silent.
#[test]
#[ignore = "takes minutes"]
fn a_run_of_a_client_ends_within_two_minutes() {
    let connect =
        "import socket,sys,time; s=socket.create_connection(sys.argv[1][7:].rsplit(':',1));";
    let register = "n=sys.argv[2].encode(); b=bytes([10,len(n)])+n; e=bytes([18,len(b)])+b; s.sendall(bytes([len(e)])+e);";
    for script in [
        "import time;".to_owned(),
        connect.to_owned(),
        format!("{connect} {register}"),
    ] {
        let command = format!("python3 -c \"{script} time.sleep(600)\" {{address}} {{name}}");
        ends_within(
            BY_COMMAND_MAX,
            &["client", "--cmd", &command, "--jobs", "8"],
        );
    }
}
