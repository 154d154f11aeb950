"""The routes that every site of the attack has, what each handler requires of a caller, and the rules that say so.

A handler's requirement is written beside its route and is never computed from a path, so it does not
depend on the matcher under test.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, TypeAlias

from stackauth_middleware import Rule, StackAuthConfig, User, get_user

PROJECT = "6f0a2a55-6a54-4c5c-9a0e-0d5a3c2d9d11"
ALLOWED_ORIGIN = "https://app.example.com"
ID_HEADER, SITE_HEADER = "x-attack-id", "x-attack-site"
LOG = "ATTACK_LOG"
"""The name in the environment of the file that served handlers write to."""

Caller: TypeAlias = Literal["none", "junk", "member", "admin", "restricted", "anonymous"]
"""Who sends a request: no user, a client with a bad token, or the user of a good token."""

CALLERS: tuple[Caller, ...] = ("none", "junk", "member", "admin", "restricted", "anonymous")

MET_BY: Mapping[str, frozenset[str]] = {
    "public": frozenset(CALLERS),
    "optional": frozenset({"none", "member", "admin"}),
    "required": frozenset({"member", "admin"}),
    "admin": frozenset({"admin"}),
    "restricted": frozenset({"member", "admin", "restricted"}),
    "anonymous": frozenset({"member", "admin", "restricted", "anonymous"}),
}
"""The callers that meet each requirement."""

EVERY_METHOD = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


class Route(NamedTuple):
    """A route and the rule for it.

    Attributes:
        template: ``{name}`` is one segment, ``{rest}`` is what is left of the path.
        sample: a plain path that the route stands for.
        requires: a key of `MET_BY`.
        methods: of the handler.
        kind: ``"mount"`` is an app, sink or catch-all below a prefix, for every method.
        rule_methods: of the rule; None for all.
    """

    name: str
    template: str
    sample: str
    requires: str
    methods: tuple[str, ...] = ("GET",)
    kind: Literal["http", "mount", "websocket"] = "http"
    rule_methods: tuple[str, ...] | None = None

    def rule(self) -> Rule:
        segments = [
            "**" if each == "{rest}" else "*" if each.startswith("{") else each for each in self.template.split("/")
        ]
        path = "/".join(segments) + ("/**" if self.kind == "mount" else "")
        methods = self.rule_methods
        if self.requires in ("public", "optional"):
            access: Any = self.requires
            return Rule(path, access, methods=methods)
        more: dict[str, Any] = {
            "admin": {"check": is_admin},
            "restricted": {"allow_restricted": True},
            "anonymous": {"allow_anonymous": True},
        }.get(self.requires, {})
        return Rule(path, methods=methods, **more)


def is_admin(user: User) -> bool:
    return user.display_name == "admin"


ROUTES = (
    Route("root", "/", "/", "public"),
    Route("public", "/public/{name}", "/public/a", "public"),
    Route("healthz", "/healthz", "/healthz", "public"),
    Route("hello", "/hello", "/hello", "optional"),
    Route("me", "/me", "/me", "required"),
    Route("admin", "/admin", "/admin", "admin"),
    Route("api admin", "/api/admin", "/api/admin", "admin"),
    Route("api", "/api/{name}", "/api/a", "required"),
    Route("edit", "/users/{name}/edit", "/users/a/edit", "admin"),
    Route("user", "/users/{name}", "/users/a", "required"),
    Route("r1", "/r1", "/r1", "required"),
    Route("files", "/files/{rest}", "/files/a/b", "admin"),
    Route("verify", "/verify", "/verify", "restricted"),
    Route("guest", "/guest", "/guest", "anonymous"),
    Route("read posts", "/posts", "/posts", "public", ("GET",), rule_methods=("GET",)),
    Route("write posts", "/posts", "/posts", "required", ("POST",), rule_methods=("POST",)),
    Route("any", "/any", "/any", "required", EVERY_METHOD),
    Route("sink", "/sink", "/sink/a", "admin", EVERY_METHOD, "mount"),
    Route("live", "/live", "/live", "admin", (), "websocket"),
    Route("feed socket", "/feed", "/feed", "public", (), "websocket", ("WEBSOCKET",)),
    Route("feed", "/feed", "/feed", "required", EVERY_METHOD),
)
"""First match wins, so what is special stands before what is general."""

BY_NAME = {route.name: route for route in ROUTES}

POLICIES: Mapping[str, str] = {"closed": "required", "open": "public", "optional": "optional"}
"""The default access of each policy. What the default already says has no rule."""


def rules_of(policy: str) -> list[Rule]:
    """Return the rules of all routes that the default does not cover already.

    A rule for some methods of a path is needed all the same where another one is for its other methods.
    """
    default = POLICIES[policy]
    return [route.rule() for route in ROUTES if route.requires != default or route.rule_methods]


def settings_of(policy: str) -> dict[str, Any]:
    """Return the settings of a policy by name."""
    return {
        "project_id": PROJECT,
        "rules": rules_of(policy),
        "default_access": POLICIES[policy],
        "cors_origins": [ALLOWED_ORIGIN],
    }


def config_of(policy: str, **more: Any) -> StackAuthConfig:
    """Return the config of a policy."""
    return StackAuthConfig(**settings_of(policy), **more)


class Run(NamedTuple):
    """A handler that ran: for which route, for which user, and in which request."""

    route: str
    user: str | None
    request: str


runs: list[Run] = []
"""The handlers that ran since the driver last cleared it."""


def record(route: str, context: Mapping[str, Any]) -> None:
    """Note that the handler of `route` runs, with the scope or environ that it has."""
    user = get_user(context)
    if "asgi" in context or "headers" in context:
        pairs: Any = context.get("headers") or ()
        request = next((value.decode("latin-1") for name, value in pairs if name == ID_HEADER.encode()), "")
    else:
        request = context.get("HTTP_X_ATTACK_ID", "")
    name = user.display_name if user is not None else None
    runs.append(Run(route, name, request))


def trespass(run: Run, caller: Caller) -> str | None:
    """Return what is wrong with a handler having run for `caller`, or None."""
    requires = BY_NAME[run.route].requires
    if caller not in MET_BY[requires]:
        return f"handler {run.route!r} ran for caller {caller!r}, but requires {requires!r}"
    expected = None if caller in ("none", "junk") else caller
    if run.user != expected and not (run.user is None and requires == "public"):
        return f"handler {run.route!r} saw user {run.user!r} in a request of caller {caller!r}"
    return None


counter = itertools.count()
