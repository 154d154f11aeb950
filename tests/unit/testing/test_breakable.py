from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from stackauth_middleware._core.cache import Atomic
from stackauth_middleware.testing._breakable import Breakable
from stackauth_middleware.testing._faults import failed, throttled


class Breaking(Breakable):
    @property
    def trouble(self) -> Any:
        return self._faults.meeting("jwks")

    @property
    def other(self) -> Any:
        return self._faults.meeting("users/me")


WELL = Breaking().trouble
LOG_INTERVAL: list[Callable[..., Any]] = [
    Breaking.down,
    lambda local, **how: local.delay(3, **how),
    Breaking.throttle,
    Breaking.fail,
]


@pytest.fixture
def held() -> Atomic[str]:
    """What a verifier holds: forgotten, it says so."""
    cell = Atomic("nothing")
    cell.put("keys")
    return cell


@pytest.mark.parametrize("fault", LOG_INTERVAL)
def test_every_fault_may_be_for_one_kind_only(fault: Callable[..., Any]) -> None:
    local = Breaking()
    with fault(local, only="jwks"):
        assert local.trouble != WELL
        assert local.other == WELL
    assert local.trouble == WELL


@pytest.mark.parametrize("fault", [*LOG_INTERVAL, Breaking.database_down])
def test_verifiers_forget_on_the_way_out(fault: Callable[..., Any], held: Atomic[str]) -> None:
    with fault(Breaking()):
        assert held.record == "keys"
    assert held.record == "nothing"


@pytest.mark.parametrize("fault", [*LOG_INTERVAL, Breaking.database_down])
def test_verifiers_forget_after_an_error_too(fault: Callable[..., Any], held: Atomic[str]) -> None:
    local = Breaking()

    def fail_within() -> None:
        with fault(local):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_within()
    assert held.record == "nothing"
    assert local.trouble == WELL


@pytest.mark.parametrize("fault", [*LOG_INTERVAL, Breaking.database_down])
def test_verifiers_may_be_left_to_find_out(fault: Callable[..., Any], held: Atomic[str]) -> None:
    with fault(Breaking(), reset=False):
        assert held.record == "keys"
    assert held.record == "keys"


def test_a_cold_start_has_verifiers_forget_on_the_way_in(held: Atomic[str]) -> None:
    with Breaking().down(cold=True, reset=False):
        assert held.record == "nothing"


def test_each_fault_is_what_its_name_says() -> None:
    local = Breaking()
    with local.down():
        assert local.trouble == (0, True, False, None)
    with local.delay(1.5), local.delay(2):
        assert local.trouble == (3.5, False, False, None)
    with local.database_down():
        assert local.trouble == (0, False, True, None)
    with local.fail(503):
        assert local.trouble == (0, False, False, failed(503))


@pytest.mark.parametrize(
    ("retry_after", "told"), [(None, None), (3, "3"), (2.5, "2.5"), ("soon", "soon"), (86400, "86400")]
)
def test_a_throttle_tells_when_to_come_back(retry_after: float | str | None, told: str | None) -> None:
    local = Breaking()
    with local.throttle(retry_after):
        assert local.trouble == (0, False, False, throttled(told))


def test_a_failure_is_a_500_by_default() -> None:
    local = Breaking()
    with local.fail():
        assert local._faults.meeting("jwks").answer.status == 500  # type: ignore[union-attr]


def test_forgetting_is_for_all(held: Atomic[str]) -> None:
    Breakable().reset()
    assert held.record == "nothing"
