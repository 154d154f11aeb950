"""A Django project in one file: the middleware, the system checks, and `require_auth` on a view.

Run: STACK_PROJECT_ID=<your project's id> gunicorn django_app:wsgi
Run: STACK_PROJECT_ID=<your project's id> uvicorn django_app:asgi
"""

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, JsonResponse
from django.urls import path

from stackauth_middleware import Rule
from stackauth_middleware.contrib.django import SignedInRequest, StackAuthRequest, require_auth

settings.configure(
    ALLOWED_HOSTS=["127.0.0.1", "localhost"],
    INSTALLED_APPS=["stackauth_middleware.contrib.django"],
    MIDDLEWARE=["stackauth_middleware.contrib.django.StackAuthMiddleware"],
    ROOT_URLCONF=__name__,
    STACK_AUTH={"RULES": [Rule("/healthz", "public"), Rule("/hello", "optional")]},
)


def healthz(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"status": "ok"})


def hello(request: StackAuthRequest) -> JsonResponse:
    return JsonResponse({"hello": request.stack_user.display_name if request.stack_user else "stranger"})


@require_auth
async def me(request: SignedInRequest) -> JsonResponse:
    return JsonResponse({"id": request.stack_user.id, "email": request.stack_user.email})


urlpatterns = [path("healthz", healthz), path("me", me), path("hello", hello)]
wsgi, asgi = get_wsgi_application(), get_asgi_application()
