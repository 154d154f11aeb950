"""Token sources: their order, their forms, and that no header value raises anything but a `RefusedError`."""

from __future__ import annotations

import base64
import json
from typing import Any, get_args

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stackauth_middleware._core import credentials
from stackauth_middleware._core.credentials import (
    API_KEY_SOURCES,
    HEADERS,
    MAX_BYTES,
    TOKEN_SOURCES,
    ApiKeySource,
    TokenSource,
    extract,
    extract_api_key,
    split_subprotocols,
    vary_names,
)
from stackauth_middleware.errors import ErrorCode, RefusedError

from .helpers import bounded
from .test_api_keys import key

JWT = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJ4In0.c2ln"
OTHER = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJ5In0.c2ln"
REFRESH = "refresh-canary"
DEFAULT: frozenset[TokenSource] = frozenset({"x-stack-access-token", "bearer", "x-stack-auth"})
ALL: frozenset[TokenSource] = frozenset(TOKEN_SOURCES)
OVER = MAX_BYTES + 1

BRANDS = {
    "stack": ("x-stack-access-token", "x-stack-auth", "stackauth_"),
    "hexclave": ("x-hexclave-access-token", "x-hexclave-auth", "hexclave_"),
}


def auth_json(token: Any = JWT, **more: Any) -> str:
    return json.dumps({"accessToken": token, "refreshToken": REFRESH, **more})


def wrapped(text: str | bytes, prefix: str = "stackauth_", scheme: str = "Bearer") -> str:
    encoded = text if isinstance(text, bytes) else text.encode()
    return f"{scheme} {prefix}{base64.b64encode(encoded).decode()}"


def read(token_sources: frozenset[TokenSource] = ALL, **headers: str) -> str | None:
    return extract({name.replace("_", "-"): value for name, value in headers.items()}, token_sources)


def refused(headers: dict[str, str], token_sources: frozenset[TokenSource] = ALL) -> RefusedError:
    with pytest.raises(RefusedError) as caught:
        extract(headers, token_sources)
    return caught.value


# -- each token source, both brands -------------------------------------------------------------------


@pytest.mark.parametrize("brand", BRANDS)
def test_token_is_found_in_each_source_of_either_brand(brand: str) -> None:
    plain, json_header, prefix = BRANDS[brand]
    assert extract({plain: JWT}, ALL) == JWT
    assert extract({json_header: auth_json()}, ALL) == JWT
    assert extract({"authorization": wrapped(auth_json(), prefix)}, ALL) == JWT


def test_bearer_token_and_subprotocol_have_no_brand() -> None:
    assert read(authorization=f"Bearer {JWT}") == JWT
    assert read(sec_websocket_protocol=f"stackauth, {JWT}") == JWT


@pytest.mark.parametrize(
    "headers",
    [
        {"x-stack-access-token": JWT},
        {"x-hexclave-access-token": JWT},
        {"authorization": wrapped(auth_json())},
        {"authorization": f"Bearer {JWT}"},
        {"x-stack-auth": auth_json()},
        {"x-hexclave-auth": auth_json()},
        {"sec-websocket-protocol": f"stackauth, {JWT}"},
    ],
    ids=str,
)
def test_disabled_source_is_ignored(headers: dict[str, str]) -> None:
    """It yields no token, and a malformed value in it is no error."""
    name = next(iter(headers)).replace("hexclave", "stack")
    own: TokenSource = {"authorization": "bearer", "sec-websocket-protocol": "websocket"}.get(name, name)
    assert extract(headers, ALL - {own}) is None
    assert extract(dict.fromkeys(headers, "junk,\x00" * 2000), ALL - {own}) is None
    assert extract(headers, frozenset({own})) == JWT


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "bEaReR"])
@pytest.mark.parametrize("blanks", [" ", "    "], ids=["one", "four"])
def test_scheme_is_case_insensitive(scheme: str, blanks: str) -> None:
    """RFC 9110 section 11.1 for the case; one or more blanks after it (RFC 6750 section 2.1 says 1*SP)."""
    assert read(authorization=f"{scheme}{blanks}{JWT}") == JWT
    assert read(authorization=f" \t{scheme}{blanks}{JWT}\t ") == JWT


