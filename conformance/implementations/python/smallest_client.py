"""The smallest client: python smallest_client.py chat://127.0.0.1:7000 Alice"""

import os, socket, sys, threading
from google.protobuf.proto import parse_length_prefixed, serialize_length_prefixed
from schema import chat_pb2 as pb

host, port = sys.argv[1].removeprefix("chat://").rsplit(":", 1)
stream = socket.create_connection((host, int(port))).makefile("rwb")

def send(**message):
    serialize_length_prefixed(pb.ClientEnvelope(**message), stream)
    stream.flush()

def send_lines():
    for line in sys.stdin:
        send(chat=pb.Chat(text=line.rstrip("\n")))
    send(leave=pb.Leave())

send(register=pb.Register(name=sys.argv[2]))
while received := parse_length_prefixed(pb.ServerEnvelope, stream):
    match received.WhichOneof("message"):
        case "registered":
            threading.Thread(target=send_lines, daemon=True).start()
        case "chat":
            print(f"@{received.chat.sender}: {received.chat.text}", flush=True)
        case "error":
            print(received.error.detail, file=sys.stderr, flush=True)
            if received.error.ends_session:
                os._exit(1)
        case "server_closing":
            break
os._exit(0)  # at once, although a thread may still wait for a line to be typed
