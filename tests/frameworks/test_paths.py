"""Path rules on real frameworks: whatever the target looks like, no handler is reached past its rule.

Each handler records that it ran. The rules for the plain path of its route decide which users may reach it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from litestar import Litestar, asgi
from litestar.middleware import DefineMiddleware
from litestar.static_files import create_static_files_router

from stackauth_middleware import Rule, StackAuthASGIMiddleware, StackAuthConfig, StackAuthWSGIMiddleware, User

from . import sites
from .ask import Ask, Loop, ask_wsgi
from .django_project import installed

PROJECT = "6f0a2a55-6a54-4c5c-9a0e-0d5a3c2d9d11"


def is_admin(user: User) -> bool:
    return user.display_name == "admin"


CLOSED = [
    Rule("/", "public"),
    Rule("/public/**", "public"),
    Rule("/healthz", "public"),
    Rule("/hello", "optional"),
    Rule("/admin", check=is_admin),
    Rule("/api/admin", check=is_admin),
    Rule("/users/*/edit", check=is_admin),
    Rule("/posts", "public", methods=["GET"]),
]
"""Any other path requires a user."""

OPEN = [
    Rule("/admin", check=is_admin),
    Rule("/api/admin", check=is_admin),
    Rule("/api/**"),
    Rule("/users/*/edit", check=is_admin),
    Rule("/users/*", check=is_admin),
    Rule("/r1"),
    Rule("/posts", methods=["POST"]),
]
"""Any other path is public, so every reading of a path that the middleware misses opens it."""

RULES: dict[str, dict[str, Any]] = {
    "closed": {"rules": CLOSED},
    "open": {"rules": OPEN, "default_access": "public"},
}

ROOTS = {"no root path": ("", True), "uvicorn --root-path": ("/r1", True), "hypercorn --root-path": ("/r1", False)}

ROOTED: dict[str, Callable[[str], sites.Site]] = {
    "falcon-asgi": sites.falcon_asgi_site,
    "sanic": sites.sanic_site,
    "blacksheep": sites.blacksheep_site,
}
"""Frameworks that never remove the root path: their routes are registered with it."""

TARGETS = [
    *r"""
    /admin /admin/ //admin ///admin// /%2Fadmin /%2f%2fadmin admin http://h/admin http://h/admin%3Fx http://h/admin;x
    http:%2Fadmin h:/ad%0Amin h:admin %20admin h:api/admin%3Fx /admin%0A /admin%0a%0a /admin%0D /admin%00
    /admin%00/public /admin%20 /admin;x=1 /admin%3Fx /admin%23x /admin%FF /ad%FFmin /%C0%AEadmin /adm%C4%B1n /ADMIN
    /%61dmin /%2561dmin /./admin /public/../admin /public/..;/admin /public/%2e%2e/admin /public/%252e%252e/admin
    /public%2f..%2fadmin /public\..\admin /public/x/../../admin /publicX /PUBLIC/x /public;x /public%0A
    /healthz/../admin /healthz/ /healthz%0A /api/admin /api/admin/ /api//admin //api/admin /api/./admin /api%2Fadmin
    /api/admin%0A /api%5Cadmin /api/x //api/x /api%0A /users/ /users//edit /users/a/edit /users/a/edit%0A
    /users/a//edit /users/%2e/edit /users/a%2Fedit /users/a/edit%FF /public/r1/admin /public/r1admin /public/api/admin
    /r1 /r1/ //r1 /r1// /r1admin /r1/admin /r1//admin //r1/admin /r1/r1/admin /r1/public/r1/admin /r1/r1 /api/r1/admin
    /r1%2fadmin /%721/admin *