ORDER = {
    "plain": {"x-stack-access-token": "PLAIN"},
    "wrapped": {"authorization": wrapped(auth_json("WRAPPED"))},
    "json": {"x-hexclave-auth": auth_json("JSON")},
    "bearer": {"authorization": f"Bearer {JWT}"},
    "websocket": {"sec-websocket-protocol": "stackauth, WEBSOCKET"},
}
FOUND = {"plain": "PLAIN", "wrapped": "WRAPPED", "json": "JSON", "bearer": JWT, "websocket": "WEBSOCKET"}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (first, second)
        for at, first in enumerate(ORDER)
        for second in list(ORDER)[at + 1 :]
        if not set(ORDER[first]) & set(ORDER[second])
    ],
)
def test_first_source_that_is_present_decides(first: str, second: str) -> None:
    for headers in (ORDER[first] | ORDER[second], ORDER[second] | ORDER[first]):
        assert extract(headers, ALL) == FOUND[first]


JUNK = {
    "wrapped": {"authorization": "Bearer stackauth_!"},
    "json": {"x-stack-auth": "{"},
    "bearer-twice": {"authorization": f"Bearer {JWT},Bearer {JWT}"},
    "bearer-huge": {"authorization": "Bearer a.b." + "c" * MAX_BYTES},
    "websocket": {"sec-websocket-protocol": "stackauth"},
}


@pytest.mark.parametrize(
    ("first", "junk"),
    [
        ("plain", "wrapped"),
        ("plain", "json"),
        ("plain", "bearer-twice"),
        ("plain", "bearer-huge"),
        ("plain", "websocket"),
        ("wrapped", "json"),
        ("wrapped", "websocket"),
        ("json", "bearer-twice"),
        ("json", "bearer-huge"),
        ("json", "websocket"),
        ("bearer", "websocket"),
    ],
)
def test_sources_after_the_deciding_one_are_not_checked(first: str, junk: str) -> None:
    """The app may use a large bearer token of its own beside our header."""
    assert extract({**JUNK[junk], **ORDER[first]}, ALL) == FOUND[first]


@pytest.mark.parametrize(
    "junk",
    [{"x-stack-access-token": f"{JWT},{JWT}"}, {"authorization": "Bearer stackauth_!"}, {"x-stack-auth": "{"}],
    ids=lambda junk: next(iter(junk)),
)
def test_malformed_source_is_not_skipped_for_a_valid_one_after_it(junk: dict[str, str]) -> None:
    """Threat E3: a failed check never falls through to another credential."""
    good = {"x-stack-auth": auth_json(), "authorization": f"Bearer {JWT}", "sec-websocket-protocol": f"stackauth,{JWT}"}
    assert refused({**good, **junk}).code is ErrorCode.INVALID_REQUEST


# -- no credential ------------------------------------------------------------------------------------

NOTHING = {
    "no header": {},
    "empty token": {"x-stack-access-token": ""},
    "blank token": {"x-hexclave-access-token": " \t "},
    "empty json header": {"x-stack-auth": " "},
    "both members null": {"x-stack-auth": '{"accessToken":null,"refreshToken":null}'},
    "only a refresh token": {"x-hexclave-auth": '{"accessToken":null,"refreshToken":"r"}'},
    "member empty": {"x-stack-auth": '{"accessToken":""}'},
    "member absent": {"x-stack-auth": "{}"},
    "member of another name": {"x-stack-auth": '{"accesstoken":"a"}'},
    "wrapped nulls": {"authorization": wrapped('{"accessToken":null,"refreshToken":null}')},
    "wrapped empty object": {"authorization": wrapped("{}", "hexclave_")},
    "empty authorization": {"authorization": ""},
    "the scheme alone": {"authorization": "Bearer"},
    "the scheme and blanks": {"authorization": "Bearer    "},
    "a tab after the scheme": {"authorization": f"Bearer\t{JWT}"},
    "basic": {"authorization": "Basic dXNlcjpwYXNz"},
    "basic with a token after it": {"authorization": f"Basic dXNlcjpwYXNz,Bearer {JWT}"},
    "digest": {"authorization": 'Digest username="a", realm="b"'},
    "an api key": {"authorization": "Bearer sk_live_0123456789"},
    "a huge api key": {"authorization": "Bearer " + "k" * OVER},
    "an api key twice": {"authorization": "Bearer sk_1,Bearer sk_2"},
    "one dot": {"authorization": "Bearer key.secret"},
    "a jwe": {"authorization": "Bearer a.b.c.d.e"},
    "a padded jwt": {"authorization": f"Bearer {JWT}=="},
    "a jwt and more": {"authorization": f"Bearer {JWT} more"},
    "a jwt with no header": {"authorization": "Bearer .b.c"},
    "the prefix in another case": {"authorization": wrapped(auth_json(), "StackAuth_")},
    "other sub-protocols": {"sec-websocket-protocol": "graphql-ws, chat"},
    "the sub-protocol in another case": {"sec-websocket-protocol": f"StackAuth, {JWT}"},
    "an empty token after the sub-protocol": {"sec-websocket-protocol": "stackauth, "},
    "a header spelt with underscores": {"x_stack_access_token": JWT},
    "a cookie": {"cookie": f"stack-access={JWT}"},
}


