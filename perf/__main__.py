"""``python -m perf forward`` and the others; ``python -m perf --list`` names them. Needs root."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Protocol

from oko.errors import OkoError
from perf.attached import CASES, measure_attached
from perf.attached_updates import AttachedUpdatesResult, attached_updates
from perf.bench import PLANS, Bench, Check, bench, check, choose
from perf.datapath_fuzz import DatapathFuzzResult, datapath_fuzz
from perf.forward import forward
from perf.isolation import isolate
from perf.programs import measure_programs
from perf.relay import measure_relay
from perf.reload import reload
from perf.report import write_report
from perf.restart import restart
from perf.setups import SETUPS
from perf.soak import SoakResult, soak
from perf.updates import updates
from perf.verifier import measure_verifier
from perf.verifier_fuzz import FuzzResult, fuzz
from perf.xdp import build


class Result(Protocol):
    def to_json(self) -> dict[str, Any]: ...


def _bench(options: argparse.Namespace) -> Bench:
    """Measure, and write the report."""
    plan = PLANS[options.plan]
    if options.seconds is not None:
        plan = replace(plan, seconds=options.seconds)
    if options.rounds is not None:
        plan = replace(plan, rounds=options.rounds, processes=options.rounds)
    result = bench(plan, choose(plan, options.scenario, options.pcap), options.setup)
    write_report(result)
    return result


BENCHMARKS: Final[dict[str, tuple[str, Callable[[argparse.Namespace], Result]]]] = {
    "attached": (
        "the table of docs/ovs.md: Mpps and TCP of an attached bridge, beside Open vSwitch alone",
        lambda options: measure_attached(options.rounds, options.seconds, options.case),
    ),
    "bench": ("whole switches beside each other: Mpps without loss, ns per packet; writes perf/report.html", _bench),
    "bench-check": (
        "compare the ratios of the last bench with the accepted ones",
        lambda options: check(accept=options.accept),
    ),
    "forward": (
        "Mpps and ns per frame of in_port → output, beside a redirect written by hand",
        lambda options: forward(options.rounds, options.seconds),
    ),
    "reload": (
        "swap images under full load and account for every frame",
        lambda options: reload(options.reloads, options.generators),
    ),
    "relay": (
        "barriers and flow_mods through the relay of an attached bridge, beside Open vSwitch itself",
        lambda options: measure_relay(options.rounds),
    ),
    "restart": (
        "kill and start okod under full load and account for every frame",
        lambda options: restart(options.kills),
    ),
    "updates": (
        "change rules, groups and programs under full load, and explain what became of every frame",
        lambda options: updates(options.changes, options.seed),
    ),
    "attached-updates": (
        "change plain and filter rules of a bridge of Open vSwitch: each packet beside the reference switch",
        lambda options: attached_updates(options.changes, options.seed),
    ),
    "soak": (
        "an okod under full load, random changes, kills and peers that disturb: no wrong packet, and nothing grows",
        lambda options: soak(options.seconds, options.seed),
    ),
    "verifier-fuzz": (
        "random programs: what is accepted runs without a fault, and the kernel accepts it too",
        lambda options: fuzz(options.programs, options.seed, options.runs, kernel=options.kernel),
    ),
    "datapath-fuzz": (
        "random switches: the image in the kernel does what the reference switch does",
        lambda options: datapath_fuzz(options.cases, options.seed),
    ),
    "programs": (
        "the table of docs/programs.md: what each sample program costs",
        lambda options: measure_programs(options.rounds, options.seconds, options.repeats),
    ),
    "verifier": (
        "time and memory of the verifier, over the corpus of its tests and programs that grow",
        lambda options: measure_verifier(options.repeats),
    ),
}
"""What each says of itself, and how it is run."""


_FAILING: Final = AttachedUpdatesResult | Check | DatapathFuzzResult | FuzzResult | SoakResult
"""Results that may be wrong, and not only slow."""


def main() -> int:
    options = _arguments()
    try:
        build()
        isolate()
        result = BENCHMARKS[options.benchmark][1](options)
    except OkoError as error:
        print(f"{options.benchmark}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(json.dumps(result.to_json()) if options.json else result)
    return int(isinstance(result, _FAILING) and result.failed)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m perf", description="Oko's benchmarks")
    parser.add_argument("--list", action=_List, help="name the benchmarks, and end")
    commands = parser.add_subparsers(dest="benchmark", required=True, metavar="BENCHMARK")
    made = {name: commands.add_parser(name, help=text, description=text) for name, (text, _) in BENCHMARKS.items()}
    for command in made.values():
        command.add_argument("--json", action="store_true", help="print the result as JSON")
    made["attached"].add_argument("--rounds", type=_positive(int), default=5, help="default 5")
    made["attached"].add_argument("--seconds", type=_positive(float), default=5.0, help="of each run (default 5)")
    made["attached"].add_argument(
        "--case", action="append", default=[], choices=[case.name for case in CASES], help="only this; repeatable"
    )
    _add_bench(made["bench"])
    made["bench-check"].add_argument("--accept", action="store_true", help="make the last ratios the accepted ones")
    made["forward"].add_argument("--seconds", type=_positive(float), default=2.0, help="of each run (default 2)")
    made["forward"].add_argument("--rounds", type=_positive(int), default=7, help="default 7")
    made["reload"].add_argument("--reloads", type=_positive(int), default=200, help="default 200")
    made["reload"].add_argument(
        "--generators",
        type=_positive(int),
        default=1,
        help="processes that send (default 1); with more, the driver's count of what gen sent is not exact",
    )
    made["relay"].add_argument("--rounds", type=_positive(int), default=9, help="default 9")
    made["restart"].add_argument("--kills", type=_positive(int), default=20, help="default 20")
    made["updates"].add_argument("--changes", type=_positive(int), default=1_000, help="default 1000")
    made["updates"].add_argument("--seed", type=int, default=1, help="of the changes (default 1)")
    made["attached-updates"].add_argument("--changes", type=_positive(int), default=1_000, help="default 1000")
    made["attached-updates"].add_argument("--seed", type=int, default=1, help="of the changes (default 1)")
    made["soak"].add_argument("--seconds", type=_positive(float), default=120.0, help="default 120")
    made["soak"].add_argument("--seed", type=int, default=1, help="of changes and disturbances (default 1)")
    made["programs"].add_argument("--rounds", type=_positive(int), default=9, help="of each load (default 9)")
    made["programs"].add_argument(
        "--seconds", type=_positive(float), default=1.0, help="with and without the program, each round (default 1)"
    )
    made["programs"].add_argument("--repeats", type=_positive(int), default=9, help="of the verifier (default 9)")
    made["verifier"].add_argument("--repeats", type=_positive(int), default=5, help="of each program (default 5)")
    fuzzing = made["verifier-fuzz"]
    fuzzing.add_argument("--programs", type=_positive(int), default=10_000, help="default 10000")
    fuzzing.add_argument("--seed", type=int, default=1, help="of the first program, the next has the next (default 1)")
    fuzzing.add_argument("--runs", type=_positive(int), default=4, help="of each accepted program (default 4)")
    comparing = made["datapath-fuzz"]
    comparing.add_argument("--cases", type=_positive(int), default=1_000, help="default 1000")
    comparing.add_argument("--seed", type=int, default=1, help="of the first case, the next has the next (default 1)")
    fuzzing.add_argument("--kernel", action="store_true", help="load what is accepted, too")
    return parser.parse_args()


def _add_bench(command: argparse.ArgumentParser) -> None:
    plans = command.add_mutually_exclusive_group()
    for name, text in (("quick", "fewer scenarios, in less than 3 minutes"), ("full", "5 minutes per run, 10 runs")):
        plans.add_argument(f"--{name}", dest="plan", action="store_const", const=name, default="default", help=text)
    command.add_argument(
        "--setup", action="append", default=[], choices=[setup.name for setup in SETUPS], help="only this; repeatable"
    )
    command.add_argument(
        "--scenario", action="append", default=[], metavar="NAME", help="only those that begin so; repeatable"
    )
    command.add_argument("--seconds", type=_positive(float), help="of each run, if not those of the plan")
    command.add_argument("--rounds", type=_positive(int), help="of every setup, if not those of the plan")
    command.add_argument("--pcap", type=Path, metavar="FILE", help="a capture in place of the backbone's mix")


class _List(argparse.Action):
    def __init__(self, option_strings: list[str], dest: str, help: str) -> None:
        super().__init__(option_strings, dest, nargs=0, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        for name, (text, _run) in BENCHMARKS.items():
            print(f"{name:16}{text}")
        parser.exit()


def _positive(number: Callable[[str], float]) -> Callable[[str], float]:
    def convert(text: str) -> float:
        value = number(text)
        if value <= 0:
            raise ValueError
        return value

    convert.__name__ = f"positive {number.__name__}"  # what argparse calls it in its message
    return convert


if __name__ == "__main__":
    sys.exit(main())
