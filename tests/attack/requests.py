"""Random requests: paths by a grammar of what routers read differently, and callers with tokens of every kind."""

from __future__ import annotations

import json
import random
from typing import Any, NamedTuple

from stackauth_middleware.testing import LocalStackAuth

from .table import ALLOWED_ORIGIN, BY_NAME, CALLERS, PROJECT, ROUTES, Caller, Route

TOKEN = "x-stack-access-token"

SEGMENTS = sorted({each for route in ROUTES for each in route.sample.split("/") if each})
SAMPLES = sorted({route.sample for route in ROUTES})
PIECES = (
    *(
        "/",
        "//",
        "/./",
        "/../",
        "/..;/",
        "\\",
        "\\..\\",
        ";",
        ";x=1",
        ".",
        "..",
        "*",
        "@@",
        "@",
        "~",
        ":",
        ",",
        "|",
        "$",
    ),
    *("?", "?x", "#", "#x", "http:", "http://h", "%", "%zz", "+", "-", "_", "index", "/index", ".json", "/x", "a"),
    *(
        "%2f",
        "%2F",
        "%5c",
        "%2e",
        "%2e%2e",
        "%2e%2e%2f",
        "%3b",
        "%3f",
        "%23",
        "%25",
        "%252f",
        "%252e%252e%252f",
        "%2561",
    ),
    *(
        "%00",
        "%01",
        "%08",
        "%09",
        "%0a",
        "%0A%0a",
        "%0b",
        "%0d",
        "%1f",
        "%20",
        "%7f",
        "%80",
        "%85",
        "%a0",
        "%ff",
        "%c3",
    ),
    *(
        "%c0%ae",
        "%c0%af",
        "%e0%80%af",
        "%ef%bf%bd",
        "%ed%a0%80",
        "%c2%85",
        "%c2%a0",
        "%e2%80%a8",
        "%e2%80%8b",
        "%ef%bb%bf",
    ),
    *("%e2%81%84", "%ef%bc%8f", "%ef%bc%8e", "%ef%bd%81", "%cc%81", "%c3%a9", "e%cc%81", "%c4%b0", "%c4%b1", "%c5%bf"),
    *("%e2%84%aa", "%c3%9f", "%c2%ad", "%f0%9f%98%80", "%f4%90%80%80", "\x80", "\xff", "\t"),
)
"""What is put into paths: separators and dots in every encoding, controls, look-alikes, decomposed letters."""

LOOKALIKES = {"s": "%c5%bf", "k": "%e2%84%aa", "i": "%c4%b0", "a": "%ef%bd%81", "/": "%ef%bc%8f", "e": "e%cc%81"}
ROOTS = (
    "",
    "/",
    "//",
    "/r1",
    "/r1/",
    "r1",
    "/x",
    "/sub",
    "/api",
    "/admin",
    "/admin/",
    "/public",
    "/a%20",
    "/R1",
    "/files",
)
METHODS = (
    *("GET",) * 12,
    *("POST", "HEAD", "OPTIONS", "PUT", "DELETE", "PATCH", "TRACE", "CONNECT", "PROPFIND", "QUERY"),
    *("WEBSOCKET", "websocket", "get", "post", "Get", "options", "GET ", "", "X" * 300, "G\xcbT"),
)
OVERRIDES = ("x-http-method-override", "x-method-override", "x-http-method", "x-original-url", "x-rewrite-url")
PREFIX_HEADERS = ("daphne-root-path", "script-name", "x-forwarded-prefix", "x-script-name", "script_name", "path_info")
NOT_OURS = ("Basic YTpi", "Bearer abc", "Bearer", "Digest x", "bearer stack_api_key_1")
"""Values of ``Authorization`` that are no token of Stack Auth: the app's own business, so unauthenticated."""


class Attack(NamedTuple):
    """A request as it stands on the wire, and who sends it.

    Attributes:
        root: the root path that the client claims, or None for the one of the operator.
        raw_path: what the scope says of it: ``"same"``, ``"absent"`` or ``"other"``.
        kind: ``"http"`` or ``"websocket"``.
        rooted: whether a server below an operator's root path finds it in the target.
    """

    target: str
    method: str = "GET"
    headers: tuple[tuple[str, str], ...] = ()
    caller: Caller = "none"
    root: str | None = None
    raw_path: str = "same"
    kind: str = "http"
    rooted: bool = True

    def line(self, site: str) -> str:
        """Return this request as a line for ``--replay``, with a placeholder for each token."""
        return json.dumps({"site": site, **self._asdict()})