@pytest.mark.parametrize("headers", NOTHING.values(), ids=NOTHING)
def test_request_without_a_credential_has_no_token(headers: dict[str, str]) -> None:
    """Absent, empty and null are no credential; other schemes and other bearer tokens are the app's."""
    assert extract(headers, ALL) is None


def test_empty_header_leaves_the_next_source_to_decide() -> None:
    assert extract({"x-stack-access-token": "", "authorization": f"Bearer {JWT}"}, ALL) == JWT
    assert extract({"x-stack-auth": "", "authorization": f"Bearer {JWT}"}, ALL) == JWT


def test_json_of_nulls_is_present_and_decides() -> None:
    """The SDK sends it when signed out; a bearer token after it is not read."""
    nulls = '{"accessToken":null,"refreshToken":null}'
    assert extract({"x-stack-auth": nulls, "authorization": f"Bearer {JWT}"}, ALL) is None
    assert extract({"authorization": wrapped(nulls), "x-stack-auth": auth_json()}, ALL) is None


# -- malformed ----------------------------------------------------------------------------------------

MALFORMED = {
    "one header twice": {"x-stack-access-token": f"{JWT},{JWT}"},
    "one header twice, different": {"x-stack-access-token": f"{JWT}, {OTHER}"},
    "one header twice, once empty": {"x-stack-access-token": f",{JWT}"},
    "both brands": {"x-stack-access-token": JWT, "x-hexclave-access-token": JWT},
    "both brands of json": {"x-stack-auth": auth_json(), "x-hexclave-auth": auth_json()},
    "a token over the limit": {"x-stack-access-token": "a" * OVER},
    "json over the limit": {"x-hexclave-auth": auth_json(more="x" * MAX_BYTES)},
    "json twice": {"x-stack-auth": f"{auth_json()},{auth_json()}"},
    "json with a tail": {"x-stack-auth": auth_json() + "x"},
    "truncated json": {"x-stack-auth": auth_json()[:-1]},
    "json text": {"x-stack-auth": f'"{JWT}"'},
    "json list": {"x-stack-auth": f'["{JWT}"]'},
    "json null": {"x-stack-auth": "null"},
    "undefined": {"x-stack-auth": "undefined"},
    "[object Object]": {"x-stack-auth": "[object Object]"},
    "a bare token as json": {"x-stack-auth": JWT},
    "a number as token": {"x-stack-auth": '{"accessToken":5}'},
    "false as token": {"x-stack-auth": '{"accessToken":false}'},
    "an object as token": {"x-stack-auth": '{"accessToken":{}}'},
    "the token twice": {"x-stack-auth": f'{{"accessToken":"{JWT}","accessToken":"{OTHER}"}}'},
    "the token twice, one escaped": {"x-stack-auth": f'{{"accessToken":"{JWT}","access\\u0054oken":"{OTHER}"}}'},
    "deep json": {"x-stack-auth": "[" * 8000},
    "a number of 5000 digits": {"x-stack-auth": '{"accessToken":' + "9" * 5000 + "}"},
    "a byte order mark": {"x-stack-auth": "\u00ef\u00bb\u00bf" + auth_json()},
    "no base64": {"authorization": "Bearer stackauth_***"},
    "base64url": {"authorization": "Bearer stackauth_eyJ-_w"},
    "unpadded base64": {"authorization": wrapped("{} ").rstrip("=") + "A"},
    "base64 with a line break": {"authorization": wrapped(auth_json()).replace("J", "J\n", 1)},
    "base64 of no utf-8": {"authorization": wrapped(b"\xff\xfe")},
    "base64 of no json": {"authorization": wrapped("hello")},
    "nothing after the prefix": {"authorization": "Bearer stackauth_"},
    "latin-1 after the prefix": {"authorization": "Bearer hexclave_\xe9"},
    "wrapped over the limit": {"authorization": wrapped("x" * MAX_BYTES)},
    "wrapped twice": {"authorization": f"{wrapped(auth_json())},{wrapped(auth_json())}"},
    "bearer twice": {"authorization": f"Bearer {JWT},Bearer {JWT}"},
    "bearer and basic": {"authorization": f"Bearer {JWT}, Basic dXNlcjpwYXNz"},
    "bearer over the limit": {"authorization": "Bearer a.b." + "c" * OVER},
    "the sub-protocol alone": {"sec-websocket-protocol": "stackauth"},
    "the sub-protocol last": {"sec-websocket-protocol": "chat, stackauth"},
    "the sub-protocol twice": {"sec-websocket-protocol": f"stackauth, {JWT}, stackauth, {JWT}"},
    "a sub-protocol over the limit": {"sec-websocket-protocol": "stackauth, " + "a" * OVER},
    "sub-protocols over the limit": {"sec-websocket-protocol": f"stackauth, {JWT}".ljust(2 * MAX_BYTES + 1, ",")},
}


