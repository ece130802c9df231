"""``python -m perf forward`` and the others; ``python -m perf --list`` names them. Needs root."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from typing import Any, Final, Protocol

from oko.errors import OkoError
from perf.datapath_fuzz import DatapathFuzzResult, datapath_fuzz
from perf.forward import forward
from perf.isolation import isolate
from perf.programs import measure_programs
from perf.reload import reload
from perf.updates import updates
from perf.verifier import measure_verifier
from perf.verifier_fuzz import FuzzResult, fuzz
from perf.xdp import build


class Result(Protocol):
    def to_json(self) -> dict[str, Any]: ...


BENCHMARKS: Final[dict[str, tuple[str, Callable[[argparse.Namespace], Result]]]] = {
    "forward": (
        "Mpps and ns per frame of in_port → output, beside a redirect written by hand",
        lambda options: forward(options.rounds, options.seconds),
    ),
    "reload": (
        "swap images under full load and account for every frame",
        lambda options: reload(options.reloads, options.generators),
    ),
    "updates": (
        "change rules, groups and programs under full load, and explain what became of every frame",
        lambda options: updates(options.changes, options.seed),
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
    return int(isinstance(result, DatapathFuzzResult | FuzzResult) and result.failed)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m perf", description="Oko's benchmarks")
    parser.add_argument("--list", action=_List, help="name the benchmarks, and end")
    commands = parser.add_subparsers(dest="benchmark", required=True, metavar="BENCHMARK")
    made = {name: commands.add_parser(name, help=text, description=text) for name, (text, _) in BENCHMARKS.items()}
    for command in made.values():
        command.add_argument("--json", action="store_true", help="print the result as JSON")
    made["forward"].add_argument("--seconds", type=_positive(float), default=2.0, help="of each run (default 2)")
    made["forward"].add_argument("--rounds", type=_positive(int), default=7, help="default 7")
    made["reload"].add_argument("--reloads", type=_positive(int), default=200, help="default 200")
    made["reload"].add_argument(
        "--generators",
        type=_positive(int),
        default=1,
        help="processes that send (default 1); with more, the driver's count of what gen sent is not exact",
    )
    made["updates"].add_argument("--changes", type=_positive(int), default=1_000, help="default 1000")
    made["updates"].add_argument("--seed", type=int, default=1, help="of the changes (default 1)")
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
