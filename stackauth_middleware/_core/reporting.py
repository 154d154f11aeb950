"""Refusals and events: turn an exception into a refusal, log it, and notify the observers of every outcome."""

from __future__ import annotations

import logging
from itertools import count

from ..errors import AuthServerError, ErrorCode, Event, RefusedError, clear_frame_locals
from .config import StackAuthConfig
from .outcome import KeyAuthenticated, Outcome, Refused
from .rate_limited_log import RateLimitedLog
from .records import Clocks, RequestRecord
from .responses import Responder, reason_of
from .tokens import ForeignToken

logger = logging.getLogger("stackauth_middleware")

_HOW_TO_SEE_REASONS = (
    "refused the first request of this process: %s. To see the reason of each refusal, set the level of the logger "
    "stackauth_middleware to INFO; `stackauth-middleware verify` examines a token"
)
_unexplained = count()
"""Counts the refusals of this process whose reason is not logged. The first of them logs how to see reasons."""


class Reporter:
    """Logs and reports the outcomes of one config."""

    def __init__(self, config: StackAuthConfig) -> None:
        self._config = config
        self._respond = Responder(config)
        self._log_foreign_token = RateLimitedLog(logging.WARNING)

    def refuse(self, request: RequestRecord, error: Exception, now: Clocks) -> Refused:
        """Log `error`, notify the observers and return the refusal. An unexpected exception fails closed, as a 503.

        Args:
            request: the refused request.
            error: the exception, just caught or made. The variables of the frames that it left are cleared.
            now: both clocks.
        """
        clear_frame_locals(error)  # its traceback is logged below, or with an exception of a hook
        if isinstance(error, ForeignToken):
            self._log_foreign_token(now, f"refused a token of another project or issuer: {error.advice}")
        if not isinstance(error, RefusedError | AuthServerError):
            logger.error("refusing a request: unexpected error", exc_info=error)
            error = AuthServerError(ErrorCode.SERVER_ERROR, 1, "unexpected error")
        if logger.isEnabledFor(logging.INFO):
            what, why = (request.method, request.path), (error.code.value, error.detail)
            logger.info("refused %r %r: %s (%s)", *what, *why, exc_info=error.__cause__)
        elif next(_unexplained) == 0:
            logger.warning(_HOW_TO_SEE_REASONS, error.code.value)
        if self._config.observers:
            self._notify(Event(request.method.upper(), request.path, error.code, error.detail))
        response = self._respond(error, request.method, request.path, request.headers.get("origin", ""))
        return Refused(self._config, response, reason_of(error))

    def report(self, request: RequestRecord, outcome: Outcome) -> None:
        """Notify the observers of an outcome that `refuse` did not make; a `Refused` here answers a preflight."""
        if not self._config.observers:
            return
        if isinstance(outcome, Refused):
            self._notify(Event(request.method.upper(), request.path, detail="a preflight was answered"))
        else:
            user_id = outcome.user.user_id if outcome.user else None
            key_id = outcome.api_key.id if isinstance(outcome, KeyAuthenticated) else None
            event = Event(request.method.upper(), request.path, outcome.error, user_id=user_id, api_key_id=key_id)
            self._notify(event)

    def _notify(self, event: Event) -> None:
        for observer in self._config.observers:
            try:
                observer(event)
            except Exception:
                logger.exception("an observer raised an exception, which is ignored")