@pytest.mark.parametrize("headers", MALFORMED.values(), ids=MALFORMED)
def test_malformed_credential_is_an_invalid_request(headers: dict[str, str]) -> None:
    error = refused(headers)
    assert error.code is ErrorCode.INVALID_REQUEST
    assert error.restricted_reason is None


@pytest.mark.parametrize("headers", MALFORMED.values(), ids=MALFORMED)
def test_error_shows_nothing_of_the_credential(headers: dict[str, str]) -> None:
    """A malformed credential may hold valid tokens; the detail is logged, and so may the traceback be."""
    error = refused(headers)
    words = [word for value in headers.values() for word in (JWT, REFRESH, value) if len(word) > 4 and word in value]
    assert not any(word in str(error) for word in words)
    assert error.__context__ is None, "not even a suppressed one, whose attributes and frames hold the credential"


def test_details_of_malformed_credentials() -> None:
    """The detail is all that the log shows."""
    assert {refused(headers).detail for headers in MALFORMED.values()} == {
        "a credential over 8 KiB",
        "a credential that is not one JSON object",
        "an access token header twice",
        "an access token that is not a string",
        "an authorization header twice",
        "no base64 after the bearer prefix",
        "one header in both brands",
        "sub-protocols over 16 KiB",
        "the sub-protocol without exactly one token",
    }


@pytest.mark.parametrize("value", ["undefined", "null", "not a token", "a.b", "a b.c.d", "\xff", "{}", "Bearer x"])
def test_own_header_yields_whatever_it_holds(value: str) -> None:
    """It is verified as a token, and so refused as INVALID_TOKEN, not as MISSING_TOKEN."""
    assert read(x_stack_access_token=value) == value


@pytest.mark.parametrize("value", [JWT, f" {JWT}", f"{JWT}\t", f"\t {JWT} \t"])
def test_blanks_around_a_value_are_removed(value: str) -> None:
    """RFC 9110 section 5.5. Some WSGI servers leave them."""
    assert read(x_stack_access_token=value) == JWT


@pytest.mark.parametrize("value", [f"\n{JWT}", f"{JWT}\r", f"\x0b{JWT}", f"{JWT}\xa0"], ids=repr)
def test_other_white_space_is_part_of_the_value(value: str) -> None:
    """So the value is not our token, scheme or sub-protocol."""
    assert read(x_stack_access_token=value) == value
    assert read(authorization=value.replace(JWT, f"Bearer {JWT}")) in (None, value)
    assert read(sec_websocket_protocol=value.replace(JWT, f"stackauth,{JWT}")) in (None, value)
    assert split_subprotocols(f" {value}\t,X{value}X") == [value, f"X{value}X"]


def test_scheme_with_a_letter_before_it_is_another_scheme() -> None:
    assert read(authorization=f"XBearer {JWT}") is None
    assert read(authorization=f" Bearer {JWT}") == JWT


