"""The harness's own arithmetic and rendering. Nothing is timed here."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET

import pytest

from . import timing
from .__main__ import MODULES, RESULTS
from .plot import as_svg
from .report import SUMMARY, as_json, as_markdown, benchmark_from_json, machine, machine_line, rounded, summary_table
from .timing import Benchmark, Contender, Figure, Pace, excess, interleaved, over, ratio


def a_benchmark(key: str = "a", case: str = "new token") -> Benchmark:
    slow = Figure(case, "a <peer> & co", "us", [20.0, 40.0, 30.0])
    ours = Figure(case, "Verifier.verify", "us", [10.0, 10.0, 30.0], ours=True)
    benchmark = Benchmark(key, "Some benchmark", [slow, ours], notes=["a note"])
    benchmark.at_most("at most 2x", ratio(ours, slow), 2, "x")
    benchmark.at_least("at least 100x", 3.0, 100, "x")
    return benchmark


def test_figure_has_the_median_and_the_middle_half_of_its_samples() -> None:
    figure = Figure("case", "name", "us", [5, 1, 4, 2, 3])
    assert (figure.median, figure.spread) == (3, (2, 4))


def test_a_single_sample_is_its_own_spread() -> None:
    assert Figure("case", "name", "us", [7]).spread == (7, 7)


def test_ratio_and_excess_hold_each_round_against_itself() -> None:
    above, below = Figure("c", "a", "us", [2, 30, 400]), Figure("c", "b", "us", [1, 10, 200])
    assert ratio(above, below) == 2
    assert excess(above, below) == 20


def test_ratio_refuses_figures_of_different_runs() -> None:
    with pytest.raises(ValueError):
        ratio(Figure("c", "a", "us", [1]), Figure("c", "b", "us", [1, 2]))


@pytest.mark.parametrize(("value", "held"), [(1.0, True), (2.0, True), (2.1, False)])
def test_at_most(value: float, held: bool) -> None:
    benchmark = Benchmark("a", "title")
    benchmark.at_most("goal", value, 2.0, "x")
    assert benchmark.goals[0].held is held


@pytest.mark.parametrize(("value", "held"), [(1.9, False), (2.0, True), (3.0, True)])
def test_at_least(value: float, held: bool) -> None:
    benchmark = Benchmark("a", "title")
    benchmark.at_least("goal", value, 2.0, "x")
    assert benchmark.goals[0].held is held


def test_rounds_are_interleaved_and_begin_with_another_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "_loops", lambda run, budget: 4)
    order: list[str] = []

    def contender(name: str, seconds: float) -> Contender:
        def run(loops: int) -> float:
            order.append(name)
            return seconds * loops

        return Contender(name, run)

    figures = interleaved("case", [contender("A", 1e-6), contender("B", 3e-6)], Pace(True, 3, 1.0))
    assert order == ["A", "B", "B", "A", "A", "B"]
    assert [f.median for f in figures] == [pytest.approx(1), pytest.approx(3)]


@pytest.mark.parametrize(("cost", "expected"), [(0.001, 10), (0.000_01, 1000), (1.0, 1)])
def test_loops_fill_the_budget(cost: float, expected: int) -> None:
    assert timing._loops(lambda loops: cost * loops, 0.01) == expected


def test_over_hands_out_its_arguments_in_turns() -> None:
    seen: list[int] = []
    run = over([1, 2, 3], seen.append)
    run(2)
    run(2)
    assert seen == [1, 2, 3, 1]


def test_benchmark_survives_json() -> None:
    benchmark = a_benchmark()
    stored = json.loads(json.dumps(as_json(machine(), [benchmark], quick=True)))
    assert benchmark_from_json(stored["benchmarks"][0]) == benchmark
    assert stored["quick"] is True


def test_markdown_shows_goals_figures_and_notes() -> None:
    about = machine()
    text = as_markdown(about, [a_benchmark()], quick=False)
    assert machine_line(about) in text
    assert "at most 2x | 0.5 x | yes |" in text
    assert "at least 100x | 3 x | no |" in text
    assert "| new token | **Verifier.verify** | 10.0 us | 10.0 to 20.0 | 3 |" in text
    assert "- a note" in text
    assert "`nox -s bench`" in text


@pytest.mark.parametrize(("value", "text"), [(0.734, "0.73"), (12.34, "12.3"), (456.7, "457"), (12345.6, "12,346")])
def test_rounded(value: float, text: str) -> None:
    assert rounded(value) == text


def test_svg_is_well_formed_and_drawn_to_scale() -> None:
    root = ET.fromstring(as_svg([a_benchmark()]))
    bars = [each for each in root.iter("{http://www.w3.org/2000/svg}rect") if each.get("class") in ("ours", "peer")]
    peer, ours = bars
    assert float(peer.get("width", 0)) == pytest.approx(3 * float(ours.get("width", 0)), abs=0.2)
    assert "a <peer> & co" in [each.text for each in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "prefers-color-scheme: dark" in as_svg([a_benchmark()])


def test_svg_leaves_out_charts_without_figures() -> None:
    texts = [each.text for each in ET.fromstring(as_svg([a_benchmark("z")])).iter("{http://www.w3.org/2000/svg}text")]
    assert texts == []


def test_committed_results_are_one_complete_run_and_its_reports_are_current() -> None:
    stored = json.loads((RESULTS / "bench.json").read_text("utf-8"))
    benchmarks = [benchmark_from_json(each) for each in stored["benchmarks"]]
    assert stored["quick"] is False
    keys = [benchmark.key for benchmark in benchmarks]
    assert keys == sorted(MODULES)[: len(keys)]
    assert len(keys) >= 11  # l and m come with the next whole run
    assert (RESULTS / "bench.md").read_text("utf-8") == as_markdown(stored["machine"], benchmarks, quick=False)
    assert (RESULTS / "bench.svg").read_text("utf-8") == as_svg(benchmarks)


def test_summary_names_the_best_possible_result_of_each_benchmark() -> None:
    """The bare app has the fewest microseconds but the most requests per second."""
    stored = json.loads((RESULTS / "bench.json").read_text("utf-8"))
    header, _, *lines = summary_table([benchmark_from_json(each) for each in stored["benchmarks"]]).splitlines()
    assert header == "| | this package | documented snippet | best possible |"
    best = [cells[-2].strip() for line in lines if (cells := line.split("|"))]
    assert len(best) == len(SUMMARY)
    assert all(re.fullmatch(r"|[\d.,]+ (us|req/s) \((the bare app|the signature check alone)\)", each) for each in best)
    assert {each.split()[1] for each in best if "bare app" in each} == {"us", "req/s"}
