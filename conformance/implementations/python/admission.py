"""Admission: the password and the list of names, read from files (CHAT-ADM)."""

import os
import re
from pathlib import Path

PASSWORD_BYTES_MAX = 256
CONTROL = re.compile("[\u0000-\u001f\u007f-\u009f]")


def read_password(path):
    """The password in a file; one line break at its end is not part of it. The
    environment may hold it instead. Without either: no password, which is empty.
    Never an option, because every user of the machine can read those."""
    if path is None:
        password = os.environ.get("CHAT_PASSWORD", "")
    else:
        # Bytes, so that a line break stays the line break that it is.
        password = Path(path).read_bytes().decode().removesuffix("\n").removesuffix("\r")
        if password == "":
            raise ValueError("it is empty")
    if len(password.encode()) > PASSWORD_BYTES_MAX or CONTROL.search(password):
        raise ValueError(
            f"a password is at most {PASSWORD_BYTES_MAX} bytes, without control characters"
        )
    return password


def read_names(path):
    """The list of allowed names: one per line, # begins a comment. Without a file:
    None, all names."""
    if path is None:
        return None
    lines = Path(path).read_text().splitlines()
    names = [name for line in lines if (name := line.partition("#")[0].strip())]
    if not names:
        raise ValueError("it holds no name, so no client could enter")
    return names
