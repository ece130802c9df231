"""The benchmark of whole switches: not how fast, but that its figures mean what they say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from oko.errors import OkoError
from perf import bench
from perf.bench import BY_HAND, OKO, PLANS, Bench, Plan, Point, Row, choose, compare
from perf.latency import Latency
from perf.report import html, markdown
from perf.scenarios import STAGED, STAGES
from perf.setups import SETUPS
from perf.xdp import build

ROOT = Path(__file__).resolve().parents[2]


def a_bench() -> Bench:
    points = {
        OKO: Point([4.0, 3.0], [4.0, 3.0], [0.0, 0.0], [50.0, 60.0], [Latency(5.0, 6.5, 7.0)], megabytes=[40.0, 3.0]),
        BY_HAND: Point([5.0, 3.0], [5.0, 3.0], [0.0, 0.0], [40.0, 60.0]),
        "ovs-afxdp": Point([1.0], [2.0], [0.5], curve=[(4.0, 0.5), (1.0, 0.0)]),
        "vm": Point(reason="no <hardware>"),
    }
    return Bench("a machine", PLANS["quick"], 2.0, "It was busy.", [Row("forward", "two rules", "1 flow", points)])


def test_ratios_are_of_the_same_round_and_more_is_better() -> None:
    (row,) = a_bench().rows
    assert dict(row.ratios()) == {
        f"Mpps, oko / {BY_HAND}": pytest.approx(0.9),
        f"1 / ns, oko / {BY_HAND}": pytest.approx(0.9),
        "Mpps, oko / ovs-afxdp": pytest.approx(2.0),
    }


def test_the_process_is_compared_with_testpmd_and_the_report_says_so() -> None:
    rates = {"process-alone": [0.9, 0.8, 1.9], "testpmd": [1.0, 1.0, 1.0]}
    points = {name: Point([0.0] * 3, flat, [0.5] * 3) for name, flat in rates.items()}
    row = Row("forward", "two rules", "1 flow", points)
    assert dict(row.ratios()) == {"Mpps, process-alone / testpmd": pytest.approx(0.9)}
    assert "| forward | Mpps, process-alone / testpmd | 0.900 |" in markdown(replace(a_bench(), rows=[row]))


@pytest.mark.parametrize(
    ("now", "worse"),
    [
        pytest.param(0.90, 0, id="a tenth less"),
        pytest.param(0.89, 1, id="more than that"),
        pytest.param(2.0, 0, id="better"),
    ],
)
def test_worse_by_more_than_a_tenth_fails(now: float, worse: int) -> None:
    found = compare({"forward": {"r": now, "new": 1.0}}, {"forward": {"r": 1.0}, "gone": {"r": 1.0}})
    assert (len(found.worse), found.compared, found.failed) == (worse, 1, bool(worse))


def test_what_was_accepted_is_compared_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "LATEST", tmp_path / "latest.json")
    monkeypatch.setattr(bench, "ACCEPTED", tmp_path / "accepted.json")
    with pytest.raises(OkoError, match=r"latest\.json.*run 'python -m perf bench' first"):
        bench.check(accept=False)
    bench.LATEST.write_text(json.dumps(a_bench().to_json()))
    assert not bench.check(accept=True).failed
    assert bench.check(accept=False).compared == 3


def test_a_result_is_read_back_as_it_was_written() -> None:
    assert Bench.from_json(json.loads(json.dumps(a_bench().to_json()))) == a_bench()


def test_reports_have_every_figure_and_reason() -> None:
    text, page = markdown(a_bench()), html(a_bench())
    for words in (
        "3.500 (3.000–4.000)",
        "1.000",
        "2.000, 50% lost",
        "55.0 (50.0–60.0)",
        "5 / 6.5 / 7",
        "| 40 |",
        "It was busy.",
    ):
        assert words in text
        assert words.strip("| ") in page
    assert "no <hardware>" in text
    assert "no &lt;hardware&gt;" in page
    assert page.count("<svg") == page.count("</svg>") == 2  # bars and curves
    assert page.count("<circle") == 2
    assert "src=" not in page  # it needs nothing else
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")


def test_a_stage_costs_what_it_adds() -> None:
    names = [*(scenario.name for scenario in STAGES), f"firewall, {STAGED}", "firewall, SYN flood"]
    costs = (30.0, 50.0, 65.0, 165.0, 500.0)
    rows = [Row(name, "", "", {OKO: Point(net=[cost])}) for name, cost in zip(names, costs, strict=True)]
    assert [cost for _, cost in replace(a_bench(), rows=rows).stages()] == [30.0, 20.0, 15.0, 100.0]
    assert replace(a_bench(), rows=rows[1:]).stages() == []
    assert "| firewall, 1 k flows | and to ask the program | 100.0 |" in markdown(replace(a_bench(), rows=rows))


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_a_plan_has_scenarios_with_names_of_their_own(plan: Plan) -> None:
    names = [scenario.name for scenario in choose(plan, (), None)]
    assert len(set(names)) == len(names)
    assert {name.partition(",")[0] for name in names} >= {"forward", "firewall", "p0f", "token_bucket"}


def test_an_unknown_scenario_is_refused() -> None:
    with pytest.raises(OkoError, match="no scenario begins with nat: there are forward"):
        choose(PLANS["quick"], ("nat",), None)


@pytest.mark.needs_bpf
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one processor")
def test_two_processors_send(tmp_path: Path) -> None:
    build()
    code = (
        "import json, os; from perf.isolation import isolate; isolate()\n"
        "from perf.testbed import Testbed; from perf.traffic import datagrams\n"
        "os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})\n"
        "with Testbed(2) as testbed, testbed.sinks('p1', 'p2'):\n"
        "    run = testbed.run(datagrams(100).steady, 0.1)\n"
        "    sent = [state.sent for state in testbed._states()]\n"
        "print(json.dumps([run.sent, run.delivered, sent]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    sent, delivered, each = json.loads(done.stdout)
    assert sent == delivered == sum(each)
    assert sum(1 for number in each if number) == 2


@pytest.mark.needs_bpf
def test_a_short_run_measures_what_is_sent_and_arrives(tmp_path: Path) -> None:
    build()
    latest = tmp_path / "latest.json"
    code = (
        "import sys; from pathlib import Path; from perf import bench; from perf.isolation import isolate\n"
        "isolate(); bench.LATEST = Path(sys.argv[1])\n"
        "plan = bench.Plan('test', 0.05, 2, 1, 1)\n"
        "chosen = bench.choose(plan, ['forward, 1 flow', 'token_bucket, 1 k'], None)\n"
        "bench.bench(plan, chosen, ['oko', 'by-hand', 'vm'])"
    )
    command = [sys.executable, "-c", code, str(latest)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    result = Bench.from_json(json.loads(latest.read_text()))
    assert [row.name for row in result.rows] == ["forward, 1 flow", "token_bucket, 1 k flows"]
    for row in result.rows:
        for name in (OKO, BY_HAND):
            point = row.points[name]
            assert (point.reason, point.loss) == (None, [0.0, 0.0])
            assert len(point.mpps) == len(point.net) == 2
            assert min(point.mpps) > 0
            assert len(point.calm) == len(point.loaded) == 2
            assert all(0 < each.p50 <= each.p99 <= each.p999 for each in (*point.calm, *point.loaded))
            assert len(point.megabytes) == 2
        assert row.points["vm"].reason is not None
    assert {setup.name for setup in SETUPS} >= set(result.rows[0].points)
