"""Servers that break one rule each, reliably, and as little else as possible."""

from connection import Connection
from mutants import (  # noqa: F401 (each registers its mutants)
    server_admission,
    server_capabilities,
    server_chatting,
    server_corners,
    server_ending,
    server_frames,
    server_growing,
    server_registering,
    server_tired,
)
from mutants.server_parts import SERVER_MUTANTS
from room import Room
from server import Server
from session import Session


def classes_of(name):
    """The classes of room, connection and server that make up a mutant. Its base class
    tells which of them it replaces; session_class, frame_reader_class and
    connection_class name further parts that it replaces."""
    mutant_class = SERVER_MUTANTS.find(name)
    connection_class = getattr(mutant_class, "connection_class", Connection)
    if issubclass(mutant_class, Connection):
        return Room, mutant_class, Server
    if issubclass(mutant_class, Server):
        return Room, connection_class, mutant_class
    if issubclass(mutant_class, Room):
        return mutant_class, connection_class, Server
    if issubclass(mutant_class, Session):
        return (
            Room,
            type("MutantConnection", (Connection,), {"session_class": mutant_class}),
            Server,
        )
    parts = {"frame_reader_class": mutant_class}
    return Room, type("MutantConnection", (Connection,), parts), Server
