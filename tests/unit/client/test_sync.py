"""`StackAuthClient`: the suite, in threads."""

from __future__ import annotations

from typing import Any

import pytest

from stackauth_middleware.client import AuthServerError, StackAuthClient

from .suite import ClientSuite, wire

__all__ = ["wire"]


class TestStackAuthClient(ClientSuite):
    KIND = StackAuthClient

    def run(
        self, client: Any, method: str, *args: Any, first: bool = False, again: bool = False, **keywords: Any
    ) -> Any:
        with client:
            result = getattr(client, method)(*args, **keywords)
            if first:
                return next(result)
            if again:
                found = [next(result).id]
                with pytest.raises(AuthServerError) as raised:
                    next(result)
                return [*found, raised.value.detail, *result]
            return list(result) if method == "list_users" else result