""".split(),
    "",
]
"""Request targets that bypass a naive match, or might."""

METHODS = ["GET", "HEAD", "POST", "get", "post", "pOsT", "Head"]


class Guarded:
    """A site behind a middleware, with the policy of each of its routes.

    Args:
        app: the site with the middleware around it, or added to it.
        at: mount point of the site in `app`.
        routes: the routes of the site, each with a plain path that it matches.
    """

    def __init__(
        self,
        site: sites.Site,
        config: StackAuthConfig,
        loop: Loop,
        app: Any = None,
        at: str = "",
        routes: Mapping[str, str] = sites.ROUTES,
    ) -> None:
        self.routes = routes
        self.site, self.config, self.loop, self.at = site, config, loop, at
        self.app: Any = app or (StackAuthASGIMiddleware if site.asgi else StackAuthWSGIMiddleware)(site.app, config)

    def ask(self, ask: Ask) -> list[str]:
        """Return the routes whose handlers ran."""
        sites.ran.clear()
        if ask.target.startswith("/"):
            ask = ask._replace(target=self.at + ask.target)
        try:
            self.loop.ask(self.app, ask) if self.site.asgi else ask_wsgi(self.app, ask)
        except Exception:  # of the framework, for what it does not accept as a path
            if self.site.name not in ("quart", "sanic", "blacksheep"):
                raise
        return list(sites.ran)

    def may_run(self, route: str, who: str) -> bool:
        """Return whether the rules allow `who` to reach the handler of `route` by its plain path."""
        method, _, path = route.rpartition(" ")
        policy = self.config.policy(method or "GET", self.routes.get(path, path), "")
        if who == "no user":
            return policy.access != "required"
        return who == "admin" or not policy.checks

    def violations(self, asks: Iterable[Ask], headers: Mapping[str, Mapping[str, str]]) -> list[str]:
        """Return a line for each handler that ran and was not allowed to."""
        return [
            f"{ask.method} {ask.target!r} by {who} ran {route}"
            for who in ("no user", "member")
            for ask in asks
            for route in self.ask(ask._replace(headers=headers[who]))
            if not self.may_run(route, who)
        ]


Headers = dict[str, dict[str, str]]


@pytest.fixture(scope="module")
def built() -> Iterator[dict[str, sites.Site]]:
    """Every site, built once: tests differ in the middleware."""
    with installed():
        yield {name: build() for name, build in sites.BUILDERS.items()}


@pytest.fixture(scope="module")
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.close()


@pytest.fixture
def config() -> Callable[..., StackAuthConfig]:
    """Return a function that makes a config from the name of the rules."""

    def make(rules: str, at: str = "", **more: Any) -> StackAuthConfig:
        chosen = RULES[rules]
        moved = [Rule(at + rule.path, rule.access, methods=rule.methods, check=rule.check) for rule in chosen["rules"]]
        return StackAuthConfig(project_id=PROJECT, **(chosen | {"rules": moved} | more))

    return make


@pytest.fixture
def headers(stackauth: Any) -> Headers:
    """Return the headers of each kind of client."""
    kept = StackAuthConfig(project_id=PROJECT)
    tokens = {who: stackauth.headers(name=who) for who in ("member", "admin")}
    assert kept.project_id == PROJECT
    return {"no user": {}, **tokens}


# -- the table ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("root", "setting"),
    [
        *(("no root path", ""), ("no root path", "/r1"), ("uvicorn --root-path", "/r1")),
        *(("uvicorn --root-path", "scope"), ("hypercorn --root-path", "scope"), ("hypercorn --root-path", "")),
    ],
)
@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize("name", sites.BUILDERS)
def test_no_handler_is_reached_past_its_rule(
    name: str,
    rules: str,
    root: str,
    setting: str,
    built: dict[str, sites.Site],
    loop: Loop,
    config: Any,
    headers: Headers,
) -> None:
    root_path, prefixed = ROOTS[root]
    site = ROOTED[name](root_path) if name in ROOTED else built[name]
    guarded = Guarded(site, config(rules, root_path=setting), loop)
    asks = [Ask(target, root_path=root_path, prefixed=prefixed) for target in TARGETS]
    assert guarded.violations(asks, headers) == []


@pytest.mark.parametrize("build", [sites.sanic_site, sites.blacksheep_site])
def test_router_that_matches_before_decoding_takes_a_path_as_its_rules_do(
    build: Callable[..., sites.Site], loop: Loop, headers: Headers
) -> None:
    """Sanic and BlackSheep run `/{name}` for ``/%64ocs`` and for ``/files%2Fa``, which decode to other paths."""
    routes = {"/docs": "/docs", "/{name}": "/any", "/files/{name}": "/files/any", "/{name}/{part}": "/any/any"}
    routes |= {"/users/{name}": "/users/any", "/users/{name}/admin": "/users/any/admin"}
    site = build(routes=routes)
    opening = [Rule("/docs", "public"), Rule("/files/*", "public")]
    closing = [Rule("/users/*"), Rule("/users/{id}/admin", check=is_admin)]
    targets = [
        *("/docs", "/%64ocs", "/doc%73", "/files/a", "/files%2Fa", "/files%2fa", "/%66iles/a", "/fil%65s/a"),
        *("/users/a", "/users/a%2Fb", "/users%2Fa", "/%75sers/a", "/users%5Ca", "/users/%2E", "/users/a%7Eb"),
        *("/users/a/admin", "/users/a%2Fb/admin", "/users/a/%61dmin", "/users/a/admi%6E", "/users/a%2Fadmin"),
    ]
    for rules, access in ((opening, "required"), (closing, "public")):
        config = StackAuthConfig(project_id=PROJECT, rules=rules, default_access=access)
        guarded = Guarded(site, config, loop, routes=routes)
        assert guarded.violations([Ask(target) for target in targets], headers) == []
        for target, route in (("/docs", "/docs"), ("/users/a%20%3Ab", "/users/{name}"), ("/x%C3%A9", "/{name}")):
            assert guarded.ask(Ask(target, headers=headers["admin"])) == [route]


@pytest.mark.parametrize("kind", ["Application", "tree", "grafted"])
@pytest.mark.parametrize("setting", ["", "/x"])
def test_script_name_gains_nothing_with_cherrypy(kind: str, setting: str) -> None:
    """It routes on ``SCRIPT_NAME`` too, which gunicorn takes from a request header of the proxies that it trusts."""
    import cherrypy

    served: list[str] = []

    class Admin:
        @cherrypy.expose
        def secret(self) -> str:
            served.append("/admin/secret")
            return ""

    class Root:
        admin = Admin()

        @cherrypy.expose
        def index(self) -> str:
            served.append("/")
            return ""

    cherrypy.config.update({"environment": "embedded", "log.screen": False})
    app = cherrypy.Application(Root(), setting)
    rules = [Rule("/", "public"), Rule("/admin/**", check=lambda _user: False)]
    config = StackAuthConfig(project_id=PROJECT, rules=rules, default_access="public", root_path=setting)
    tree = cherrypy._cptree.Tree()
    tree.apps = {setting: StackAuthWSGIMiddleware(app, config) if kind == "grafted" else app}
    served_app: Any = tree
    if kind != "grafted":
        served_app = StackAuthWSGIMiddleware(tree if kind == "tree" else app, config)
    for script_name in ("", "/admin", "/admin/secret", "/"):
        asked = Ask("/admin/secret".removeprefix(script_name), root_path=setting + script_name)
        assert ask_wsgi(served_app, asked).status == 401
        assert ask_wsgi(served_app, asked._replace(root_path=script_name)).status in (401, 404)
    assert ask_wsgi(served_app, Ask("/", root_path=setting)).status == 200
    assert served == ["/"]


CLAIMS = ["/admin", "/admin/", "/", "/r1", "/r1/", "/public", "/public/", "admin", "/ad", "//", "/api", "/users/a"]


@pytest.mark.parametrize("setting", ["", "/r1"])
@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize("name", [name for name in sites.BUILDERS if name != "falcon-asgi"])
def test_root_path_chosen_by_client_gains_nothing(
    name: str, rules: str, setting: str, built: dict[str, sites.Site], loop: Loop, config: Any, headers: Headers
) -> None:
    """Daphne takes the root path from the header ``Daphne-Root-Path``."""
    guarded = Guarded(built[name], config(rules, root_path=setting), loop)
    targets = ["/", "/admin", "/admin/", "/api/admin", "/users/a/edit", "/r1/admin", "/public/admin", "/r1/r1/admin"]
    asks = [
        Ask(target, root_path=claim, prefixed=prefixed)
        for target in targets
        for claim in CLAIMS
        for prefixed in (True, False)
        if claim != setting
    ]
    assert guarded.violations(asks, headers) == []


@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize("name", sites.BUILDERS)
def test_methods_in_any_case_match_the_rule_of_the_handler_that_they_reach(
    name: str, rules: str, built: dict[str, sites.Site], loop: Loop, config: Any, headers: Headers
) -> None:
    """Flask and Bottle route ``post`` as POST, and all of them HEAD as GET or not at all."""
    guarded = Guarded(built[name], config(rules), loop)
    asks = [Ask(path, method) for path in ("/posts", "//posts", "/posts/", "/posts%0A") for method in METHODS]
    assert guarded.violations(asks, headers) == []
    assert guarded.ask(Ask("/posts", headers=headers["no user"])) == [sites.READ]
    assert guarded.ask(Ask("/posts", "POST", headers["no user"])) == []
    if name != "django-asgi" and name != "django-wsgi":  # whose POST is refused for its want of a CSRF token
        assert guarded.ask(Ask("/posts", "POST", headers["member"])) == [sites.WRITE]


@pytest.mark.filterwarnings("ignore:The `root_path` parameter is deprecated")  # and still there in many apps
@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize("mount", ["add_middleware", "wrapped", "wrapped, with the setting"])
@pytest.mark.parametrize("root_path", ["/r1", "/public", "/public/r1"])
def test_root_path_stated_by_the_app_is_taken_as_the_setting(
    root_path: str, mount: str, rules: str, loop: Loop, config: Any, headers: Headers
) -> None:
    """``FastAPI(root_path=...)`` sets it in the scope after a middleware that wraps the app has seen the scope."""
    site = sites.fastapi_site(root_path)
    settled = config(rules, root_path=root_path if mount == "wrapped, with the setting" else "")
    if mount == "add_middleware":
        site.app.add_middleware(StackAuthASGIMiddleware, config=settled)
        guarded = Guarded(site, settled, loop, site.app)
    else:
        guarded = Guarded(site, settled, loop)
    asks = [Ask(before + target) for before in ("", root_path) for target in TARGETS]
    assert guarded.violations(asks, headers) == []
    assert guarded.ask(Ask(f"{root_path}/admin", headers=headers["admin"])) == ["/admin"]
    assert guarded.ask(Ask(f"{root_path}/posts")) == [sites.READ]


def _dispatched(app: Any) -> Any:
    from werkzeug.exceptions import NotFound
    from werkzeug.middleware.dispatcher import DispatcherMiddleware

    return DispatcherMiddleware(NotFound(), {"/sub": app})


MOUNTS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "Mount, Starlette": ("starlette", sites.starlette_mount),
    "Mount, Litestar": ("litestar", sites.starlette_mount),
    "Mount, Quart": ("quart", sites.starlette_mount),
    "Mount, Django": ("django-asgi", sites.starlette_mount),
    "Litestar's, Litestar": ("litestar", sites.litestar_mount),
    "DispatcherMiddleware, Flask": ("flask", _dispatched),
    "DispatcherMiddleware, Bottle": ("bottle", _dispatched),
    "DispatcherMiddleware, Falcon": ("falcon-wsgi", _dispatched),
}


@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize(
    ("mount", "inside"),
    [(mount, inside) for mount in MOUNTS for inside in (False, True) if inside or not mount.startswith("Litestar's")],
)
def test_mounted_apps(
    mount: str, inside: bool, rules: str, built: dict[str, sites.Site], loop: Loop, config: Any, headers: Headers
) -> None:
    """Around the mount, rules match the whole path; below it, the path in the mounted app.

    Below Litestar's mount they match the whole path, too: Litestar cuts the path and does not publish the mount point.
    """
    name, mounted = MOUNTS[mount]
    site = built[name]
    middleware: Any = StackAuthASGIMiddleware if site.asgi else StackAuthWSGIMiddleware
    settled = config(rules, at="" if inside and not mount.startswith("Litestar's") else "/sub")
    app = mounted(middleware(site.app, settled)) if inside else middleware(mounted(site.app), settled)
    guarded = Guarded(site, config(rules), loop, app, at="/sub")
    asks = [Ask(target) for target in TARGETS] + [Ask(f"/..{target}") for target in TARGETS if "admin" in target]
    if site.asgi and name != "django-asgi":  # which is slow
        asks += [Ask(target, root_path="/r1", prefixed=False) for target in TARGETS]
    assert guarded.violations(asks, headers) == []
    guarded.at = ""
    assert guarded.violations([Ask(f"/sub{target[1:]}") for target in TARGETS], headers) == []
    assert guarded.ask(Ask("/sub/admin", headers=headers["admin"])) == ["/admin"]


def test_middleware_around_litestars_mount_knows_less(
    built: dict[str, sites.Site], loop: Loop, config: Any, headers: Headers
) -> None:
    """Litestar takes ``/subadmin`` for ``/admin`` below ``/sub``, which no rule for ``/sub`` can know.

    With a default that requires a user, none gets there without a token. To check more, put the middleware below
    the mount.
    """
    site = built["litestar"]
    guarded = Guarded(
        site,
        config("closed"),
        loop,
        StackAuthASGIMiddleware(sites.litestar_mount(site.app), config("closed", at="/sub")),
    )
    odd = [Ask(f"/sub{target[1:]}") for target in TARGETS if "admin" in target]
    assert [line for line in guarded.violations(odd, headers) if " by no user " in line] == []
    assert guarded.ask(Ask("/subadmin", headers=headers["member"])) == ["/admin"]


def test_static_files_of_litestar_fall_under_the_rules_of_their_whole_path(
    tmp_path: Path, loop: Loop, headers: Headers
) -> None:
    """Litestar cuts the path of mounts and static files before it calls middleware given by ``DefineMiddleware``."""
    tmp_path.joinpath("docs").mkdir()
    tmp_path.joinpath("docs", "plan.txt").write_text("plan")

    @asgi("/mounted", is_mount=True, copy_scope=True)
    async def mounted(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"plan"})

    def status(path: str, who: str, *rules: Rule) -> int:
        auth = StackAuthConfig(project_id=PROJECT, rules=[*rules, Rule("/docs/**", "public")])
        app = Litestar(
            [create_static_files_router("/static", [tmp_path]), mounted],
            middleware=[DefineMiddleware(StackAuthASGIMiddleware, config=auth)],
            openapi_config=None,
            logging_config=None,
        )
        return loop.ask(app, Ask(path, headers=headers[who])).status

    for path in ("/static/docs/plan.txt", "/mounted/docs/plan.txt"):
        assert status(path, "no user") == 401
        assert status(path, "member") == 200
        assert status(path, "no user", Rule(f"{path[:-8]}*", "public")) == 200
        assert status(path, "member", Rule(path, check=is_admin)) == 403
        assert status(path, "admin", Rule(path, check=is_admin)) == 200


@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize("is_async", [False, True], ids=["wsgi", "asgi"])
def test_falcon_that_strips_trailing_slashes(
    is_async: bool, rules: str, loop: Loop, config: Any, headers: Headers
) -> None:
    """With ``strip_url_path_trailing_slash`` it takes ``/users//`` for ``/users/{name}`` with an empty name."""
    site = sites.falcon_asgi_site() if is_async else sites.falcon_wsgi_site()
    site.app.req_options.strip_url_path_trailing_slash = True
    guarded = Guarded(site, config(rules), loop)
    asks = [Ask(target + end) for target in TARGETS for end in ("", "/", "//")]
    assert guarded.violations(asks, headers) == []
    assert guarded.ask(Ask("/users//", headers=headers["admin"])) == ["/users/{name}"]
    assert guarded.ask(Ask("/users/a/edit/", headers=headers["admin"])) == ["/users/{name}/edit"]