def test_credential_of_the_maximum_length_is_accepted() -> None:
    assert read(x_stack_access_token="a" * MAX_BYTES) == "a" * MAX_BYTES
    jwt = "a.b." + "c" * (MAX_BYTES - 4)
    assert read(authorization=f"Bearer {jwt}") == jwt
    assert read(sec_websocket_protocol="stackauth," + "a" * MAX_BYTES) == "a" * MAX_BYTES
    text = auth_json(more="")
    assert read(x_stack_auth=auth_json(more="x" * (MAX_BYTES - len(text)))) == JWT


def test_surrogate_in_json_is_returned() -> None:
    """`tokens` refuses text that is not ASCII before anything encodes it."""
    assert read(x_stack_auth='{"accessToken":"\\ud800"}') == "\ud800"


def test_token_is_the_subprotocol_after_ours() -> None:
    assert read(sec_websocket_protocol=f"chat,stackauth ,\t{JWT}, other") == JWT
    assert split_subprotocols("a, b\t,c,") == ["a", "b", "c", ""]


def test_refresh_token_is_never_returned() -> None:
    for headers in ({"x-stack-auth": auth_json(None)}, {"authorization": wrapped(auth_json(None))}):
        assert extract(headers, ALL) is None


# -- any text -----------------------------------------------------------------------------------------

PIECES = st.sampled_from(
    [
        JWT,
        OTHER,
        ",",
        " ",
        "\t",
        "Bearer ",
        "bearer",
        "stackauth_",
        "hexclave_",
        "stackauth",
        auth_json(),
        "{",
        "}",
        "null",
        base64.b64encode(auth_json().encode()).decode(),
        "=",
        ".",
        "a.b.c",
        "\x00",
        "\xff",
        "\ud800",
        "\u0130",
        '{"accessToken":',
    ]
)
TEXTS = st.lists(PIECES, max_size=6).map("".join) | st.text(max_size=30)


@bounded
@given(
    headers=st.dictionaries(st.sampled_from(sorted(HEADERS)), TEXTS),
    token_sources=st.sets(st.sampled_from(TOKEN_SOURCES)),
)
@example({"authorization": "Bearer " + "stackauth_" * 2000}, set())
@example({"authorization": "Bearer " + "." * 9000}, {"bearer"})
def test_any_headers_yield_a_token_or_none_or_an_invalid_request(
    headers: dict[str, str], token_sources: set[TokenSource]
) -> None:
    """No other exception, and no token over the limit."""
    try:
        found = extract(headers, frozenset(token_sources))
    except RefusedError as error:
        refusal = error
    else:
        assert found is None or (found and len(found) <= MAX_BYTES)
        return
    assert refusal.code is ErrorCode.INVALID_REQUEST
    assert refusal.detail


@bounded
@given(headers=st.dictionaries(st.sampled_from(sorted(HEADERS)), TEXTS))
def test_first_source_yields_the_same_whichever_others_are_enabled(headers: dict[str, str]) -> None:
    if any(headers.get(name, "").strip(" \t") for name in ("x-stack-access-token", "x-hexclave-access-token")):

        def outcome(token_sources: frozenset[TokenSource]) -> object:
            try:
                return extract(headers, token_sources)
            except RefusedError as error:
                return error.code, error.detail

        assert outcome(ALL) == outcome(DEFAULT) == outcome(frozenset({"x-stack-access-token"}))


@bounded
@given(st.text(st.characters(max_codepoint=0xFF), max_size=40))
def test_refresh_token_of_any_text_is_ignored(refresh: str) -> None:
    text = json.dumps({"refreshToken": refresh, "accessToken": JWT})
    assert read(x_stack_auth=text) == JWT
    assert read(authorization=wrapped(text)) == JWT


def test_token_sources_and_headers() -> None:
    assert TOKEN_SOURCES == get_args(TokenSource) == ("x-stack-access-token", "bearer", "x-stack-auth", "websocket")
    assert {
        "x-stack-access-token",
        "x-hexclave-access-token",
        "x-stack-auth",
        "x-hexclave-auth",
        "authorization",
        "sec-websocket-protocol",
        "x-stack-api-key",
        "x-hexclave-api-key",
        "x-api-key",
    } == HEADERS
    assert credentials.SUBPROTOCOL == "stackauth"


