"""Checks a token step by step.

Each step calls the check that the verifier makes. Claims are printed escaped and shortened; the token is not printed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from .._core import tokens
from .._core.config import StackAuthConfig
from .._core.credentials import MAX_BYTES
from .._core.flow import Flow
from .._core.key_sets import Key
from .._core.users import UserType, user_from_claims
from .._io.network import clocks
from .._io.sync_runner import SyncRunner
from ..errors import AuthServerError, ErrorCode, RefusedError
from ._report import Finding, bare, fails, holds, shown, skipped, span

STEPS = ("form", "header", "type", "issuer", "audience", "key", "signature", "times", "flags")


class _Claimed(NamedTuple):
    """Unverified claims, and the user type of their audience."""

    claims: Mapping[str, Any]
    user_type: UserType | None


def examine(config: StackAuthConfig, token: str) -> Iterator[Finding]:
    """Yield the findings on `token`, in the order in which the verifier checks."""
    finding, claims = _form(token)
    yield finding
    if claims is None:
        for step in STEPS[1:]:
            yield skipped(step, "the token cannot be read")
        return
    yield _header(token)
    claimed = _Claimed(claims, _type_of(claims.get("aud")))
    yield _type(claimed)
    yield _issuer(config, claimed)
    audience = _audience(config, claimed)
    yield audience
    parsed = _parsed(token, claimed)
    yield from _key_and_signature(config, parsed, ours=bool(audience.holds))
    yield _times(config, claimed)
    yield _flags(claimed)


def _form(token: str) -> tuple[Finding, Mapping[str, Any] | None]:
    """Check the compact form. Return the claims too; None if they cannot be read."""
    try:
        if not token.isascii() or len(token) > MAX_BYTES:
            return fails("form", "over 8 KiB, or not ASCII"), None
        parts = token.split(".")
        if len(parts) != 3:
            return fails("form", f"not a JWT: it has {len(parts)} parts and not 3"), None
        claims = tokens.parse_object(tokens.decode_part(parts[1]))
        tokens.parse_object(tokens.decode_part(parts[0]))
        tokens.decode_part(parts[2])
    except RefusedError as error:
        return fails("form", error.detail), None
    if len(parts[2]) != tokens.SIGNATURE_CHARACTERS:
        return fails("form", "the signature is not 64 bytes long, as ES256 needs"), claims
    return holds("form", f"a JWT of {len(token)} characters"), claims


def _header(token: str) -> Finding:
    try:
        kid = tokens.key_id_of(token.partition(".")[0])
    except RefusedError as error:
        return fails("header", error.detail)
    return holds("header", f"alg ES256, kid {bare(kid)}")


def _type_of(aud: object) -> UserType | None:
    if not isinstance(aud, str):
        return None
    suffix = aud.partition(":")[2]
    return {"": UserType.NORMAL, "restricted": UserType.RESTRICTED, "anon": UserType.ANONYMOUS}.get(suffix)


def _type(claimed: _Claimed) -> Finding:
    if claimed.user_type is None:
        return fails("type", "the audience belongs to no user type")
    return holds("type", f"token of {_a(claimed.user_type)} user")


def _issuer(config: StackAuthConfig, claimed: _Claimed) -> Finding:
    iss = claimed.claims.get("iss")
    kind = config.issuers.get(iss) if isinstance(iss, str) else None
    if kind is None:
        accepted = [url for url, each in config.issuers.items() if each is (claimed.user_type or UserType.NORMAL)]
        text = f"{shown(iss)} is not accepted; accepted: {', '.join(accepted)}"
        return fails("issuer", f"{text} (derived from api_url unless issuer_url is set, which replaces it)")
    if kind is not claimed.user_type:
        return fails(
            "issuer", f"{shown(iss)} is the issuer for {kind.value} users, but the audience is for another user type"
        )
    return holds("issuer", shown(iss))


def _audience(config: StackAuthConfig, claimed: _Claimed) -> Finding:
    aud = claimed.claims.get("aud")
    if isinstance(aud, str) and aud in config.audiences:
        return holds("audience", shown(aud))
    return fails("audience", f"{shown(aud)} is not an audience of this project, {config.project_id}")


def _parsed(token: str, claimed: _Claimed) -> tokens.Token | None:
    """Return the parsed token, whatever its issuer; None if its form, user type or ``exp`` is wrong."""
    claims, user_type = claimed
    if user_type is None or not isinstance(claims.get("iss"), str) or not tokens.is_numeric_date(claims.get("exp")):
        return None
    try:
        kid, payload, signing_input, signature = tokens.parse_jws(token)
    except RefusedError:
        return None
    return tokens.Token(kid, user_type, claims, payload, signing_input, signature)


def _key_and_signature(config: StackAuthConfig, parsed: tokens.Token | None, *, ours: bool) -> Iterator[Finding]:
    if parsed is None or not ours:
        why = (
            "not looked up, since the form, type or expiry is invalid" if ours else "not looked up for another project"
        )
        yield skipped("key", why)
        yield skipped("signature", "needs the key")
        return
    finding, key = _key(config, parsed)
    yield finding
    if key is None:
        yield skipped("signature", "needs the key")
        return
    try:
        tokens.check_signature(parsed, key.public)
    except RefusedError as error:
        yield fails("signature", error.detail)
    else:
        yield holds("signature", "valid")


def _key(config: StackAuthConfig, parsed: tokens.Token) -> tuple[Finding, Key | None]:
    """Find the key as the flow does, which fetches the key set of the user type."""
    key_sets = config.get_or_create(Flow).keys
    kind = parsed.user_type.value
    try:
        key, _, _ = config.get_or_create(SyncRunner).run(key_sets.key_for(parsed, clocks(), defer_refresh=False))
    except RefusedError as error:
        published = ", ".join(bare(kid) for kid in key_sets.record(parsed.user_type).keys) or "none"
        return fails("key", f"{error.detail}; key ids for {kind} users: {published}"), None
    except AuthServerError as error:
        text = f"not available: {error.detail}; run `stackauth-middleware check`"
        return fails("key", text), None
    return holds("key", f"{bare(parsed.kid)} is published for {kind} users"), key


def _times(config: StackAuthConfig, claimed: _Claimed) -> Finding:
    """Report on ``exp``, ``nbf`` and ``iat``."""
    now = clocks().wall
    times = {name: claimed.claims[name] for name in ("exp", "nbf", "iat") if name in claimed.claims}
    if not tokens.is_numeric_date(times.get("exp")):
        return fails("times", f"exp is {shown(times.get('exp'))}, not a number")
    times_text = (
        f"expires in {span(times['exp'] - now)}" if times["exp"] > now else f"expired {span(now - times['exp'])} ago"
    )
    if tokens.is_numeric_date(times.get("iat")):
        times_text += f", issued {span(now - times['iat'])} ago" if times["iat"] <= now else ", issued in the future"
    try:
        tokens.check_times(times, now, config.leeway)
    except RefusedError as error:
        why = "" if error.code is ErrorCode.EXPIRED_TOKEN else f"{error.detail}: "
        return fails("times", f"{why}{times_text}; the leeway is {config.leeway} s")
    return holds("times", times_text)


def _flags(claimed: _Claimed) -> Finding:
    """Report on the subject, the branch and the flags."""
    claims, user_type = claimed
    if user_type is None:
        return skipped("flags", "not checked without a user type")
    try:
        tokens.check_user(claims, user_type)
    except RefusedError as error:
        flags = {name: claims.get(name) for name in ("is_anonymous", "is_restricted", "restricted_reason")}
        return fails("flags", f"{error.detail}: sub {shown(claims.get('sub'), 40)}, {shown(flags)}")
    user = user_from_claims({"exp": 0.0, **claims}, user_type, b"{}")
    why = f", because {shown(user.restricted_reason)}" if user.is_restricted else ""
    return holds("flags", f"user {user.user_id}, branch main, {user.user_type.value}{why}")


def _a(user_type: UserType) -> str:
    return f"an {user_type.value}" if user_type is UserType.ANONYMOUS else f"a {user_type.value}"
