"""How many connections one network address may have and make (CHAT-REG-11,
CHAT-REG-12)."""

import ipaddress
import math
from collections import Counter, deque

from framing import Refused
from schema import chat_pb2 as pb

MINUTE_MS = 60_000
# Beyond so many addresses, how fast they came is forgotten.
ADDRESSES_MAX = 10_000


class Arrivals:
    """0 stands for no limit."""

    def __init__(self, at_a_time_max, a_minute_max):
        self.at_a_time_max = at_a_time_max
        self.a_minute_max = a_minute_max
        self.open = Counter()
        # When the connections of the last minute came.
        self.recent = {}

    def source(self, host):
        """What counts as one address: of IPv6, the first 64 bits."""
        address = ipaddress.ip_address(host.partition("%")[0])
        if address.version == 6:
            return address.ipv4_mapped or int(address) >> 64
        return address

    def come(self, source, now_ms):
        """A connection came; it is refused, or open until gone is called."""
        if self.at_a_time_max and self.open[source] >= self.at_a_time_max:
            raise Refused(
                pb.ERROR_CODE_TOO_MANY_CONNECTIONS,
                "Too many connections are open from your address; close one.",
            )  # CHAT-REG-11
        if self.a_minute_max:
            self.note(source, now_ms)
        self.open[source] += 1

    def note(self, source, now_ms):
        if len(self.recent) >= ADDRESSES_MAX:
            self.recent.clear()
        recent = self.recent.setdefault(source, deque())
        while recent and now_ms - recent[0] >= MINUTE_MS:
            recent.popleft()
        if len(recent) >= self.a_minute_max:
            raise Refused(
                pb.ERROR_CODE_CONNECTING_TOO_FAST,
                "Too many connections came from your address; wait for retry_after_ms.",
                retry_after_ms=max(1, math.ceil(MINUTE_MS - (now_ms - recent[0]))),
            )  # CHAT-REG-12
        recent.append(now_ms)

    def gone(self, source):
        self.open[source] -= 1
        if self.open[source] == 0:
            del self.open[source]
