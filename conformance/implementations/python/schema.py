"""The generated messages: `from schema import chat_pb2`.

They are generated on the first run and kept in .generated/ next to this file, in
one directory per content of the schema and version of protobuf, so that they are
never stale. If that directory is not writable, every run generates them in a
temporary directory.
"""

import hashlib
import importlib
import os
import shutil
import sys
import tempfile
from pathlib import Path

import google.protobuf

from generate import PROTO, generate

CACHE = Path(__file__).resolve().parent / ".generated"


def _import_from(directory):
    sys.path.insert(0, str(directory))
    try:
        importlib.invalidate_caches()
        return importlib.import_module("chat_pb2")
    finally:
        sys.path.remove(str(directory))


def _generate_into_cache(directory):
    """Create the directory atomically, so that it is always complete, even if
    several first runs race. The loser of the race discards its work."""
    CACHE.mkdir(exist_ok=True)
    unfinished = tempfile.mkdtemp(dir=CACHE)
    try:
        generate(unfinished)
        try:
            os.rename(unfinished, directory)
        except OSError:
            if not directory.is_dir():
                raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _load():
    content = PROTO.read_bytes() + google.protobuf.__version__.encode()
    directory = CACHE / hashlib.sha256(content).hexdigest()[:16]
    if not directory.is_dir():
        try:
            _generate_into_cache(directory)
        except OSError:
            with tempfile.TemporaryDirectory() as elsewhere:
                generate(elsewhere)
                return _import_from(elsewhere)
    return _import_from(directory)


chat_pb2 = _load()
