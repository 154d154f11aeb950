"""A page of a team, in Django, whose buttons depend on the user's permissions in the team."""

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import JsonResponse
from django.urls import path

from stackauth_middleware import has_permission
from stackauth_middleware.contrib.django import SignedInRequest, require_permission

settings.configure(
    ALLOWED_HOSTS=["127.0.0.1"],
    MIDDLEWARE=["stackauth_middleware.contrib.django.StackAuthMiddleware"],
    ROOT_URLCONF=__name__,
)


@require_permission("$read_members", team="team_id")
def team(request: SignedInRequest, team_id: str) -> JsonResponse:
    return JsonResponse({"may_invite": has_permission(request, "$invite_members", team_id=team_id)})


urlpatterns = [path("teams/<team_id>", team)]
wsgi = get_wsgi_application()
