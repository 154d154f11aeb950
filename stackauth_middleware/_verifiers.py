"""The core without a door, for what is neither ASGI nor WSGI: gRPC, queues, sockets, scripts."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

from ._adapters import Headers, request_from_headers
from ._core.config import StackAuthConfig, config_of
from ._core.flow import Flow
from ._core.key_set_cache import Status
from ._core.users import User, UserProfile
from ._io.network import clocks
from .errors import clear_frame_locals

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

    from ._core.config import Settings


class Verifier:
    """Verify access tokens from any thread.

    Args:
        config: the settings; doors and verifiers of one `StackAuthConfig` share their caches.
        settings: the settings as keywords, where no `config` is given.

    Raises:
        ConfigError: a setting is wrong.
    """

    def __init__(self, config: StackAuthConfig | None = None, **settings: Unpack[Settings]) -> None:
        from ._io.sync_runner import SyncRunner

        self._config = config_of(config, settings)
        self._flow = self._config.get_or_create(Flow)
        self._runner = self._config.get_or_create(SyncRunner)

    def verify(self, token: str) -> User:
        """Return the user of `token`, if the settings let that user in. Rules are for doors.

        Raises:
            RefusedError: the token was judged and refused.
            AuthServerError: it could not be judged.
        """
        try:
            step = self._flow.verify(token, clocks())
            return step if isinstance(step, User) else self._runner.run(step)
        except BaseException as error:
            clear_frame_locals(error)
            del token
            raise

    def authenticate(self, headers: Headers) -> User | None:
        """Return the user whose token `headers` carry; None where they carry none. Raises as `verify` does."""
        try:
            step = self._flow.authenticate(request_from_headers(headers), clocks())
            return step if step is None or isinstance(step, User) else self._runner.run(step)
        except BaseException as error:
            clear_frame_locals(error)
            del headers
            raise

    def profile(self, token: str, *, fresh: bool = False) -> UserProfile:
        """Return the profile of the user of `token`, which is verified first.

        Args:
            token: an access token.
            fresh: ask again, unless another fresh profile of this user was asked for less than a second ago.

        Raises:
            ConfigError: no key is set to ask with.
            RefusedError: the token was refused, or the settings do not let such a user in.
            AuthServerError: Stack Auth could not be asked.
        """
        try:
            return self._runner.run(self._flow.profile(token, clocks(), fresh=fresh))
        except BaseException as error:
            clear_frame_locals(error)
            del token
            raise

    def prefetch_keys(self) -> None:
        """Fetch the keys of normal users now, unless they are there. A failure is only logged."""
        self._runner.run(self._flow.keys.prefetch_keys(clocks()))

    def status(self) -> Status:
        """Say whether tokens can be verified at once. Asks nobody."""
        return self._flow.keys.status(clocks())

    def close(self) -> None:
        """Close the pooled connections; they are opened again on demand."""
        self._runner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class AsyncVerifier:
    """Verify access tokens from any task, under asyncio or trio. The arguments are `Verifier`'s.

    Not promised: that what is cancelled while it asks Stack Auth ends at once, since others may wait for
    the answer; it does within a second. Nor that an event loop which ends without `aclose` takes its
    pooled connections along.
    """

    def __init__(self, config: StackAuthConfig | None = None, **settings: Unpack[Settings]) -> None:
        from ._io.async_runner import AsyncRunner

        self._config = config_of(config, settings)
        self._flow = self._config.get_or_create(Flow)
        self._runner = self._config.get_or_create(AsyncRunner)

    async def verify(self, token: str) -> User:
        """Do as `Verifier.verify` does."""
        try:
            step = self._flow.verify(token, clocks())
            return step if isinstance(step, User) else await self._runner.run(step)
        except BaseException as error:
            clear_frame_locals(error)
            del token
            raise

    async def authenticate(self, headers: Headers) -> User | None:
        """Do as `Verifier.authenticate` does."""
        try:
            step = self._flow.authenticate(request_from_headers(headers), clocks())
            return step if step is None or isinstance(step, User) else await self._runner.run(step)
        except BaseException as error:
            clear_frame_locals(error)
            del headers
            raise

    async def profile(self, token: str, *, fresh: bool = False) -> UserProfile:
        """Do as `Verifier.profile` does."""
        try:
            return await self._runner.run(self._flow.profile(token, clocks(), fresh=fresh))
        except BaseException as error:
            clear_frame_locals(error)
            del token
            raise

    async def prefetch_keys(self) -> None:
        """Do as `Verifier.prefetch_keys` does."""
        await self._runner.run(self._flow.keys.prefetch_keys(clocks()))

    def status(self) -> Status:
        """Do as `Verifier.status` does."""
        return self._flow.keys.status(clocks())

    async def aclose(self) -> None:
        """Close the pooled connections of this event loop; they are opened again on demand."""
        await self._runner.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()
