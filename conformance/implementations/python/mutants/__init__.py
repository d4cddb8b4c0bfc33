"""A registry of mutants: implementations that break one rule each, on purpose.

They prove that the conformance suite bites: run against a mutant, the case of
the rule must fail. A mutant is a subclass of the correct code that overrides
a method or two, so the correct code knows nothing of mutants.

`server.py --list-mutants` and `client.py --list-mutants` print them, one a line:
name, rule, description, with tabs between.
"""

import sys


class Mutants:
    def __init__(self):
        # name -> (rule, description, class)
        self._mutants = {}

    def mutant(self, name, rule, description):
        """Registers the class below it."""

        def register(mutant_class):
            if name in self._mutants:
                raise ValueError(f"two mutants are called {name}")
            self._mutants[name] = (rule, description, mutant_class)
            return mutant_class

        return register

    def find(self, name):
        if name not in self._mutants:
            sys.exit(f"there is no mutant {name}; --list-mutants lists all")
        return self._mutants[name][2]

    def rule_by_name(self):
        return {name: rule for name, (rule, _, _) in self._mutants.items()}

    def rules(self):
        return set(self.rule_by_name().values())

    def listing(self):
        lines = (f"{name}\t{m[0]}\t{m[1]}\n" for name, m in sorted(self._mutants.items()))
        return "".join(lines)


# MUST rules without a mutant, each with the reason.
NO_MUTANT = {
    # A full disk is not brought about over the wire.
    "CHAT-HIST-9": "no case fills the disk of a server",
    # An outside observer of a server cannot tell these.
    "CHAT-FILE-11": "only the server knows what is due",
    "CHAT-FILE-14": "only the server knows its space",
    "CHAT-FILE-15": "a server may take pieces slowly",
    "CHAT-FILE-17": "nobody else knows what was dropped",
    "CHAT-FILE-19": "no case asks a client for a file",
    "CHAT-FILE-20": "no case asks a client for a file",
    "CHAT-DM-14": "no case asks a client for a Direct",
    "CHAT-COV-6": "no case asks a client for a filter",
    # Several servers are no one server at an address.
    "CHAT-CLUS-1": "no case cuts a server off the others",
    "CHAT-CLUS-2": "no case cuts a server off the others",
    **{f"CHAT-WS-{n}": "the suite speaks no WebSocket" for n in range(2, 10)},
}
