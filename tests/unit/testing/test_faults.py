from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from stackauth_middleware.testing._faults import (
    ActiveFaults,
    Fault,
    Faults,
    LoggedRequest,
    RequestLog,
    failed,
    throttled,
)

NO_FAULTS = ActiveFaults(0, down=False, database_down=False, response=None)


def test_no_fault_is_active_at_first() -> None:
    assert Faults().active_for("jwks") == NO_FAULTS


def test_a_fault_ends_with_its_context() -> None:
    faults = Faults()
    with faults.during(Fault(down=True)):
        assert faults.active_for("users/me").down
    assert faults.active_for("users/me") == NO_FAULTS
    with pytest.raises(ZeroDivisionError), faults.during(Fault(down=True)):
        raise ZeroDivisionError
    assert faults.active_for("users/me") == NO_FAULTS


def test_faults_nest() -> None:
    faults = Faults()
    with ExitStack() as outer:
        outer.enter_context(faults.during(Fault(seconds=1)))
        outer.enter_context(faults.during(Fault(response=throttled(None))))
        with faults.during(Fault(seconds=2, response=failed(503))), faults.during(Fault(database_down=True)):
            assert faults.active_for("jwks") == ActiveFaults(3, down=False, database_down=True, response=failed(503))
        assert faults.active_for("jwks") == ActiveFaults(1, down=False, database_down=False, response=throttled(None))
    assert faults.active_for("jwks") == NO_FAULTS


def test_contexts_may_end_in_any_order() -> None:
    faults = Faults()
    one, two = faults.during(Fault(seconds=1)), faults.during(Fault(seconds=1))
    one.__enter__()
    two.__enter__()
    one.__exit__(None, None, None)
    assert faults.active_for("jwks").seconds == 1
    two.__exit__(None, None, None)
    assert faults.active_for("jwks").seconds == 0


def test_a_fault_may_be_for_one_kind_only() -> None:
    faults = Faults()
    with faults.during(Fault(only="jwks", down=True)):
        assert faults.active_for("jwks").down
        assert faults.active_for("users/me") == NO_FAULTS


@pytest.mark.parametrize("retry_after", [None, "7", "Wed, 21 Oct 2026 07:28:00 GMT"])
def test_a_429_is_the_recorded_one(retry_after: str | None) -> None:
    answer = throttled(retry_after)
    assert answer.status == 429
    assert answer.body == b'{"message":"Artificial development rate limit triggered. Wait before retrying."}'
    told = {} if retry_after is None else {"retry-after": retry_after}
    assert dict(answer.headers) == {"content-type": "application/json", **told, "content-length": "80"}


def test_500_equals_that_of_the_server() -> None:
    answer = failed(500)
    assert answer.status == 500
    assert answer.body.startswith(b"Something went wrong. ")
    assert dict(answer.headers)["x-stack-request-id"]


@pytest.mark.parametrize("status", [404, 502, 503])
def test_other_statuses_look_like_those_of_a_proxy(status: int) -> None:
    answer = failed(status)
    assert (answer.status, answer.body) == (status, b"The local Stack Auth was made to fail.")
    assert dict(answer.headers) == {
        "content-type": "text/plain; charset=utf-8",
        "cache-control": "no-store, max-age=0",
        "content-length": "38",
    }


def test_requests_are_counted_by_kind_and_kept_in_order() -> None:
    log = RequestLog()
    one, two = LoggedRequest("jwks", "GET", "/a", {"x": "y"}), LoggedRequest("users/me", "GET", "/b", {})
    log.add(one)
    log.add(two)
    log.add(one)
    assert (log.count(), log.count("jwks"), log.count("users/me"), log.count("refresh")) == (3, 2, 1, 0)
    assert list(log) == [one, two, one]
    assert log[-2] is two
    assert len(log) == 3
    log.clear()
    assert (log.count(), log.count("jwks"), list(log), len(log)) == (0, 0, [], 0)


def test_repr_hides_headers() -> None:
    assert (
        repr(LoggedRequest("jwks", "GET", "/a", {"x": "secret"}))
        == "LoggedRequest(kind='jwks', method='GET', target='/a')"
    )


def test_the_log_is_bounded_and_the_count_is_not() -> None:
    log = RequestLog()
    asked = LoggedRequest("jwks", "GET", "/a", {})
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(log.add, [asked] * 10_100))
    assert len(log) == 10_000
    assert log.count() == 10_100