def read(line: str) -> tuple[str, Attack]:
    """Return the site and the request of a line."""
    fields: dict[str, Any] = json.loads(line)
    site = fields.pop("site")
    fields["headers"] = tuple((name, value) for name, value in fields["headers"])
    return site, Attack(**fields)


class Tokens:
    """Tokens of every kind by placeholder, so that a line can be replayed when they have expired."""

    def __init__(self, local: LocalStackAuth) -> None:
        hour: dict[str, Any] = {"expires_in": 36_000, "project_id": PROJECT}
        self.good = {
            "$member": local.token(sub="00000000-0000-4000-8000-000000000001", name="member", **hour),
            "$admin": local.token(sub="00000000-0000-4000-8000-000000000002", name="admin", **hour),
            "$restricted": local.token(
                sub="00000000-0000-4000-8000-000000000003", name="restricted", user_type="restricted", **hour
            ),
            "$anonymous": local.token(
                sub="00000000-0000-4000-8000-000000000004", name="anonymous", user_type="anonymous", **hour
            ),
        }
        admin = {"name": "admin", "project_id": PROJECT}
        other = "11111111-2222-4333-8444-555555555555"
        head, payload, signature = self.good["$admin"].split(".")
        self.bad = {
            "$expired": local.token(expires_in=-60, **admin),
            "$stranger": local.token(key="foreign", **admin),
            "$other-project": local.token(name="admin", project_id=other),
            "$unknown-key": local.token(kid="unknown", key="foreign", **admin),
            "$unknown-restricted-key": local.token(kid="unknown", key="foreign", user_type="restricted", **admin),
            "$unknown-anonymous-key": local.token(kid="unknown", key="foreign", user_type="anonymous", **admin),
            "$unsigned": f"{head}.{payload}.",
            "$other-signature": f"{head}.{payload}.{signature[::-1]}",
            "$three-parts": "a.b.c",
            "$garbage": "garbage",
            "$containers": local.token(x=[{}] * 400, key="foreign", **admin),
        }

    def filled(self, value: str) -> str:
        """Return a header's value with each placeholder replaced."""
        if "$" in value:
            for name, token in (*self.good.items(), *self.bad.items()):
                if name in value:
                    value = value.replace(name, token)
        return value


BAD = (
    *("$expired", "$stranger", "$other-project", "$unknown-key", "$unknown-restricted-key", "$unknown-anonymous-key"),
    *("$unsigned", "$other-signature", "$three-parts", "$garbage", "$containers", "a" * 9000, "\xff"),
)


def credentials(rng: random.Random, caller: Caller) -> list[tuple[str, str]]:
    """Return the headers by which `caller` is known."""
    if caller == "none":
        return [("Authorization", rng.choice(NOT_OURS))] if rng.random() < 0.2 else []
    if caller == "junk":
        return _junk(rng)
    name = rng.choice((TOKEN, "x-hexclave-access-token", "authorization"))
    token = f"${caller}"
    headers = [(name, f"Bearer {token}" if name == "authorization" else token)]
    if name != "authorization" and rng.random() < 0.2:
        headers.append(("authorization", rng.choice(("Bearer $stranger", *NOT_OURS))))
    return headers


def _junk(rng: random.Random) -> list[tuple[str, str]]:
    bad = rng.choice(BAD)
    form = rng.randrange(5)
    if form == 0:
        return [("authorization", f"Bearer {rng.choice(('$expired', '$stranger', '$unsigned', '$unknown-key'))}")]
    if form == 1:
        return [(TOKEN, "$admin"), (TOKEN, rng.choice(("$admin", "$member", "x", "")))]
    if form == 2:
        return [("x-stack-auth", rng.choice(("{", "[]", '{"accessToken": "a.b.c"}', '{"accessToken": "$stranger"}')))]
    if form == 3:
        return [(TOKEN, bad), ("authorization", "Bearer $admin")]
    return [(TOKEN, bad)]


