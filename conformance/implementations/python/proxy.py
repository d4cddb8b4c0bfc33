"""A proxy in front of a server that breaks one rule on purpose.

    python proxy.py --mutant NAME SERVER [OPTION...]

It starts the server on a port of its own, passes every message on, and changes what its mutant changes. It is
no example of anything: it shows that the conformance suite notices.
"""

import argparse
import asyncio
import signal
import sys
import tempfile

from framing import FrameReader, encode, parse
from mutants import proxy_corners, proxy_tired  # noqa: F401 (register their mutants)
from mutants.proxy import PROXY_MUTANTS, Link
from schema import chat_pb2 as pb

LISTENING = "listening on chat://"
FRAME_BYTES_MAX = 2**24
CHUNK_BYTES = 2**16
# How long a mutant waits for the server to read what a cut stream ended with.
CUT_SHORT_SECONDS = 0.05


async def pump(reader, writer, envelope_class, change, is_cut, cut_short):
    """Pass messages on, until the stream ends or the mutant cuts it."""
    frames = FrameReader()

    async def finish():
        for envelope in cut_short(bytes(frames._bytes)):
            writer.write(encode(envelope))
            # The server reads it before it sees that the connection is gone.
            await asyncio.sleep(CUT_SHORT_SECONDS)

    try:
        while data := await reader.read(CHUNK_BYTES):
            frames.feed(data)
            while (body := frames.next_body(FRAME_BYTES_MAX)) is not None:
                for envelope in change(parse(envelope_class, body)):
                    writer.write(encode(envelope))
                if is_cut():
                    writer.transport.abort()
                    return
            await writer.drain()
    except OSError:
        # The reader tells of a reset before it gives what came until then.
        frames.feed(reader._buffer)
        await finish()
        raise
    await finish()
    writer.write_eof()


async def serve(reader, writer, server, link):
    server_reader, server_writer = await asyncio.open_connection(*server)
    is_cut = lambda: link.cuts  # noqa: E731
    pumps = [
        asyncio.create_task(
            pump(
                reader,
                server_writer,
                pb.ClientEnvelope,
                link.from_client,
                is_cut,
                link.cut_short,
            )
        ),
        asyncio.create_task(
            pump(
                server_reader,
                writer,
                pb.ServerEnvelope,
                link.from_server,
                lambda: False,
                lambda rest: [],
            )
        ),
    ]
    try:
        # The server decides when a conversation is over, and so does a lost connection.
        done, _ = await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        if pumps[1] not in done and not pumps[0].exception() and not link.cuts:
            await pumps[1]
    except OSError:
        pass
    finally:
        for task in pumps:
            task.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
        server_writer.transport.abort()
        writer.close()


async def run(options):
    mutant = Link if options.mutant == "none" else PROXY_MUTANTS.find(options.mutant)
    command = list(options.server)
    if mutant.forgets:
        folder = command.index("--data") + 1
        command[folder] = tempfile.mkdtemp(dir=command[folder])
    # In our process group: what ends us ends it.
    child = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    line = (await child.stdout.readline()).decode().strip()
    if not line.startswith(LISTENING):
        sys.exit(f"the server said {line!r} first")
    host, _, port = line.removeprefix(LISTENING).rpartition(":")
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, lambda: None)
    shared = {}

    async def accept(reader, writer):
        await serve(reader, writer, (host, int(port)), mutant(shared))

    listener = await asyncio.start_server(accept, "127.0.0.1", 0)
    host_port = "{}:{}".format(*listener.sockets[0].getsockname()[:2])
    print(f"{LISTENING}{host_port}", flush=True)
    # A signal reaches the server as well, since it goes to the group.
    await child.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mutant", metavar="NAME")
    parser.add_argument("--list-mutants", action="store_true")
    parser.add_argument("server", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    if options.list_mutants:
        print(PROXY_MUTANTS.listing(), end="")
        return
    if not options.mutant or not options.server:
        parser.error("give --mutant and the server's command line")
    asyncio.run(run(options))


if __name__ == "__main__":
    main()
