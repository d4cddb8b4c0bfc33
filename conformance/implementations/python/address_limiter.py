"""Address limiter: how many connections one network address may have open and how
many it may make per minute (CHAT-REG-11, CHAT-REG-12)."""

import ipaddress
import math
from collections import Counter, deque

from framing import Refused
from schema import chat_pb2 as pb

MINUTE_MS = 60_000
# Above so many addresses, the limiter forgets when connections arrived.
ADDRESSES_MAX = 10_000


class AddressLimiter:
    """A limit of 0 means no limit."""

    def __init__(self, at_a_time_max, a_minute_max):
        self.at_a_time_max = at_a_time_max
        self.a_minute_max = a_minute_max
        self.open = Counter()
        # When the connections of the last minute arrived, per address.
        self.recent = {}

    def key(self, host):
        """The key that counts as one address: the first 64 bits of IPv6."""
        address = ipaddress.ip_address(host.partition("%")[0])
        if address.version == 6:
            return address.ipv4_mapped or int(address) >> 64
        return address

    def acquire(self, key, now_ms):
        """Count a new connection, or refuse it. It counts as open until release."""
        if self.at_a_time_max and self.open[key] >= self.at_a_time_max:
            raise Refused(
                pb.ERROR_CODE_TOO_MANY_CONNECTIONS,
                "Too many connections are open from your address; close one.",
            )  # CHAT-REG-11
        if self.a_minute_max:
            self.note(key, now_ms)
        self.open[key] += 1

    def note(self, key, now_ms):
        if len(self.recent) >= ADDRESSES_MAX:
            self.recent.clear()
        recent = self.recent.setdefault(key, deque())
        while recent and now_ms - recent[0] >= MINUTE_MS:
            recent.popleft()
        if len(recent) >= self.a_minute_max:
            raise Refused(
                pb.ERROR_CODE_CONNECTING_TOO_FAST,
                "Too many connections came from your address; wait for retry_after_ms.",
                retry_after_ms=max(1, math.ceil(MINUTE_MS - (now_ms - recent[0]))),
            )  # CHAT-REG-12
        recent.append(now_ms)

    def release(self, key):
        self.open[key] -= 1
        if self.open[key] == 0:
            del self.open[key]
