"""`AsyncStackAuthClient`: the suite, under asyncio and trio."""

from __future__ import annotations

from typing import Any, ClassVar

import anyio
import pytest

from stackauth_middleware.client import AsyncStackAuthClient, AuthServerError

from .suite import ClientSuite, wire

__all__ = ["wire"]


class TestAsyncStackAuthClient(ClientSuite):
    KIND = AsyncStackAuthClient
    BACKEND: ClassVar[str] = "asyncio"

    def run(
        self, client: Any, method: str, *args: Any, first: bool = False, again: bool = False, **keywords: Any
    ) -> Any:
        async def call() -> Any:
            async with client:
                result = getattr(client, method)(*args, **keywords)
                if first:
                    return await anext(result)
                if again:
                    found = [(await anext(result)).id]
                    with pytest.raises(AuthServerError) as raised:
                        await anext(result)
                    return [*found, raised.value.detail, *[each async for each in result]]
                return [each async for each in result] if method == "list_users" else await result

        return anyio.run(call, backend=self.BACKEND)


class TestUnderTrio(TestAsyncStackAuthClient):
    BACKEND = "trio"
