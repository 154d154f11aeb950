"""Benchmarks a, b, c and g: what a token costs, without a request around it."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any

from stackauth_middleware import AsyncVerifier, RefusedError, StackAuthASGIMiddleware, StackAuthWSGIMiddleware, Verifier

from .contenders import PEERS, RSA_PEERS, Peer, Snippet, done, present
from .drive import Asgi, Wsgi
from .material import site
from .timing import Benchmark, Contender, Figure, Pace, interleaved, over, ratio

POOL = 1200
MEMORY = 1000
"""Less than `POOL`: by the time a token comes round again, it was thrown out."""
OURS = "Verifier.verify"
NO_TOKEN = "Verifier.authenticate"
FLOOR = "cryptography, bare ECDSA verify"
SNIPPET = "documented snippet"


def first_sight(pace: Pace) -> Benchmark:
    benchmark = Benchmark("a", "A token that is new to the process")
    with site() as stack:
        tokens = stack.tokens(POOL)
        contenders = [_timed(peer, tokens) for peer in present(PEERS, stack, benchmark.notes)]
        for peer in present(RSA_PEERS, stack, benchmark.notes):
            contenders.append(_timed(peer, [peer.token() for _ in range(64)]))
        for name, memory in ((OURS, MEMORY), (f"{OURS}, token_cache_size=0", 0)):
            verifier = Verifier(stack.config(token_cache_size=memory))
            Peer(name, verifier.verify, stack.token).prove()
            contenders.append(Contender(name, over(tokens, verifier.verify), ours=True))
        benchmark.figures = interleaved("new token", contenders, pace)
    floor, ours = benchmark.figure("new token", FLOOR), benchmark.figure("new token", OURS)
    benchmark.at_most("at most 1.32x the bare ECDSA verify", ratio(ours, floor), 1.32, "x")
    peers = (each for each in benchmark.figures if not (each.ours or each is floor or "RS256" in each.name))
    fastest = min(peers, key=lambda each: each.median)
    benchmark.at_most(f"at most 0.9x the fastest peer, {fastest.name}", ratio(ours, fastest), 0.9, "x")
    benchmark.notes.append("RS256 where a peer supports nothing else; an RSA check of 2048 bits costs less.")
    benchmark.notes.append(
        "PyJWT, joserfc, Authlib and python-jose check issuer, audience and expiry; the snippet no issuer."
    )
    return benchmark


def seen_before(pace: Pace) -> Benchmark:
    benchmark = Benchmark("b", "A cached token")
    with site() as stack:
        token = stack.token()
        verifier, averifier, snippet = Verifier(stack.config()), AsyncVerifier(stack.config()), Snippet(stack.jwks_url)
        asyncio.run(averifier.prefetch_keys())
        contenders = [
            Contender(OURS, over([token], verifier.verify), ours=True),
            Contender("AsyncVerifier.verify", over([token], lambda each: done(averifier.verify(each))), ours=True),
            Contender(SNIPPET, over([token], snippet.required)),
        ]
        benchmark.figures = interleaved("cached token", contenders, pace)
    ours, theirs = benchmark.figure("cached token", OURS), benchmark.figure("cached token", SNIPPET)
    benchmark.at_most("at most 2.3 us", ours.median, 2.3, "us")
    benchmark.at_least("at least 60x faster than the snippet", ratio(theirs, ours), 60, "x")
    return benchmark


def refusals(pace: Pace) -> Benchmark:
    benchmark = Benchmark("c", "Refusals")
    with site() as stack:
        verifier, snippet = Verifier(stack.config()), Snippet(stack.jwks_url)
        asgi, wsgi = Asgi(20), Wsgi(20)
        asgi_middleware = StackAuthASGIMiddleware(asgi.app, stack.config())
        wsgi_middleware = StackAuthWSGIMiddleware(wsgi.app, stack.config())
        good = stack.token()
        snippet.required(good)
        floor_peer = PEERS["cryptography"](stack)
        floor = interleaved("bare", [_timed(floor_peer, [good])], pace)
        verifier.verify(good)
        wsgi.call(wsgi_middleware, wsgi.environ(good))
        asgi.fetch_keys(asgi_middleware, good)
        for case, token in {"none": None, **stack.refused()}.items():
            contenders = [
                Contender("ASGI middleware", over([asgi.scope(token)], _asgi(asgi, asgi_middleware)), ours=True),
                Contender("WSGI middleware", over([wsgi.environ(token)], _wsgi(wsgi, wsgi_middleware)), ours=True),
            ]
            if token is None:
                contenders.append(Contender(NO_TOKEN, over([{}], verifier.authenticate), ours=True))
            else:
                contenders.append(Contender(OURS, over([token], _refusing(verifier.verify)), ours=True))
                contenders.append(Contender(SNIPPET, over([token], snippet.verify)))
            benchmark.figures += interleaved(case, contenders, pace)
        assert asgi.statuses == {200, 401}
        assert wsgi.statuses == {"200 OK", "401 Unauthorized"}
    for case, name, limit in (("none", NO_TOKEN, 4), ("garbage", OURS, 4), ("unknown kid", OURS, 18)):
        benchmark.at_most(f"{case} at most {limit} us, {name}", benchmark.figure(case, name).median, limit, "us")
    bad = benchmark.figure("bad signature", OURS).median / floor[0].median
    benchmark.at_most(f"bad signature at most as (a), {OURS}", bad, 1.45, "x the bare verify")
    benchmark.notes.append(
        "Through a middleware: 20 headers, response included. Without a token the snippet does nothing."
    )
    benchmark.notes.append("PyJWKClient fetches the keys again when a key id is unknown, at most every 30 s.")
    return benchmark


def users(pace: Pace) -> Benchmark:
    benchmark = Benchmark("g", "Several users' tokens, several requests each")
    with site() as stack:
        tokens = stack.tokens(POOL)
        verifier, snippet = Verifier(stack.config(token_cache_size=MEMORY)), Snippet(stack.jwks_url)
        verifier.verify(tokens[0])
        snippet.required(tokens[0])
        supply = itertools.cycle(
            tokens
        )  # shared by all cases, since the first tokens are still cached when the next case begins
        for count, each in itertools.product((1, 8, 64), (1, 10, 100)):
            case = f"{count} users, {each} requests each"
            contenders = [
                Contender(OURS, _sessions(supply, count, each, verifier.verify), ours=True),
                *(
                    [Contender(SNIPPET, _sessions(itertools.cycle(tokens), count, 1, snippet.required))]
                    if each == 1
                    else []
                ),
            ]
            benchmark.figures += _per_request(interleaved(case, contenders, _slower(pace)), count * each)
    benchmark.notes.append("Cost per request; every user's first request is the first use of its token.")
    benchmark.notes.append("The snippet has no cache: every request costs it as much as the first.")
    return benchmark


def _timed(peer: Peer, tokens: list[str]) -> Contender:
    return Contender(peer.name, over([peer.prepare(each) for each in tokens], peer.verify))


def _refusing(verify: Callable[[str], object]) -> Callable[[str], None]:
    def refuse(token: str) -> None:
        try:
            verify(token)
        except RefusedError:
            return
        raise AssertionError("let in")

    return refuse


def _asgi(asgi: Asgi, middleware: Any) -> Callable[[Any], None]:
    return lambda scope: asgi.call(middleware, scope)


def _wsgi(wsgi: Wsgi, middleware: Any) -> Callable[[Any], None]:
    return lambda environ: wsgi.call(middleware, environ)


def _sessions(
    supply: Iterator[str], users: int, requests: int, verify: Callable[[str], object]
) -> Callable[[int], float]:
    """Return a run in which `users` new users send `requests` requests each, in turns."""

    def run(loops: int) -> float:
        taken = [list(itertools.islice(supply, users)) for _ in range(loops)]
        start = time.thread_time()
        for batch in taken:
            for _ in range(requests):
                for token in batch:
                    verify(token)
        return time.thread_time() - start

    return run


def _per_request(figures: list[Figure], requests: int) -> list[Figure]:
    return [Figure(f.case, f.name, f.unit, [s / requests for s in f.samples], f.ours) for f in figures]


def _slower(pace: Pace) -> Pace:
    return pace._replace(rounds=max(3, pace.rounds // 4))


BENCHMARKS: dict[str, Callable[[Pace], Benchmark]] = {"a": first_sight, "b": seen_before, "c": refusals, "g": users}
