"""Ed25519 keys: the proof that a name is one's own (CHAT-ID).

Signing in plain Python, after RFC 8032, so that the client needs no package for it. It is
slow and takes time that depends on the key: good enough for a person who registers now and
then on a machine of their own, and for nothing else.
"""

import hashlib
import os
import stat

# What is signed begins so (CHAT-ID-5).
TAG = b"chat.v1 proof\0"
HEAD = "chat-secret-key"

P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
BASE_Y = 4 * pow(5, P - 2, P) % P


def _recover_even_x(y):
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P)
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    return P - x if x % 2 else x


BASE_X = _recover_even_x(BASE_Y)
# Points are (X, Y, Z, T) with x = X/Z, y = Y/Z and x*y = T/Z.
BASE = (BASE_X, BASE_Y, 1, BASE_X * BASE_Y % P)


def _add(p, q):
    a = (p[1] - p[0]) * (q[1] - q[0]) % P
    b = (p[1] + p[0]) * (q[1] + q[0]) % P
    c = 2 * p[3] * q[3] * D % P
    d = 2 * p[2] * q[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return (e * f % P, g * h % P, f * g % P, e * h % P)


def _multiply(factor, point):
    product = (0, 1, 1, 0)
    while factor:
        if factor & 1:
            product = _add(product, point)
        point = _add(point, point)
        factor >>= 1
    return product


def _compressed(point):
    inverse = pow(point[2], P - 2, P)
    x, y = point[0] * inverse % P, point[1] * inverse % P
    return (y | (x & 1) << 255).to_bytes(32, "little")


def _hashed(*parts):
    return int.from_bytes(hashlib.sha512(b"".join(parts)).digest(), "little")


class Key:
    def __init__(self, secret):
        if len(secret) != 32:
            raise ValueError("a secret key is 32 bytes")
        digest = hashlib.sha512(secret).digest()
        self._scalar = int.from_bytes(digest[:32], "little") & (1 << 254) - 8 | 1 << 254
        self._prefix = digest[32:]
        self.public = _compressed(_multiply(self._scalar, BASE))

    def sign(self, message):
        nonce = _hashed(self._prefix, message) % ORDER
        commitment = _compressed(_multiply(nonce, BASE))
        challenge = _hashed(commitment, self.public, message) % ORDER
        answer = (nonce + challenge * self._scalar) % ORDER
        return commitment + answer.to_bytes(32, "little")

    def prove(self, challenge, name):
        """The signature in Proof."""
        epoch = challenge.epoch.encode()
        parts = TAG, challenge.nonce, bytes([len(epoch)]), epoch, name.encode()
        return self.sign(b"".join(parts))


def read_key(path):
    """The key in a file of the form that chat-client keeps; a new one if there is none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        secret = os.urandom(32)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w") as file:
            file.write(f"{HEAD} {secret.hex()}\n")
        return Key(secret)
    with open(descriptor) as file:
        if stat.S_IMODE(os.fstat(descriptor).st_mode) & 0o077:
            raise ValueError("others may read it")
        head, digits = file.read(1024).split()
    if head != HEAD:
        raise ValueError("it holds no key")
    return Key(bytes.fromhex(digits))
