"""Arithmetic on P-256, to recover the key under which a signature verifies a message."""

from __future__ import annotations

import hashlib

from cryptography.hazmat.primitives.asymmetric import ec

P = 0xFFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF
N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
Point = tuple[int, int]


def add(a: Point | None, b: Point | None) -> Point | None:
    """Return the sum of two points; None is the point at infinity."""
    if a is None or b is None:
        return a or b
    if a[0] == b[0] and (a[1] + b[1]) % P == 0:
        return None
    slope = (3 * a[0] * a[0] - 3) * pow(2 * a[1], -1, P) % P if a == b else (b[1] - a[1]) * pow(b[0] - a[0], -1, P) % P
    x = (slope * slope - a[0] - b[0]) % P
    return x, (slope * (a[0] - x) - a[1]) % P


def multiply(k: int, point: Point | None) -> Point | None:
    """Return `k` times `point`."""
    total = None
    while k:
        if k & 1:
            total = add(total, point)
        point = add(point, point)
        k >>= 1
    return total


def of_the_base_point(k: int) -> Point | None:
    """Return `k` times the base point, by the library: twice as fast as `multiply`."""
    if k == 0:
        return None
    numbers = ec.derive_private_key(k, ec.SECP256R1()).public_key().public_numbers()
    return numbers.x, numbers.y


def recover(message: bytes, r: int, s: int) -> ec.EllipticCurvePublicKey | None:
    """Return a key Q = (s*R - e*G) / r that verifies (r, s) over `message`; None if r is not the x of a point."""
    if not (0 < r < N and 0 < s < N):
        return None
    square = (pow(r, 3, P) - 3 * r + B) % P
    y = pow(square, (P + 1) // 4, P)
    if y * y % P != square:
        return None
    e = int.from_bytes(hashlib.sha256(message).digest(), "big") % N
    inverse = pow(r, -1, N)
    q = add(multiply(s * inverse % N, (r, y)), of_the_base_point(-e * inverse % N))
    return None if q is None else ec.EllipticCurvePublicNumbers(*q, ec.SECP256R1()).public_key()
