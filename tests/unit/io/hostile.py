"""Behaviours of servers, and the expected result of both HTTP clients."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from typing import NamedTuple

from stackauth_middleware._core.upstream import NoReplyKind
from tests.unit.io.loopback import Exchange

MAX_BYTES = 64 * 1024
OK = "HTTP/1.1 200 OK\r\n"
BOMB = gzip.compress(b"\0" * 10_000_000, 9)


class Case(NamedTuple):
    """The behaviour of a server and the expected result: a status with a body, or no reply."""

    name: str
    conduct: Callable[[Exchange], None]
    outcome: tuple[int, bytes] | NoReplyKind


def header_drip(exchange: Exchange) -> None:
    exchange.drip(OK + "x-slow: " + "o" * 4000)


def many_headers_drip(exchange: Exchange) -> None:
    exchange.send(OK)
    for at in range(4000):
        exchange.send(f"x-{at}: 1\r\n")
        exchange.hold(0.05)


def continue_drip(exchange: Exchange) -> None:
    for _ in range(4000):
        exchange.send("HTTP/1.1 100 Continue\r\n\r\n")
        exchange.hold(0.05)


def body_drip(exchange: Exchange) -> None:
    exchange.send(OK, "Content-Length: 4000\r\n\r\n")
    exchange.drip("{" * 4000)


def chunk_drip(exchange: Exchange) -> None:
    exchange.send(OK, "Transfer-Encoding: chunked\r\n\r\n")
    exchange.drip("1\r\nx\r\n" * 4000)


def silence(exchange: Exchange) -> None:
    exchange.hold()


def silence_in_the_body(exchange: Exchange) -> None:
    exchange.send(OK, "Content-Length: 100\r\n\r\n", "half of it")
    exchange.hold()


def whole(exchange: Exchange) -> None:
    exchange.reply(b"whole")


def chunked(exchange: Exchange) -> None:
    exchange.send(OK, "Transfer-Encoding: chunked\r\n\r\n3\r\nwho\r\n2;x=y\r\nle\r\n0\r\n\r\n")


def until_closed(exchange: Exchange) -> None:
    exchange.send(OK, "\r\n", "whole")
    exchange.close()


def exactly_the_limit(exchange: Exchange) -> None:
    exchange.reply(b"x" * MAX_BYTES)


def one_over_the_limit(exchange: Exchange) -> None:
    exchange.reply(b"x" * (MAX_BYTES + 1))


def twenty_megabytes(exchange: Exchange) -> None:
    exchange.reply(b"x" * 20_000_000)


def twenty_megabytes_in_chunks(exchange: Exchange) -> None:
    exchange.send(OK, "Transfer-Encoding: chunked\r\n\r\n")
    for _ in range(20):
        exchange.send(f"{1_000_000:x}\r\n", b"x" * 1_000_000, "\r\n")


def endless_chunk_size(exchange: Exchange) -> None:
    exchange.send(OK, "Transfer-Encoding: chunked\r\n\r\n1;")
    while True:
        exchange.send(b"x" * 1_000_000)


def endless_trailer(exchange: Exchange) -> None:
    exchange.send(OK, "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nx: ")
    while True:
        exchange.send(b"x" * 1_000_000)


def endless_trailers(exchange: Exchange) -> None:
    exchange.send(OK, "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n")
    while True:
        exchange.send("x: ", b"x" * 10_000, "\r\n")


def endless_header(exchange: Exchange) -> None:
    exchange.send(OK)
    while True:
        exchange.send("x: ", b"x" * 60_000, "\r\n")


def gzip_bomb(exchange: Exchange) -> None:
    exchange.reply(BOMB, Content_Encoding="gzip")


def unknown_coding(exchange: Exchange) -> None:
    exchange.reply(b"whole", Content_Encoding="identity, br")


def identity(exchange: Exchange) -> None:
    exchange.reply(b"whole", Content_Encoding="Identity")


def reset_at_once(exchange: Exchange) -> None:
    exchange.reset()


def closed_at_once(exchange: Exchange) -> None:
    exchange.close()


def not_http(exchange: Exchange) -> None:
    exchange.send("220 mail.example.com ESMTP\r\n")
    exchange.close()


def two_lengths(exchange: Exchange) -> None:
    exchange.send(OK, "Content-Length: 5\r\nContent-Length: 6\r\n\r\nwhole!")
    exchange.close()


def reset_in_the_body(exchange: Exchange) -> None:
    exchange.send(OK, "Content-Length: 100\r\n\r\n", "half")
    exchange.hold(0.05)
    exchange.reset()


def closed_in_the_body(exchange: Exchange) -> None:
    exchange.send(OK, "Content-Length: 100\r\n\r\n", "half")
    exchange.close()


def closed_in_a_chunk(exchange: Exchange) -> None:
    exchange.send(OK, "Transfer-Encoding: chunked\r\n\r\n64\r\nhalf")
    exchange.close()


def no_chunk_size(exchange: Exchange) -> None:
    exchange.send(OK, "Transfer-Encoding: chunked\r\n\r\nzz\r\nwhole\r\n0\r\n\r\n")
    exchange.close()


def no_content(exchange: Exchange) -> None:
    exchange.send("HTTP/1.1 204 No Content\r\n\r\n")


def odd_bytes(exchange: Exchange) -> None:
    exchange.send(OK, "X-Odd: \xff\xfe\xe9\r\nContent-Length: 5\r\n\r\nwhole")


WHOLE = (200, b"whole")

CASES = [
    Case("whole", whole, WHOLE),
    Case("chunked", chunked, WHOLE),
    Case("until_closed", until_closed, WHOLE),
    Case("identity", identity, WHOLE),
    Case("odd_bytes", odd_bytes, WHOLE),
    Case("no_content", no_content, (204, b"")),
    Case("exactly_the_limit", exactly_the_limit, (200, b"x" * MAX_BYTES)),
    Case("one_over_the_limit", one_over_the_limit, NoReplyKind.TOO_LARGE),
    Case("twenty_megabytes", twenty_megabytes, NoReplyKind.TOO_LARGE),
    Case("twenty_megabytes_in_chunks", twenty_megabytes_in_chunks, NoReplyKind.TOO_LARGE),
    Case("endless_chunk_size", endless_chunk_size, NoReplyKind.BROKEN),
    Case("endless_trailer", endless_trailer, NoReplyKind.BROKEN),
    Case("endless_trailers", endless_trailers, NoReplyKind.BROKEN),
    Case("endless_header", endless_header, NoReplyKind.UNSENT),
    Case("gzip_bomb", gzip_bomb, NoReplyKind.ENCODED),
    Case("unknown_coding", unknown_coding, NoReplyKind.ENCODED),
    Case("header_drip", header_drip, NoReplyKind.TIMED_OUT),
    Case("many_headers_drip", many_headers_drip, NoReplyKind.TIMED_OUT),
    Case("continue_drip", continue_drip, NoReplyKind.TIMED_OUT),
    Case("body_drip", body_drip, NoReplyKind.TIMED_OUT),
    Case("chunk_drip", chunk_drip, NoReplyKind.TIMED_OUT),
    Case("silence", silence, NoReplyKind.TIMED_OUT),
    Case("silence_in_the_body", silence_in_the_body, NoReplyKind.TIMED_OUT),
    Case("reset_at_once", reset_at_once, NoReplyKind.UNSENT),
    Case("closed_at_once", closed_at_once, NoReplyKind.UNSENT),
    Case("not_http", not_http, NoReplyKind.UNSENT),
    Case("reset_in_the_body", reset_in_the_body, NoReplyKind.BROKEN),
    Case("closed_in_the_body", closed_in_the_body, NoReplyKind.BROKEN),
    Case("closed_in_a_chunk", closed_in_a_chunk, NoReplyKind.BROKEN),
    Case("no_chunk_size", no_chunk_size, NoReplyKind.BROKEN),
]
IDS = [case.name for case in CASES]
