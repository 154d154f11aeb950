"""An issuer in place of the network, whose keys sign the cases, and which counts what is asked of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from stackauth_middleware._core import cache
from stackauth_middleware._core.upstream import Call, NoReply, Reply
from stackauth_middleware._io import network
from tests.unit.core.helpers import StackAuth


class CountingIssuer(StackAuth):
    """Stands in for the network on both edges."""

    def send(self, call: Call, seconds: float) -> Reply | NoReply:
        answer = self(call)
        assert isinstance(answer, Reply | NoReply)
        return answer

    async def asend(self, call: Call, seconds: float) -> Reply | NoReply:
        return self.send(call, seconds)


@contextmanager
def issuer_in_place() -> Iterator[CountingIssuer]:
    issuer = CountingIssuer()
    before = network.transport_override
    network.transport_override = issuer
    cache.reset_all()
    try:
        yield issuer
    finally:
        network.transport_override = before
        cache.reset_all()
