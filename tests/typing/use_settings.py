"""Every setting by its type: config, both middlewares, both verifiers. Type-checked, not run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from typing_extensions import assert_type

from stackauth_middleware import (
    AsyncVerifier,
    AuthServerError,
    ErrorCode,
    RefusedError,
    Rule,
    StackAuthASGIMiddleware,
    StackAuthConfig,
    StackAuthWSGIMiddleware,
    User,
    UserProfile,
    UserType,
    Verifier,
    aload_profile,
    get_user,
    load_profile,
    require_user,
)
from stackauth_middleware.errors import Event, RefusalInfo


def is_admin(user: User) -> bool:
    return user.email_verified and user.email is not None and user.email.endswith("@example.com")


def own_body(code: ErrorCode, info: RefusalInfo) -> dict[str, str | None]:
    return {"detail": code.message, "why": info.restricted_reason}


def observe(event: Event) -> None:
    print(event.method, event.code, event.user_id)


rules = [
    Rule("/healthz", "public"),
    Rule("/hello", "optional", methods=["GET"]),
    Rule("/account/**", profile=True, allow_restricted=True, allow_anonymous=None),
    Rule("/admin/**", check=is_admin),
    Rule("/guests/*", access="required", allow_anonymous=True, methods={"GET", "WEBSOCKET"}),
]

auth = StackAuthConfig(
    project_id="internal",
    secret_server_key="ssk_",
    publishable_client_key="pck_",
    mode="rest",
    api_url="http://stack:8102",
    issuer_url=["https://auth.example.com", "https://login.example.com"],
    allow_http=True,
    allow_restricted=True,
    allow_anonymous=False,
    leeway=2.5,
    timeout=3,
    profile_ttl=60,
    token_cache_size=100,
    profile_cache_size=100,
    profile_cache_bytes=1_000_000,
    token_sources=("bearer", "websocket"),
    trust_env_proxies=True,
    rules=rules,
    default_access="optional",
    error_body=own_body,
    cors_origins=["https://app.example.com"],
    cors_credentials=True,
    pass_preflights=False,
    private_responses=True,
    state_key=None,
    request_user=True,
    realm="api",
    prefetch_keys=False,
    root_path="/api/v2",
    websocket_refusal="accept",
    observers=[observe, print],
)
StackAuthConfig(error_body="problem", issuer_url="https://auth.example.com", state_key="account", root_path="scope")
StackAuthConfig(error_body={401: {"detail": "Unauthorized"}, ErrorCode.FORBIDDEN: "no"}, token_sources={"x-stack-auth"})


async def asgi_app(scope: Any, receive: Any, send: Any) -> None: ...


def wsgi_app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    return []


asgi: StackAuthASGIMiddleware = StackAuthASGIMiddleware(asgi_app, auth)
StackAuthASGIMiddleware(app=asgi_app, config=auth)
StackAuthASGIMiddleware(
    asgi_app,
    mode="jwt",
    issuer_url="https://auth.example.com",
    rules=tuple(rules),
    default_access="public",
    error_body=own_body,
    cors_origins=("https://app.example.com",),
    state_key="account",
    websocket_refusal="close",
    observers=(observe,),
)
wsgi: StackAuthWSGIMiddleware = StackAuthWSGIMiddleware(wsgi_app, rules=rules, error_body="problem")
StackAuthWSGIMiddleware(app=wsgi_app, config=auth)


def reads_the_user(request: object) -> None:
    user = get_user(request)
    assert_type(user, User | None)
    if user is not None:
        assert_type(user.email, str | None)
    present = require_user(request)
    assert_type(present, User)
    assert_type(present.id, str)
    assert_type(present.user_type, UserType)
    assert_type(present.expires_at, float)
    assert_type(present.claims, Mapping[str, Any])
    assert_type(present.to_dict(), dict[str, Any])
    assert_type(present.profile, UserProfile | None)
    assert_type(load_profile(request, fresh=True), UserProfile)


async def reads_the_profile(request: object) -> None:
    profile = await aload_profile(request)
    assert_type(profile, UserProfile)
    assert_type(profile.primary_email, str | None)


def verifies(token: str) -> None:
    with Verifier(auth) as verifier:
        try:
            assert_type(verifier.verify(token), User)
        except RefusedError as error:
            assert_type(error.code, ErrorCode)
            assert_type(error.restricted_reason, str | None)
        except AuthServerError as error:
            assert_type(error.retry_after, int | None)
        assert_type(verifier.authenticate({"authorization": token}), User | None)
        assert_type(verifier.profile(token, fresh=True), UserProfile)
    Verifier(project_id="internal", leeway=0)


async def averifies(token: str) -> None:
    async with AsyncVerifier(mode="jwt") as verifier:
        assert_type(await verifier.verify(token), User)
        assert_type(await verifier.authenticate([(b"authorization", token.encode())]), User | None)
        assert_type(await verifier.profile(token), UserProfile)
