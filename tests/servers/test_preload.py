"""``gunicorn --preload``: the master has verified a token, and so holds keys, connections and locks, when it forks."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from stackauth_middleware.testing import LocalStackAuth

from .processes import serving, settings_for
from .wire import ask

JANE, JOHN = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"


def test_all_workers_verify_after_a_first_verification_in_the_master(local: LocalStackAuth) -> None:
    """Normal users with keys fetched before the fork; restricted users with keys that each worker fetches."""
    tokens = {JANE: local.token(), JOHN: local.token(user_type="restricted")}
    environ = settings_for(local) | {"FIRST_TOKEN": tokens[JANE]}
    before = local.requests.count("jwks")
    verified: set[tuple[int, str]] = set()
    with serving("gunicorn-preload", "tests.servers.preloaded:application", environ) as served:

        def verify(user_id: str) -> tuple[int, int]:
            answer = ask(served.port, "/", [("X-Stack-Access-Token", tokens[user_id])])
            assert answer.status == 200, answer
            assert answer.json["id"] == user_id
            assert answer.json["first"] == JANE
            verified.add((answer.json["pid"], user_id))
            return answer.json["pid"], answer.json["master"]

        with ThreadPoolExecutor(8) as pool:
            for _ in range(20):
                ids = list(pool.map(verify, [JANE, JOHN] * 8))
                if len(verified) == 8:
                    break
        assert "Traceback" not in served.log()
    pids = {pid for pid, _ in verified}
    assert len(pids) == 4
    assert len(verified) == 8
    assert {master for _, master in ids}.isdisjoint(pids)
    # one document in the master, and the two that tell restricted users in each worker
    assert local.requests.count("jwks") - before == 1 + 4 * 2
