"""`LocalStackAuth`, the object that tests use."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from .._core import flow
from .._core.tokens import ForeignToken, Token, parse
from .._core.users import UserType
from .._io import network
from ._apps import AsgiApp, DelayedResponse, TransportOverride, WsgiApp
from ._fault_injection import FaultInjection
from ._faults import LoggedRequest, RequestLog
from ._forcing import Forcing
from ._issuer import origin
from ._projects import Project
from ._responses import Response
from ._server import Server, kind_of
from ._store import Store

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ._projects import ProjectFields

_FLOW = flow.__dict__
"""The namespace of the flow, where `LocalStackAuth.in_process` replaces ``parse``."""


class LocalStackAuth(Forcing, FaultInjection):
    """A local Stack Auth: it signs tokens, publishes keys, stores accounts and sessions, and can inject faults.

    Use `in_process` to answer all verifiers of this process without a network, or serve `asgi` or `wsgi` over
    HTTP.

    Args:
        project_id: the default project of tokens; None for that of the newest `StackAuthConfig`, else of
            ``STACK_PROJECT_ID`` in the environment, else a fixed one.
        api_url: base URL of the issuers; None for an issuer that the newest config accepts if `project_id` is
            None too, else for the hosted service. Can be set later, once the port is known.
        secret_server_key: the accepted key of `project_id`; None accepts any that is not empty.
        publishable_client_key: likewise.
        short_coordinates: publish a key of `project_id` with a coordinate of 31 bytes.
        any_project: whether every project id exists; if False, only those that were added.
        hexclave: whether the server is newer than the renaming to Hexclave (May 2026), and so reads and sends
            ``x-hexclave-*`` headers too.
        clock: returns the seconds since the epoch; None for ``time.time``, which a test may freeze.

    Attributes:
        api_url: as above.
        users: the accounts. Verifiers cache profiles; call `reset` after a change, or they use the old profile
            until `profile_ttl` has passed.
        requests: the received requests.
        issuer: the keys.

    Not promised: other endpoints than those of the key set, users, sessions, teams, permissions and API keys; sign-up
    and sign-in.

    Example::

        with LocalStackAuth().in_process() as local:
            response = client.get("/me", headers=local.headers())
    """

    def __init__(
        self,
        project_id: str | None = None,
        *,
        api_url: str | None = None,
        secret_server_key: str | None = None,
        publishable_client_key: str | None = None,
        short_coordinates: bool = False,
        any_project: bool = True,
        hexclave: bool = True,
        clock: Callable[[], float] | None = None,
    ) -> None:
        super().__init__(Store(any_project=any_project, clock=clock or _now), project_id, api_url)
        self.requests = RequestLog()
        self._server = Server(self._store, self._refreshed, issuer_urls=self.own_issuer_urls, hexclave=hexclave)
        self.asgi = AsgiApp(self._handle)
        self.wsgi = WsgiApp(self._handle)
        self._transport_override = TransportOverride(self._handle)
        if project_id is not None:
            self.add_project(
                project_id,
                secret_server_key=secret_server_key,
                publishable_client_key=publishable_client_key,
                short_coordinates=short_coordinates,
            )

    def add_project(self, project_id: str, *, short_coordinates: bool = False, **values: Unpack[ProjectFields]) -> None:
        """Add a project, or replace the one with its id.

        Args:
            project_id: the project.
            short_coordinates: publish a key with a coordinate of 31 bytes, as about one project in 130 has.
            values: keys and requirements, explained at `Project`. A key that is None or left out accepts any that is
                not empty.
        """
        self._store.add_project(Project(id=project_id, **values), short_coordinates=short_coordinates)

    def remove_project(self, project_id: str) -> None:
        """Remove a project. `token` still signs tokens with its keys."""
        self._store.projects.remove(project_id)

    def rotate(self, project_id: str | None = None, *, keep_old: bool = False, reset: bool = True) -> None:
        """Replace the keys of a project, or of all projects.

        Args:
            project_id: the project; None for all that have keys.
            keep_old: keep the previous signing key published, as `Issuer.rotate` describes; if False, old tokens
                fail at once.
            reset: whether to reset the caches of all verifiers of this process, so that they fetch the new keys
                at once; if False, they fetch them as in production.
        """
        self.issuer.rotate(project_id, keep_old=keep_old)
        if reset:
            self.reset()

    def answer(self, method: str, target: str, headers: Mapping[str, str] | None = None, body: bytes = b"") -> Response:
        """Return the response to a request, without faults and without logging it in `requests`.

        Args:
            method: in upper case.
            target: path and query.
            headers: names in lower case.
            body: the whole body.
        """
        return self._server.answer(method, target, headers or {}, body)

    @contextmanager
    def in_process(self) -> Iterator[LocalStackAuth]:
        """Answer the calls of all verifiers of this process, instead of the network.

        Sets the transport override, and lets every config accept the tokens that were made without naming a project.
        All caches are reset at the start and at the end.
        """
        before = network.transport_override, _FLOW["parse"]
        network.transport_override, _FLOW["parse"] = self._transport_override, self._parse
        self.reset()
        try:
            yield self
        finally:
            network.transport_override, _FLOW["parse"] = before
            self.reset()

    def _parse(self, token: str, audiences: Mapping[str, UserType], issuers: Mapping[str, UserType]) -> Token:
        """Parse a token for a config; one that was made without naming a project is signed for that config first."""
        try:
            return parse(token, audiences, issuers)
        except ForeignToken:
            project_id = next(audience for audience, kind in audiences.items() if kind is UserType.NORMAL)
            issuer_url = next(origin(issuer) for issuer, kind in issuers.items() if kind is UserType.NORMAL)
            signed = self._store.implicit_tokens.signed_for(token, project_id, issuer_url)
            if signed is None:
                raise
            return parse(signed, audiences, issuers)

    def _handle(self, method: str, target: str, headers: dict[str, str], body: bytes) -> DelayedResponse:
        kind = kind_of(target)
        self.requests.add(LoggedRequest(kind, method, target, headers))
        active = self._faults.active_for(kind)
        if active.down:
            return DelayedResponse(active.seconds, None)
        response = active.response or self._server.answer(
            method, target, headers, body, database_down=active.database_down
        )
        return DelayedResponse(active.seconds, response)


def _now() -> float:
    """Return ``time.time()``. It is looked up at each call, since freezegun and time_machine replace it."""
    return time.time()
