"""One row for each user: a Django project in one file, on any database of Django.

Run: STACK_PROJECT_ID=<your project's id> gunicorn rows_django:wsgi
"""

import os

import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.db import IntegrityError, connection, models
from django.http import JsonResponse
from django.urls import path

from stackauth_middleware import User, per_user
from stackauth_middleware.contrib.django import SignedInRequest, require_auth

settings.configure(
    ALLOWED_HOSTS=["127.0.0.1", "localhost", "testserver"],
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": os.environ.get("DATABASE_NAME", "rows.db"),
            "OPTIONS": {"transaction_mode": "IMMEDIATE"},
        }
    },
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    MIDDLEWARE=["stackauth_middleware.contrib.django.StackAuthMiddleware"],
    ROOT_URLCONF=__name__,
)
django.setup()


class Account(models.Model):
    stack_user_id = models.CharField(max_length=36, unique=True)
    email = models.EmailField(null=True, unique=True)  # not "": two rows may have no address, and "" is equal to ""
    name = models.CharField(max_length=255, null=True)

    class Meta:
        app_label = "rows"


@per_user(ttl=600)
def account_id(user: User) -> int:
    """Write the row on the first request, and once in ten minutes after that; return its id."""
    row = {"email": user.email if user.email_verified else None, "name": user.display_name}
    account, _ = Account.objects.update_or_create(row, stack_user_id=user.user_id)
    found: int = account.pk
    return found


@require_auth
def me(request: SignedInRequest) -> JsonResponse:
    try:
        account = Account.objects.get(pk=account_id(request.stack_user))
    except IntegrityError:  # the only other unique column is the email address
        return JsonResponse({"detail": "Another account has this email address"}, status=409)
    return JsonResponse({"id": account.pk, "email": account.email, "name": account.name})


urlpatterns = [path("me", me)]
wsgi = get_wsgi_application()
with connection.schema_editor() as editor:  # a real app runs migrations
    if Account._meta.db_table not in connection.introspection.table_names():
        editor.create_model(Account)