def test_vary_names_the_headers_that_the_enabled_sources_read() -> None:
    """Responses to WebSocket handshakes are not cached."""
    assert vary_names(DEFAULT) == (
        *("X-Stack-Access-Token", "X-Hexclave-Access-Token"),
        *("Authorization", "X-Stack-Auth", "X-Hexclave-Auth"),
    )
    assert vary_names({"bearer"}) == vary_names({"websocket", "bearer"}) == ("Authorization",)
    assert {name.lower() for name in vary_names(ALL, API_KEY_SOURCES)} == HEADERS - {"sec-websocket-protocol"}
    assert vary_names({"bearer"}, {"bearer", "x-api-key"}) == ("Authorization", "X-Api-Key")


# -- API keys -----------------------------------------------------------------------------------------

EVERY_HEADER = ("x-stack-api-key", "x-hexclave-api-key", "x-api-key")


@pytest.mark.parametrize("name", EVERY_HEADER)
@pytest.mark.parametrize("value", [key(), key()[:-1], "hello", f"Bearer {key()}"])
def test_header_for_api_keys_holds_a_key_whatever_its_form(name: str, value: str) -> None:
    assert extract_api_key({name: f" {value}\t"}, API_KEY_SOURCES) == value
    assert extract_api_key({name: value, "authorization": "Basic eDp5"}, API_KEY_SOURCES) == value
    assert extract({name: value}, ALL) is None


@pytest.mark.parametrize("value", [key(), key(kind="team"), key("pk", scanner="2")])
def test_bearer_value_with_form_and_checksum_is_an_api_key(value: str) -> None:
    assert extract_api_key({"authorization": f"bEaReR  {value} "}, API_KEY_SOURCES) == value
    assert extract({"authorization": f"Bearer {value}"}, ALL) is None


@pytest.mark.parametrize("value", [key()[:-1] + "x", "sk_live_abc", "ghp_x", JWT, "", f"{key()} x"])
def test_other_bearer_value_is_no_api_key(value: str) -> None:
    """It is a token, or the app's own business."""
    assert extract_api_key({"authorization": f"Bearer {value}"}, API_KEY_SOURCES) is None
    assert extract_api_key({"authorization": value}, API_KEY_SOURCES) is None


@pytest.mark.parametrize("source", API_KEY_SOURCES)
def test_source_of_api_keys_that_is_not_enabled_is_not_read(source: ApiKeySource) -> None:
    names = {"x-stack-api-key": EVERY_HEADER[:2], "x-api-key": ["x-api-key"], "bearer": ["authorization"]}[source]
    for name in names:
        headers = {name: f"Bearer {key()}" if source == "bearer" else key()}
        assert extract_api_key(headers, set(API_KEY_SOURCES) - {source}) is None
        assert extract_api_key(headers, {source}) == key()


@pytest.mark.parametrize("value", ["", " ", "\t"])
def test_empty_header_is_no_api_key(value: str) -> None:
    assert extract_api_key(dict.fromkeys((*EVERY_HEADER, "authorization"), value), API_KEY_SOURCES) is None


@pytest.mark.parametrize(
    "headers",
    [
        {"x-api-key": key(), "x-stack-api-key": key()},
        {"x-stack-api-key": key(), "x-hexclave-api-key": key()},
        {"x-api-key": "junk", "authorization": f"Bearer {key()}"},
        {"x-api-key": f"{key()},"},
        {"x-api-key": ","},
        {"authorization": f"Bearer {key()},"},
        {"authorization": f"Bearer {key()} , Bearer {key()}"},
        {"x-api-key": f"{key()}, {key()}"},
        {"x-api-key": "x" * OVER},
    ],
)
def test_several_api_keys_are_malformed(headers: dict[str, str]) -> None:
    with pytest.raises(RefusedError) as caught:
        extract_api_key(headers, API_KEY_SOURCES)
    assert caught.value.code is ErrorCode.INVALID_REQUEST


@bounded
@given(headers=st.dictionaries(st.sampled_from(sorted(HEADERS)), TEXTS | st.just(key()) | st.just(f"Bearer {key()}")))
def test_request_with_one_credential_has_one(headers: dict[str, str]) -> None:
    try:
        token, api_key = extract(headers, ALL), extract_api_key(headers, API_KEY_SOURCES)
    except RefusedError as error:
        refusal = error
    else:
        refusal = None
    if refusal is not None:
        assert refusal.code is ErrorCode.INVALID_REQUEST
        return
    if headers.keys() == {"authorization"}:
        assert token is None or api_key is None
    if not headers.keys() & {*EVERY_HEADER}:
        assert api_key in (None, key())
