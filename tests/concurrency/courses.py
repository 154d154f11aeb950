"""Every order in which several callers can take their steps: exhaustive search on a small model of the runners.

An `Asker` drives a script as a runner does, but one step at a time, and the others may take steps between any two
of its own. A step ends where a suspended thread would leave a state that others can see: after checking the cache,
after joining a fetch, before and after a call, before and after finishing a fetch.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

from stackauth_middleware._core.records import Clocks
from stackauth_middleware._core.upstream import Answer, Call, Led, Resume, Share, ShareEnd
from stackauth_middleware.errors import AuthServerError, RefusedError
from tests.unit.core.helpers import Clock


class Gone(Exception):
    """The outcome of a cancelled caller."""


class Asker:
    """One of several concurrent callers.

    Args:
        begin: takes both clocks; returns a script or a result.
        alike: callers with an equal value are interchangeable.
        mortal: whether it may be cancelled at any time, once.
        impatient: whether its wait may time out.

    Attributes:
        saw_sent: the number of calls made before it started.
        saw_back: the number of calls answered before it started.
    """

    def __init__(
        self,
        begin: Callable[[Clocks], Any],
        alike: Hashable = None,
        *,
        mortal: bool = False,
        impatient: bool = False,
    ) -> None:
        self.begin = begin
        self.alike = alike
        self.mortal = mortal
        self.impatient = impatient
        self.phase = "new"
        self.scripts: list[Any] = []
        self.shares: list[Share] = []
        self.share: Share | None = None
        self.call: Call | None = None
        self.leader: Asker | None = None
        self.led: Led | None = None
        self.number = 0
        self.saw_sent = self.saw_back = 0
        self.outcome: Any = None
        self.trace: Hashable = ()


@dataclass
class World:
    """The state that the callers share.

    Attributes:
        askers: the callers.
        clock: advances only by the duration of calls.
        answers: the possible results of a call, by the call and its number.
        cached: the state of the package between steps, to recognise equal states.
        judge: checks the outcome of a caller.
        check: checks the calls of a whole course.
        on_call: called for each call, before it is counted.
        takes: seconds that a call takes.
    """

    askers: list[Asker]
    clock: Clock
    answers: Callable[[Call, int], list[Answer]]
    cached: Callable[[], Hashable]
    judge: Callable[[Asker], None]
    check: Callable[[Course], None]
    on_call: Callable[[Course, Asker], None] = lambda course, asker: None
    takes: float = 0.0


@dataclass
class Course:
    """One order of steps."""

    world: World
    steps: list[str] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    back: int = 0
    in_flight: dict[Hashable, Asker] = field(default_factory=dict)

    @property
    def in_the_air(self) -> int:
        return sum(each.call is not None for each in self.world.askers)

    @property
    def left(self) -> int:
        """The number of cancelled callers."""
        return sum(isinstance(each.outcome, Gone) for each in self.world.askers)

    def options(self) -> list[tuple[Asker, str]]:
        """Return the possible next steps."""
        found: list[tuple[Asker, str]] = []
        for asker in self.world.askers:
            if asker.phase == "done":
                continue
            if asker.phase == "calling":
                assert asker.call is not None
                found += [(asker, f"answer {at}") for at in range(len(self.world.answers(asker.call, asker.number)))]
            elif asker.phase == "waiting":
                found += [(asker, "time out")] * asker.impatient
            else:
                found.append((asker, asker.phase))
            if asker.mortal and asker.phase != "new" and not asker.phase.startswith("dying"):
                found.append((asker, "die"))
        return found

    def take(self, asker: Asker, what: str) -> None:
        self.steps.append(f"{self.world.askers.index(asker)} {what}")
        before = self.world.cached() if what == "new" or what.startswith(("lead", "resume")) else None
        if what == "new":
            self._begin(asker)
        elif what == "join":
            self._join(asker)
        elif what == "lead":
            asker.scripts.append(asker.shares[-1].script())
            self._resume(asker, None)
        elif what.startswith("answer"):
            self._answered(asker, int(what.split()[1]))
        elif what == "finish":
            self._finish(asker)
            asker.phase = "resume as leader"
        elif what == "resume as leader":
            assert asker.led is not None
            self._resume(asker, Resume(asker.led, self.world.clock.now))
        elif what == "time out":
            asker.leader = None
            self._resume_later(asker, ShareEnd.TIMED_OUT)
        elif what == "die":
            self._die(asker)
        elif what == "dying in flight":
            self._finish(asker)
            self._die(asker)
        else:
            self._resume(asker, Resume(ShareEnd[what.partition(" ")[2]], self.world.clock.now))
        if before is not None and not (what == "lead" and asker.phase == "calling"):
            asker.trace = hash((asker.trace, what, before, self.world.clock.now))
        elif what.startswith("answer"):
            asker.trace = hash((asker.trace, what, self.world.clock.now))
        if asker.phase == "done" or asker.phase.startswith("dying"):
            asker.trace = None
        if asker.phase == "done" and not isinstance(asker.outcome, Gone):
            self.world.judge(asker)

    def state(self) -> Hashable:
        """Return the state on which the rest of the course depends."""
        askers = sorted(
            hash(
                (
                    each.alike,
                    each.phase,
                    each.trace,
                    isinstance(each.outcome, Gone),
                    tuple(share.key for share in each.shares),
                    each.share and each.share.key,
                    each.phase != "done" and (each.saw_sent, each.saw_back),
                )
            )
            for each in self.world.askers
        )
        return tuple(askers), self.world.cached(), self.world.clock.now, len(self.calls), self.back

    def _begin(self, asker: Asker) -> None:
        asker.saw_sent, asker.saw_back = len(self.calls), self.back
        try:
            step = asker.begin(self.world.clock.now)
        except (RefusedError, AuthServerError) as error:
            asker.outcome, asker.phase = error, "done"
            return
        if hasattr(step, "send"):
            asker.scripts.append(step)
            self._resume(asker, None)
        else:
            asker.outcome, asker.phase = step, "done"

    def _resume(self, asker: Asker, resume: Resume | None) -> None:
        """Run the innermost script to its next effect or its end."""
        try:
            effect = asker.scripts[-1].send(resume)
        except (StopIteration, RefusedError, AuthServerError) as end:
            asker.scripts.pop()
            if asker.scripts:
                if not isinstance(end, StopIteration):
                    raise AssertionError("the script of a shared fetch must not raise") from end
                asker.led, asker.phase = Led(end.value), "finish"
            else:
                asker.outcome = end.value if isinstance(end, StopIteration) else end
                asker.phase = "done"
            return
        if isinstance(effect, Call):
            self.world.on_call(self, asker)
            self.calls.append(effect)
            asker.call, asker.number, asker.phase = effect, len(self.calls), "calling"
        else:
            asker.share, asker.phase = effect, "join"

    def _resume_later(self, asker: Asker, end: ShareEnd) -> None:
        asker.phase = f"resume {end.name}"

    def _join(self, asker: Asker) -> None:
        share, asker.share = asker.share, None
        assert share is not None
        leader = self.in_flight.setdefault(share.key, asker)
        if leader is asker:
            asker.shares.append(share)
            asker.phase = "lead"
            return
        waiting = sum(each.leader is leader for each in self.world.askers)
        if not share.wait:
            self._resume_later(asker, ShareEnd.TIMED_OUT)
        elif share.max_waiters is not None and waiting >= share.max_waiters:
            self._resume_later(asker, ShareEnd.FULL)
        else:
            asker.leader, asker.phase = leader, "waiting"

    def _answered(self, asker: Asker, which: int) -> None:
        assert asker.call is not None
        answer = self.world.answers(asker.call, asker.number)[which]
        asker.call = None
        self.back += 1
        self.world.clock.pass_by(self.world.takes)
        self._resume(asker, Resume(answer, self.world.clock.now))

    def _finish(self, asker: Asker) -> None:
        del self.in_flight[asker.shares.pop().key]
        for each in self.world.askers:
            if each.leader is asker:
                each.leader = None
                self._resume_later(each, ShareEnd.DONE)

    def _die(self, asker: Asker) -> None:
        """Close the innermost script. A fetch that it leads finishes in a step of its own, as when a thread unwinds."""
        asker.call = asker.leader = None
        if asker.phase not in ("finish", "lead") and asker.scripts:
            asker.scripts.pop().close()
        asker.phase = "dying in flight" if asker.shares else "done"
        if asker.phase == "done":
            while asker.scripts:
                asker.scripts.pop().close()
            asker.outcome = Gone()


def walk(make: Callable[[], World], *, pruned: bool = True) -> int:
    """Take every course and check it; return the number of states or courses.

    Args:
        make: makes an equal world each time.
        pruned: whether to abandon a course at a state that was seen before.

    Raises:
        AssertionError: a course failed; the message has its steps.
    """
    seen: set[Hashable] = set()
    chosen: list[tuple[int, int]] = []
    count = 0
    while True:
        course = Course(make())
        try:
            count += _taken(course, chosen, seen, pruned=pruned)
        except AssertionError as error:
            raise AssertionError(f"{error}\nafter: {', '.join(course.steps)}") from error
        finally:
            for asker in course.world.askers:
                for script in reversed(asker.scripts):
                    script.close()
        while chosen and chosen[-1][0] + 1 == chosen[-1][1]:
            chosen.pop()
        if not chosen:
            return len(seen) if pruned else count
        chosen[-1] = chosen[-1][0] + 1, chosen[-1][1]


def _taken(course: Course, chosen: list[tuple[int, int]], seen: set[Hashable], *, pruned: bool) -> bool:
    """Take `course` by the choices in `chosen` and on to its end; return whether it got there."""
    depth = 0
    while options := course.options():
        if depth == len(chosen):
            if pruned and (state := course.state()) in seen:
                return False
            if pruned:
                seen.add(state)
            chosen.append((0, len(options)))
        assert chosen[depth][1] == len(options), "the world is not the same each time"
        course.take(*options[chosen[depth][0]])
        depth += 1
    stuck = [at for at, each in enumerate(course.world.askers) if each.phase != "done"]
    assert not stuck, f"{stuck} never finish"
    assert course.in_flight == {}
    course.world.check(course)
    return True
