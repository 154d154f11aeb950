"""Puts users into requests that no middleware has seen, so that tests can call a handler or view directly."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from .._adapters import publish, request_from_environ, request_from_scope
from .._core import config as config_module
from .._core.config import StackAuthConfig
from .._core.outcome import Authenticated, Outcome, Unauthenticated
from .._core.policy import Policy
from .._core.records import RequestRecord
from .._core.tokens import parse, user_of
from .._core.users import User
from .._handler_api import REQUEST_ATTRIBUTES
from ._account import Account
from ._arranging import Arranging

_POLICY = Policy("required", profile=False, allow_restricted=True, allow_anonymous=True)


class Forcing(Arranging):
    """Base class that authenticates requests without a middleware."""

    def force_authenticate(
        self, request: Any, user: Account | str | None = None, *, config: StackAuthConfig | None = None, **claims: Any
    ) -> User:
        """Put a user into a request, as the middleware does after it has verified a token.

        Use it where a test calls a handler without the app: with Flask's ``test_request_context``, Django's
        ``RequestFactory``, a Starlette ``Request`` made of a scope. Rules and settings do not apply: restricted and
        anonymous users are put in too.

        Args:
            request: a scope, an environ, or the request of a framework, as for `get_user`.
            user: an account or its id; None for the one that `claims` describe, as for `token`.
            config: the config of the app; None for the newest one.
            claims: as for `token`.

        Returns:
            The user, whom `get_user` and the integration of the framework find from now on.

        Raises:
            KeyError: `user` is an id without an account.
            RefusedError: the claims contradict each other, or the token has expired.
            TypeError: `request` is not a request, scope or environ.

        Example::

            with app.test_request_context("/me"):
                local.force_authenticate(flask.request, email="ada@example.com")
                assert me() == {"email": "ada@example.com"}
        """
        mappings = _mappings(request)
        config = config or config_module.newest_config() or StackAuthConfig(project_id=self.project_id)
        issuer_url = next(iter(config.issuers)).partition("/api/v1/")[0]
        token = self.token(user, project_id=config.project_id, issuer_url=issuer_url, **claims)
        verified = user_of(parse(token, config.audiences, config.issuers), self._store.clock(), config.leeway)
        under_asgi = "type" in mappings[0]
        record = _record(mappings[0])
        _publish(request, mappings, Authenticated(verified, config, token, _POLICY, under_asgi, None, record))
        return verified

    def force_unauthenticated(self, request: Any, *, config: StackAuthConfig | None = None) -> None:
        """Mark a request as unauthenticated, as the middleware does on a path that needs no user.

        Args:
            request: as for `force_authenticate`.
            config: as for `force_authenticate`.

        Raises:
            TypeError: `request` is not a request, scope or environ.

        Example::

            request = RequestFactory().get("/welcome")
            local.force_unauthenticated(request)
        """
        mappings = _mappings(request)
        config = config or config_module.newest_config() or StackAuthConfig(project_id=self.project_id)
        _publish(request, mappings, Unauthenticated(config, _record(mappings[0])))


def _mappings(request: Any) -> list[MutableMapping[str, Any]]:
    """Return the scope or environ of a request, or both if it has both."""
    held = [getattr(request, name, None) for name in REQUEST_ATTRIBUTES]
    found = [each for each in (request, *held) if isinstance(each, MutableMapping)]
    if not found:
        raise TypeError(f"{type(request).__name__} is no request, scope or environ")
    return found


def _record(mapping: MutableMapping[str, Any]) -> RequestRecord:
    """Return the record of a request, which may lack what a server always gives."""
    try:
        if "type" in mapping:
            return request_from_scope({"path": "/", **mapping}, "", "")
        return request_from_environ(mapping, "")
    except Exception:  # of any type: a scope or environ written by a test may be incomplete
        return RequestRecord("GET", "/", "", {})


def _publish(request: Any, mappings: list[MutableMapping[str, Any]], outcome: Outcome) -> None:
    for mapping in mappings:
        publish(mapping, outcome)
    if hasattr(request, "META"):
        request.stack_user = outcome.user
