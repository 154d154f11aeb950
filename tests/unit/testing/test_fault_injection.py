from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from stackauth_middleware._core.cache import Atomic
from stackauth_middleware.testing._fault_injection import FaultInjection
from stackauth_middleware.testing._faults import failed, throttled


class Breaking(FaultInjection):
    @property
    def active(self) -> Any:
        return self._faults.active_for("jwks")

    @property
    def other(self) -> Any:
        return self._faults.active_for("users/me")


WELL = Breaking().active
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
def test_each_fault_can_affect_one_kind_only(fault: Callable[..., Any]) -> None:
    local = Breaking()
    with fault(local, only="jwks"):
        assert local.active != WELL
        assert local.other == WELL
    assert local.active == WELL


@pytest.mark.parametrize("fault", [*LOG_INTERVAL, Breaking.database_down])
def test_caches_are_reset_at_the_end(fault: Callable[..., Any], held: Atomic[str]) -> None:
    with fault(Breaking()):
        assert held.record == "keys"
    assert held.record == "nothing"


@pytest.mark.parametrize("fault", [*LOG_INTERVAL, Breaking.database_down])
def test_caches_are_reset_after_an_exception(fault: Callable[..., Any], held: Atomic[str]) -> None:
    local = Breaking()

    def fail_within() -> None:
        with fault(local):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_within()
    assert held.record == "nothing"
    assert local.active == WELL


@pytest.mark.parametrize("fault", [*LOG_INTERVAL, Breaking.database_down])
def test_reset_false_keeps_the_caches(fault: Callable[..., Any], held: Atomic[str]) -> None:
    with fault(Breaking(), reset=False):
        assert held.record == "keys"
    assert held.record == "keys"


def test_cold_resets_the_caches_at_the_start(held: Atomic[str]) -> None:
    with Breaking().down(cold=True, reset=False):
        assert held.record == "nothing"


def test_each_method_injects_its_fault() -> None:
    local = Breaking()
    with local.down():
        assert local.active == (0, True, False, None)
    with local.delay(1.5), local.delay(2):
        assert local.active == (3.5, False, False, None)
    with local.database_down():
        assert local.active == (0, False, True, None)
    with local.fail(503):
        assert local.active == (0, False, False, failed(503))


@pytest.mark.parametrize(
    ("retry_after", "told"), [(None, None), (3, "3"), (2.5, "2.5"), ("soon", "soon"), (86400, "86400")]
)
def test_throttle_sends_retry_after(retry_after: float | str | None, told: str | None) -> None:
    local = Breaking()
    with local.throttle(retry_after):
        assert local.active == (0, False, False, throttled(told))


def test_fail_responds_500_by_default() -> None:
    local = Breaking()
    with local.fail():
        assert local._faults.active_for("jwks").response.status == 500


def test_reset_clears_all_caches(held: Atomic[str]) -> None:
    FaultInjection().reset()
    assert held.record == "nothing"
