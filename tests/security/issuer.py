"""An issuer that replaces the network, publishes the keys of the corpus, and counts its calls."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from stackauth_middleware._core import cache
from stackauth_middleware._core.upstream import Call, NoReply, Reply
from stackauth_middleware._io import network
from tests.unit.core.helpers import StackAuth


class CountingIssuer(StackAuth):
    """Replaces the network of both runners."""

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
