"""Writes chat_pb2.py, the messages of proto/chat.proto as Python classes.

    python generate.py DIRECTORY

This is all that generating takes. The programs here do it by themselves on their
first run (schema.py). Your own program runs this once and then has
`import chat_pb2`.
"""

import sys
from pathlib import Path

PROTO = Path(__file__).resolve().parents[3] / "proto" / "chat.proto"


def generate(directory):
    """Write chat_pb2.py into a directory that exists."""
    # Imported here, so that only generating needs the compiler.
    from grpc_tools import protoc

    arguments = ["protoc", f"--proto_path={PROTO.parent}", f"--python_out={directory}", PROTO.name]
    if protoc.main(arguments) != 0:
        raise RuntimeError(f"protoc could not compile {PROTO}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python generate.py DIRECTORY")
    Path(sys.argv[1]).mkdir(parents=True, exist_ok=True)
    generate(sys.argv[1])