# -- a naive match fails -----------------------------------------------------------------------------


class _Naive:
    """The match that is usually written by hand: the path, looked up in a list."""

    def __init__(self, app: Any, config: StackAuthConfig) -> None:
        self.app, self.config = app, config

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        path, method = scope["path"].removeprefix(scope["root_path"]), scope["method"]
        for rule in self.config.rules:
            within = path.startswith(rule.path[:-2]) if rule.path.endswith("/**") else path == rule.path
            if within and (rule.methods is None or method in rule.methods):
                access = rule.access
                break
        else:
            access = self.config.default_access
        if access == "required":
            await send({"type": "http.response.start", "status": 401, "headers": []})
            await send({"type": "http.response.body", "body": b""})
            return
        await self.app(scope, receive, send)


def test_naive_match_is_bypassed(built: dict[str, sites.Site], loop: Loop, config: Any, headers: Headers) -> None:
    """Show that the targets find faults: unauthenticated requests get past the naive match."""
    ways = []
    for rules in RULES:
        for name, site in built.items():
            if name in ("starlette", "litestar", "quart"):
                settled = config(rules)
                guarded = Guarded(site, settled, loop, _Naive(site.app, settled))
                asks = [Ask(t, root_path=root, prefixed=prefixed) for t in TARGETS for root, prefixed in ROOTS.values()]
                found = guarded.violations(asks, headers | {"member": {}})
                ways += [f"{name} {rules}: {line}" for line in found if " by no user " in line]
    for way in (
        "litestar closed: GET '/public/r1/admin' by no user ran /admin",
        "litestar open: GET '//admin' by no user ran /admin",
        "starlette open: GET '/admin%0A' by no user ran /admin",
        "quart open: GET 'http://h/admin' by no user ran /admin",
    ):
        assert way in ways