def path(rng: random.Random, route: Route) -> str:
    """Return the route's path, or a way of writing it that some router may take for it."""
    target = route.sample
    if rng.random() < 0.15:
        return target
    if rng.random() < 0.35:  # below, beside or in front of another route
        other = rng.choice(SAMPLES)
        joint = rng.choice(
            ("/", "/../", "/..%2f", "%2f..%2f", "/..;/", "/%2e%2e/", "\\..\\", "//", "", "/x/../../", ";")
        )
        target = rng.choice((other + joint + target.lstrip("/"), target + joint + other.lstrip("/"), other + target))
    for _ in range(rng.choice((0, 1, 1, 1, 2, 2, 3, 4))):
        target = _mutated(rng, target)
    return target


def _mutated(rng: random.Random, target: str) -> str:
    seams = [0, len(target), *(at for at, each in enumerate(target) if each == "/")]
    at = rng.choice(seams) if rng.random() < 0.6 else rng.randint(0, len(target))
    choice = rng.randrange(9)
    if choice <= 3:
        return target[:at] + rng.choice(PIECES) + target[at:]
    if choice == 4 and target:
        at = rng.randrange(len(target))
        encoded = rng.choice(("%{:02x}", "%{:02X}", "%25{:02x}")).format(ord(target[at]))
        return target[:at] + encoded + target[at + 1 :]
    if choice == 5 and target.isascii() and target:
        at = rng.randrange(len(target))
        return target[:at] + target[at].swapcase() + target[at + 1 :] if rng.random() < 0.6 else target.swapcase()
    if choice == 6:
        letter = rng.choice(tuple(LOOKALIKES))
        return target.replace(letter, LOOKALIKES[letter], 1)
    if choice == 7 and target:
        return target[:at] + target[at + 1 :]
    return rng.choice((rng.choice(ROOTS) + target, target + "/", target.lstrip("/"), "http://testserver" + target))


def attack(rng: random.Random, kinds: tuple[str, ...] = ("http",)) -> Attack:
    """Return a random request; one in 15 is a WebSocket where `kinds` has it."""
    kind = "websocket" if "websocket" in kinds and rng.random() < 1 / 15 else "http"
    route = rng.choice(ROUTES)
    if kind == "http" and rng.random() < 0.1:
        route = BY_NAME["any" if rng.random() < 0.5 else "sink"]
    caller: Caller = rng.choice(CALLERS)
    headers = credentials(rng, caller)
    method = rng.choice(METHODS) if rng.random() < 0.5 else rng.choice(route.methods or ("GET",))
    if rng.random() < 0.12:  # a preflight, or nearly
        method = rng.choice(("OPTIONS", "OPTIONS", "OPTIONS", "options", "GET"))
        headers.append(("Origin", rng.choice((ALLOWED_ORIGIN, "https://evil.example", "null", "x"))))
        headers.append(("Access-Control-Request-Method", rng.choice(("GET", "POST", "X", ""))))
    if rng.random() < 0.05:
        headers.append((rng.choice(OVERRIDES), rng.choice(("GET", "POST", "OPTIONS", "/public/a", "/admin"))))
    if rng.random() < 0.05:
        headers.append((rng.choice(PREFIX_HEADERS), rng.choice(ROOTS)))
    if rng.random() < 0.03:
        headers += [("Origin", "x")] * rng.randint(2, 5)
    rng.shuffle(headers)
    return Attack(
        target=path(rng, route),
        method=method,
        headers=tuple(headers),
        caller=caller,
        root=rng.choice(ROOTS) if rng.random() < 0.2 else None,
        raw_path=rng.choice(("same",) * 18 + ("absent", "other")),
        kind=kind,
        rooted=rng.random() < 0.8,
    )


def honest(route: Route, caller: Caller) -> Attack:
    """Return the plain request for a route, as a client of good will sends it."""
    headers = {"none": (), "junk": ((TOKEN, "$stranger"),)}.get(caller, ((TOKEN, f"${caller}"),))
    method = route.methods[0] if route.methods else "GET"
    return Attack(route.sample, method, headers, caller, kind="websocket" if route.kind == "websocket" else "http")
