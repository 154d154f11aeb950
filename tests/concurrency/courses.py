"""Every order in which several askers can take their steps: a small model of the edges, walked to the end.

An asker drives a script as an edge does, but one step at a time, and between any two of its steps
the others may take theirs. A step ends where a thread could lose the processor with something left
to be seen: after a look, after boarding a flight, before and after a call, before and after landing.
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
    """What becomes of an asker whose caller left."""


class Asker:
    """One of several who ask at the same time.

    Args:
        begin: makes the step of the package, given both clocks: a script, or a result at once.
        alike: askers with an equal one differ in nothing but their place in the list.
        mortal: whether its caller may leave at any time, once.
        impatient: whether its wait for a flight may end before the flight does.

    Attributes:
        saw_sent: how many calls had been made when it came.
        saw_back: how many were answered when it came.
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
        self.flights: list[Share] = []
        self.flight: Share | None = None
        self.call: Call | None = None
        self.token_source: Asker | None = None
        self.led: Led | None = None
        self.number = 0
        self.saw_sent = self.saw_back = 0
        self.outcome: Any = None
        self.trace: Hashable = ()


@dataclass
class World:
    """What the askers share.

    Attributes:
        askers: who asks.
        clock: stands still, but for what a call takes.
        answers: what Stack Auth may say to a call, one of several things, by the call and its number.
        remembered: what the package holds between steps, for telling equal states.
        judge: holds what came of an asker against what must, as soon as it is done.
        check: the same for the calls of a whole course.
        on_call: told of each call as it is made, before it is counted.
        takes: seconds that pass with each answer.
    """

    askers: list[Asker]
    clock: Clock
    answers: Callable[[Call, int], list[Answer]]
    remembered: Callable[[], Hashable]
    judge: Callable[[Asker], None]
    check: Callable[[Course], None]
    on_call: Callable[[Course, Asker], None] = lambda course, asker: None
    takes: float = 0.0


@dataclass
class Course:
    """One order of steps, from the first to the last."""

    world: World
    steps: list[str] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    back: int = 0
    aloft: dict[Hashable, Asker] = field(default_factory=dict)

    @property
    def in_the_air(self) -> int:
        return sum(each.call is not None for each in self.world.askers)

    @property
    def left(self) -> int:
        """How many callers left."""
        return sum(isinstance(each.outcome, Gone) for each in self.world.askers)

    def options(self) -> list[tuple[Asker, str]]:
        """Return the steps that can be taken next."""
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
        before = self.world.remembered() if what == "new" or what.startswith(("carry", "resume")) else None
        if what == "new":
            self._begin(asker)
        elif what == "board":
            self._board(asker)
        elif what == "carry":
            asker.scripts.append(asker.flights[-1].script())
            self._resume(asker, None)
        elif what.startswith("answer"):
            self._answered(asker, int(what.split()[1]))
        elif what == "land":
            self._land(asker)
            asker.phase = "resume as leader"
        elif what == "resume as leader":
            assert asker.led is not None
            self._resume(asker, Resume(asker.led, self.world.clock.now))
        elif what == "time out":
            asker.token_source = None
            self._resume_later(asker, ShareEnd.TIMED_OUT)
        elif what == "die":
            self._die(asker)
        elif what == "dying aloft":
            self._land(asker)
            self._die(asker)
        else:
            self._resume(asker, Resume(ShareEnd[what.partition(" ")[2]], self.world.clock.now))
        if before is not None and not (what == "carry" and asker.phase == "calling"):
            asker.trace = hash((asker.trace, what, before, self.world.clock.now))
        elif what.startswith("answer"):
            asker.trace = hash((asker.trace, what, self.world.clock.now))
        if asker.phase == "done" or asker.phase.startswith("dying"):
            asker.trace = None
        if asker.phase == "done" and not isinstance(asker.outcome, Gone):
            self.world.judge(asker)

    def state(self) -> Hashable:
        """Return what the rest of the course depends on: of each asker where it is and what it saw on its way."""
        askers = sorted(
            hash(
                (
                    each.alike,
                    each.phase,
                    each.trace,
                    isinstance(each.outcome, Gone),
                    tuple(flight.key for flight in each.flights),
                    each.flight and each.flight.key,
                    each.phase != "done" and (each.saw_sent, each.saw_back),
                )
            )
            for each in self.world.askers
        )
        return tuple(askers), self.world.remembered(), self.world.clock.now, len(self.calls), self.back

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
        """Drive the innermost script to its next effect, or to its end."""
        try:
            effect = asker.scripts[-1].send(resume)
        except (StopIteration, RefusedError, AuthServerError) as end:
            asker.scripts.pop()
            if asker.scripts:
                if not isinstance(end, StopIteration):
                    raise AssertionError("a flight must not raise") from end
                asker.led, asker.phase = Led(end.value), "land"
            else:
                asker.outcome = end.value if isinstance(end, StopIteration) else end
                asker.phase = "done"
            return
        if isinstance(effect, Call):
            self.world.on_call(self, asker)
            self.calls.append(effect)
            asker.call, asker.number, asker.phase = effect, len(self.calls), "calling"
        else:
            asker.flight, asker.phase = effect, "board"

    def _resume_later(self, asker: Asker, end: ShareEnd) -> None:
        asker.phase = f"resume {end.name}"

    def _board(self, asker: Asker) -> None:
        flight, asker.flight = asker.flight, None
        assert flight is not None
        token_source = self.aloft.setdefault(flight.key, asker)
        if token_source is asker:
            asker.flights.append(flight)
            asker.phase = "carry"
            return
        waiting = sum(each.token_source is token_source for each in self.world.askers)
        if not flight.wait:
            self._resume_later(asker, ShareEnd.TIMED_OUT)
        elif flight.max_waiters is not None and waiting >= flight.max_waiters:
            self._resume_later(asker, ShareEnd.FULL)
        else:
            asker.token_source, asker.phase = token_source, "waiting"

    def _answered(self, asker: Asker, which: int) -> None:
        assert asker.call is not None
        answer = self.world.answers(asker.call, asker.number)[which]
        asker.call = None
        self.back += 1
        self.world.clock.pass_by(self.world.takes)
        self._resume(asker, Resume(answer, self.world.clock.now))

    def _land(self, asker: Asker) -> None:
        del self.aloft[asker.flights.pop().key]
        for each in self.world.askers:
            if each.token_source is asker:
                each.token_source = None
                self._resume_later(each, ShareEnd.DONE)

    def _die(self, asker: Asker) -> None:
        """Close the innermost script; what it carried lands in a step of its own, as in a thread that unwinds."""
        asker.call = asker.token_source = None
        if asker.phase not in ("land", "carry") and asker.scripts:
            asker.scripts.pop().close()
        asker.phase = "dying aloft" if asker.flights else "done"
        if asker.phase == "done":
            while asker.scripts:
                asker.scripts.pop().close()
            asker.outcome = Gone()


def walk(make: Callable[[], World], *, pruned: bool = True) -> int:
    """Take every course, hold each against what must come of it, and return how many states or courses there were.

    Args:
        make: makes the world anew, the same each time.
        pruned: whether to leave a course where it comes to a state from which another went on.

    Raises:
        AssertionError: a course went wrong; its steps are told.
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
    """Take `course` as far as `chosen` says and on to its end; say whether it came there."""
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
    assert not stuck, f"{stuck} wait for ever"
    assert course.aloft == {}
    course.world.check(course)
    return True