# -- drawn targets -------------------------------------------------------------------

PLAIN = """
    / / / // admin api public users a edit posts r1 sub x . .. ;x
""".split()
ENCODED = ["%0A", "%0D", "%09", "%00", "%20", "%2f", "%5c", "%2e", "%252e", "%252f", "%FF", "%C3", "%EF%BF%BD", "%3F"]
OTHERS = ["%23", "%3B", "\\", ":", "http:", "@", "*", "~", "%85", "%C2%85", "%E2%80%A8", "%E2%81%84", "%EF%BC%8F"]
PIECES = st.sampled_from([*PLAIN, *ENCODED, *OTHERS])
AROUND = st.sampled_from(
    """
        /admin /api/admin /api /api/x /users/a/edit /users//edit /users/ /r1 /posts /public/a / admin
    """.split()
)


@st.composite
def odd_targets(draw: st.DrawFn) -> str:
    """Draw a path of the site with a few odd pieces put into it, anywhere."""
    target = draw(st.sampled_from(["", "", "/r1", "/public", "/sub", "http://h", "h:"])) + draw(AROUND)
    for _ in range(draw(st.integers(0, 3))):
        seams = [0, len(target), *(at for at, each in enumerate(target) if each == "/")]
        at = draw(st.sampled_from(seams) | st.integers(0, len(target)))
        target = target[:at] + draw(PIECES) + target[at:]
    return target


def test_no_handler_is_reached_past_its_rule_by_any_target(
    built: dict[str, sites.Site], loop: Loop, config: Any, headers: Headers
) -> None:
    """The same claim for drawn targets and methods, on all frameworks at once."""
    every = [
        Guarded(site, config(rules), loop)
        for rules in RULES
        for name, site in built.items()
        if name not in ("falcon-asgi", "django-wsgi")  # as Falcon's WSGI app, and Django's ASGI one
    ]

    @settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
    @given(odd_targets(), st.sampled_from(METHODS), st.sampled_from(sorted(ROOTS.values())))
    def check(target: str, method: str, root: tuple[str, bool]) -> None:
        ask = Ask(target, method, root_path=root[0], prefixed=root[1])
        for guarded in every:
            assert guarded.violations([ask], headers) == [], guarded.site.name

    check()
