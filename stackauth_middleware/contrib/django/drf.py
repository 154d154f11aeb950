"""Django REST framework: the user that the middleware verified, as ``request.user`` of the API's views.

::

    REST_FRAMEWORK = {
        "DEFAULT_AUTHENTICATION_CLASSES": ["stackauth_middleware.contrib.django.drf.StackAuthAuthentication"],
    }

djangorestframework-stubs types ``request.user`` as a Django model; `require_user` returns our type.
"""

from __future__ import annotations

from typing import Any

from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from ..._core.responses import challenge_of
from ..._core.users import User
from ..._handler_api import get_user
from ...errors import ErrorCode
from .middleware import stack_auth_config

__all__ = ["StackAuthAuthentication"]


class StackAuthAuthentication(BaseAuthentication):
    """Authentication class that returns the user that `StackAuthMiddleware` verified.

    It reads no header and never refuses a request: the permissions of the view decide about unauthenticated ones.

    Example::

        class Me(APIView):
            authentication_classes = [StackAuthAuthentication]
            permission_classes = [IsAuthenticated]
    """

    def authenticate(self, request: Request) -> tuple[Any, None] | None:
        """Return the user, or None for an unauthenticated request."""
        user = get_user(request)
        return None if user is None else (self.user_for(user), None)

    def user_for(self, user: User) -> Any:
        """Return the object that becomes ``request.user``.

        Override it if permissions or throttles need a Django model, with ``pk`` and ``has_perm``.
        """
        return user

    def authenticate_header(self, request: Request) -> str:
        """Return the ``WWW-Authenticate`` value of the 401 that a view's permissions send."""
        return challenge_of(ErrorCode.MISSING_TOKEN, stack_auth_config().realm)
