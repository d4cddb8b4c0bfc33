"""Frames: a length, then that many bytes of one envelope (CHAT-FRAME-1).

Used by the server and the client. Python's own parse_length_prefixed is enough for
a client of a server that you trust (see smallest_client.py). A server must also
check a length before its body arrives, which takes the few lines below.
"""

from schema import chat_pb2 as pb

# Ten bytes of seven bits hold 64 bits (CHAT-FRAME-3, CHAT-FRAME-4).
LENGTH_BYTES_MAX = 10


class Refused(Exception):
    """The other end sent something that must be refused: the error code for a
    program and a sentence for a person. The server answers with an Error."""

    def __init__(self, code, detail, retry_after_ms=0):
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.retry_after_ms = retry_after_ms
        # The id of the refused Chat, if it is a Chat (CHAT-ERR-4).
        self.chat_id = 0


def encode_length(length):
    """A base-128 varint in the fewest bytes (CHAT-FRAME-2)."""
    encoded = bytearray()
    while length > 127:
        encoded.append(length % 128 + 128)
        length //= 128
    encoded.append(length)
    return bytes(encoded)


def encode(envelope):
    """One frame, ready to send (CHAT-FRAME-1)."""
    body = envelope.SerializeToString()
    return encode_length(len(body)) + body


def parse(envelope_class, body):
    """The envelope in a body (CHAT-FRAME-8, CHAT-FRAME-11)."""
    try:
        # protobuf keeps unknown fields aside (CHAT-GROW-3); a string that is not
        # valid UTF-8 does not parse.
        return envelope_class.FromString(body)
    except Exception as problem:
        # The kind of exception depends on how protobuf was built: DecodeError from
        # its C code, UnicodeDecodeError and others from its Python code.
        raise Refused(
            pb.ERROR_CODE_MALFORMED_FRAME,
            f"The body of a frame is not a {envelope_class.DESCRIPTOR.name}; "
            "check how it is encoded, and that strings are valid UTF-8.",
        ) from problem


class FrameReader:
    """Turns bytes into the bodies of frames.

    It looks only at the bytes that it received so far, never at how the transport
    split them (CHAT-FRAME-7). It never returns a frame that the end of the stream
    cut short (CHAT-FRAME-9).
    """

    def __init__(self):
        self._bytes = bytearray()

    def feed(self, data):
        self._bytes += data

    def inside_frame(self):
        """Whether a frame has begun and not ended (CHAT-FRAME-10). Call it after
        next_body returned None."""
        return len(self._bytes) > 0

    def next_body(self, bytes_max):
        """The body of the next frame, or None until more bytes arrive. The bound may
        change from frame to frame (CHAT-FRAME-6)."""
        length, prefix_bytes = self._decode_length()
        if length is None:
            return None
        self.check_length(length, bytes_max)
        end = prefix_bytes + length
        if len(self._bytes) < end:
            return None
        body = bytes(self._bytes[prefix_bytes:end])
        del self._bytes[:end]
        return body

    def check_length(self, length, bytes_max):
        """Check a length as soon as it is complete, so that no client can make the
        server wait for, or store, a body that is too long (CHAT-FRAME-5)."""
        if length > bytes_max:
            raise Refused(
                pb.ERROR_CODE_FRAME_TOO_LONG,
                f"A frame of {length} bytes is above the {bytes_max} bytes allowed here; "
                "send shorter messages.",
            )

    def _decode_length(self):
        """The length at the start of the bytes and how many bytes it takes, or
        (None, 0) while its last byte is missing (CHAT-FRAME-4)."""
        length = 0
        for position, byte in enumerate(self._bytes[:LENGTH_BYTES_MAX]):
            length += (byte % 128) << (7 * position)
            if byte < 128:
                if length >= 2**64:
                    break
                return length, position + 1
        else:
            if len(self._bytes) < LENGTH_BYTES_MAX:
                return None, 0
        raise Refused(
            pb.ERROR_CODE_MALFORMED_FRAME,
            "A length does not end within ten bytes or does not fit in 64 bits; "
            "write a base-128 varint before each envelope.",
        )
