"""An issuer in place of the network, whose keys sign the cases, and which counts what is asked of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from stackauth_middleware import _edge, _memory
from stackauth_middleware._upstream import Call, NoReply, Reply
from tests.core.helpers import StackAuth


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
    before = _edge.stand_in
    _edge.stand_in = issuer
    _memory.forget_all()
    try:
        yield issuer
    finally:
        _edge.stand_in = before
        _memory.forget_all()
