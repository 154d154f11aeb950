"""`Verifier` and `AsyncVerifier`: verification without a middleware, for gRPC, queues, sockets and scripts."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

from ._adapters import Headers, request_from_headers
from ._core.config import StackAuthConfig, config_of
from ._core.flow import Flow
from ._core.key_set_cache import Status
from ._core.pickling import PickledByConfig
from ._core.users import User, UserProfile
from ._io.network import clocks
from ._io.tracebacks import hide_arguments

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

    from ._core.config import Settings


class Verifier(PickledByConfig):
    """Verify access tokens outside of a middleware, from any thread.

    Args:
        config: the settings. Middlewares and verifiers of one `StackAuthConfig` share their caches.
        settings: the settings as keywords, if `config` is None.

    Raises:
        ConfigError: a setting is missing or invalid.

    Not promised: that a method can be called on an event loop; it would block the loop. Use `AsyncVerifier`.

    Example::

        with Verifier(project_id="6fbbf22e-f4b2-4c6e-95a1-beab6fa41063") as verifier:
            user = verifier.verify(token)
    """

    def __init__(self, config: StackAuthConfig | None = None, **settings: Unpack[Settings]) -> None:
        self._config = config_of(config, settings)
        self._connect()

    def _connect(self) -> None:
        from ._io.sync_runner import SyncRunner

        self._flow = self._config.get_or_create(Flow)
        self._runner = self._config.get_or_create(SyncRunner)

    @hide_arguments
    def verify(self, token: str) -> User:
        """Return the user of an access token, if the settings allow users of this type.

        Args:
            token: an access token (RFC 7519), without ``Bearer``. `Rule` objects do not apply: they are for
                middlewares.

        Returns:
            The user, with a profile where ``mode`` asks for one.

        Raises:
            RefusedError: the token is invalid or expired, or its user is not allowed.
            AuthServerError: the token could not be judged, since Stack Auth cannot be reached.

        Not promised: that the session still exists (docs/stack-auth.md section 10).

        Example::

            user = verifier.verify(request.metadata["access_token"])
        """
        step = self._flow.verify(token, clocks())
        return step if isinstance(step, User) else self._runner.run(step)

    @hide_arguments
    def authenticate(self, headers: Headers) -> User | None:
        """Return the user of the token in `headers`, or None if they hold no token.

        Args:
            headers: a mapping or pairs, as text or bytes. Names match in any case. The token sources are those
                of ``token_sources``.

        Raises:
            RefusedError: the credential is malformed, invalid or expired, or its user is not allowed.
            AuthServerError: the token could not be judged, since Stack Auth cannot be reached.

        Not promised: that a repeated header is refused if `headers` is a mapping that keeps only one of its values.

        Example::

            user = verifier.authenticate({"authorization": f"Bearer {token}"})
        """
        step = self._flow.authenticate(request_from_headers(headers), clocks())
        return step if step is None or isinstance(step, User) else self._runner.run(step)

    @hide_arguments
    def profile(self, token: str, *, fresh: bool = False) -> UserProfile:
        """Return the profile of the user of an access token, which is verified first.

        Args:
            token: an access token.
            fresh: bypass the cache, unless another fresh profile of this user was fetched in the last second.

        Raises:
            ConfigError: no key is set for the Stack Auth API.
            RefusedError: the token is invalid or expired, or its user is not allowed.
            AuthServerError: Stack Auth cannot be reached, or rejects the key.

        Not promised: that a cached profile is the newest; see ``profile_ttl``. The source is
        ``GET /api/v1/users/me`` (docs/stack-auth.md section 5).

        Example::

            plan = verifier.profile(token).client_metadata["plan"]
        """
        return self._runner.run(self._flow.profile(token, clocks(), fresh=fresh))

    def prefetch_keys(self) -> None:
        """Fetch the key set of normal users, unless it is cached.

        Not promised: that it succeeds. A failure is logged; `status` shows it.

        Example::

            verifier.prefetch_keys()
        """
        self._runner.run(self._flow.keys.prefetch_keys(clocks()))

    def status(self) -> Status:
        """Return whether tokens can be verified without a fetch. Makes no network call.

        Returns:
            The state of the key set of normal users; ``keys_age`` is in seconds.

        Example::

            ready = verifier.status().ready
        """
        return self._flow.keys.status(clocks())

    def close(self) -> None:
        """Close the pooled connections. The next call opens new ones."""
        self._runner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class AsyncVerifier(PickledByConfig):
    """Verify access tokens outside of a middleware, from any task of an asyncio or trio event loop.

    Args:
        config: the settings. Middlewares and verifiers of one `StackAuthConfig` share their caches.
        settings: the settings as keywords, if `config` is None.

    Raises:
        ConfigError: a setting is missing or invalid.

    Not promised: that a cancelled call ends at once. Others may wait for its fetch, so it can take up to a
    second. Nor that connections are closed when an event loop ends without `aclose`.

    Example::

        async with AsyncVerifier(project_id="6fbbf22e-f4b2-4c6e-95a1-beab6fa41063") as verifier:
            user = await verifier.verify(token)
    """

    def __init__(self, config: StackAuthConfig | None = None, **settings: Unpack[Settings]) -> None:
        self._config = config_of(config, settings)
        self._connect()

    def _connect(self) -> None:
        from ._io.async_runner import AsyncRunner

        self._flow = self._config.get_or_create(Flow)
        self._runner = self._config.get_or_create(AsyncRunner)

    @hide_arguments
    async def verify(self, token: str) -> User:
        """Same as `Verifier.verify`, but async.

        Args:
            token: an access token, without ``Bearer``.

        Raises:
            RefusedError: the token is invalid or expired, or its user is not allowed.
            AuthServerError: the token could not be judged, since Stack Auth cannot be reached.
        """
        step = self._flow.verify(token, clocks())
        return step if isinstance(step, User) else await self._runner.run(step)

    @hide_arguments
    async def authenticate(self, headers: Headers) -> User | None:
        """Same as `Verifier.authenticate`, but async.

        Args:
            headers: a mapping or pairs, as text or bytes.

        Raises:
            RefusedError: the credential is malformed, invalid or expired, or its user is not allowed.
            AuthServerError: the token could not be judged, since Stack Auth cannot be reached.
        """
        step = self._flow.authenticate(request_from_headers(headers), clocks())
        return step if step is None or isinstance(step, User) else await self._runner.run(step)

    @hide_arguments
    async def profile(self, token: str, *, fresh: bool = False) -> UserProfile:
        """Same as `Verifier.profile`, but async.

        Args:
            token: an access token.
            fresh: bypass the cache, unless another fresh profile of this user was fetched in the last second.

        Raises:
            ConfigError: no key is set for the Stack Auth API.
            RefusedError: the token is invalid or expired, or its user is not allowed.
            AuthServerError: Stack Auth cannot be reached, or rejects the key.
        """
        return await self._runner.run(self._flow.profile(token, clocks(), fresh=fresh))

    async def prefetch_keys(self) -> None:
        """Same as `Verifier.prefetch_keys`, but async."""
        await self._runner.run(self._flow.keys.prefetch_keys(clocks()))

    def status(self) -> Status:
        """Return whether tokens can be verified without a fetch. Same as `Verifier.status`."""
        return self._flow.keys.status(clocks())

    async def aclose(self) -> None:
        """Close the pooled connections of this event loop. The next call opens new ones."""
        await self._runner.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()
