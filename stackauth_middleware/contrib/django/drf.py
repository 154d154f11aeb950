"""Django REST framework: the user that the middleware verified, as ``request.user`` of the API's views.

::

    REST_FRAMEWORK = {
        "DEFAULT_AUTHENTICATION_CLASSES": ["stackauth_middleware.contrib.django.drf.StackAuthAuthentication"],
    }

djangorestframework-stubs types ``request.user`` as a Django model; `require_user` returns our type.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from ..._core.responses import challenge_of
from ..._core.sealed import rebuild, state_of
from ..._core.users import User
from ..._handler_api import get_user
from ...errors import ErrorCode
from .middleware import stack_auth_config

__all__ = ["APIUser", "StackAuthAuthentication"]


class APIUser(User):
    """A `User` with the attributes of a Django user that throttles, permissions and templates read.

    It is not a model instance: it has no Django permissions, and is neither staff nor superuser, so ``IsAdminUser`` and
    ``DjangoModelPermissions`` refuse it. `StackAuthAuthentication.user_for` can return a model instance.

    Attributes:
        is_active: True.
        is_staff: False.
        is_superuser: False.

    Example::

        throttle_classes = [UserRateThrottle]  # counts by request.user.pk
    """

    __slots__ = ()
    is_active = True
    is_staff = False
    is_superuser = False
    __hash__ = User.__hash__

    def __eq__(self, other: object) -> bool:
        return state_of(self)[0] == state_of(other)[0] if isinstance(other, User) else NotImplemented

    def __reduce__(self) -> tuple[Any, ...]:
        return rebuild, (APIUser, *state_of(self))

    @property
    def pk(self) -> str:
        """Same as `user_id`."""
        return self.user_id

    def get_username(self) -> str:
        """Return `user_id`, which is unique and never changes; `display_name` is neither."""
        return self.user_id

    def has_perm(self, perm: str, obj: object = None) -> bool:
        """Return False: the user has no Django permissions."""
        return False

    def has_perms(self, perm_list: Iterable[str], obj: object = None) -> bool:
        """Return whether `perm_list` is empty, as Django's method does for a user without permissions."""
        return not list(perm_list)

    def has_module_perms(self, app_label: str) -> bool:
        """Return False: the user has no Django permissions."""
        return False


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
        """Return the object that becomes ``request.user``: an `APIUser`.

        Override it if permissions, filters or foreign keys need an instance of your user model. It is called for each
        request, and may query the database.

        Args:
            user: the verified user.

        Example::

            def user_for(self, user: User) -> Account:
                return Account.objects.get_or_create(stack_id=user.user_id)[0]
        """
        return rebuild(APIUser, *state_of(user))

    def authenticate_header(self, request: Request) -> str:
        """Return the ``WWW-Authenticate`` value of the 401 that a view's permissions send."""
        return challenge_of(ErrorCode.MISSING_TOKEN, stack_auth_config().realm)
