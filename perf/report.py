"""The report of a benchmark of whole switches, as Markdown and as one page of HTML with plots."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from statistics import median
from typing import Final

from perf.bench import CALM, LOADED, LOSS, Bench, Point, Row, middle
from perf.latency import Latency
from perf.scenarios import STAGES
from perf.setups import SETUPS

MARKDOWN: Final = Path(__file__).parent / "report.md"
HTML: Final = Path(__file__).parent / "report.html"

_TITLES: Final = {setup.name: f"({setup.letter}) {setup.text}" for setup in SETUPS}
_LETTERS: Final = {setup.name: setup.letter for setup in SETUPS}

_WIDTH, _LABEL, _BAR, _GAP = 720, 150, 18, 8  # pixels
_HEIGHT: Final = 220  # of a plot of curves
_COLOURS: Final = ("#2b6cb0", "#2c7a7b", "#718096", "#c05621", "#b7791f", "#805ad5", "#4a5568", "#a0aec0")
_STYLE: Final = (
    "body{font:15px/1.5 sans-serif;max-width:60em;margin:2em auto;padding:0 1em;color:#1a202c}"
    "table{border-collapse:collapse;margin:1em 0}"
    "td,th{padding:.3em .7em;border-bottom:1px solid #cbd5e0;text-align:right}"
    "td:first-child,th:first-child{text-align:left}.warning{background:#fefcbf;padding:.7em 1em}"
    "svg text{font:13px sans-serif}"
)


def write_report(result: Bench) -> None:
    """Write MARKDOWN and HTML."""
    MARKDOWN.write_text(markdown(result))
    HTML.write_text(html(result))


# ---- tables, which both have


def _names(result: Bench) -> list[str]:
    """The setups that measured anything, or say why not, in the order of SETUPS."""
    present = {name for row in result.rows for name in row.points}
    return [name for name in _TITLES if name in present]


def _rate(point: Point | None) -> str:
    if point is None or not point.flat:
        return "–"
    return "none" if not any(point.mpps) else middle(point.mpps, 3)


def _flat(point: Point | None) -> str:
    return "–" if point is None or not point.flat else f"{middle(point.flat, 3)}, {median(point.loss):.0%} lost"


def _net(point: Point | None) -> str:
    return "–" if point is None else middle(point.net, 1)


def _latency(values: Sequence[Latency]) -> str:
    """Medians of the rounds, one quantile after the other."""
    if not values:
        return "–"
    return " / ".join(f"{median(quantile):.3g}" for quantile in zip(*values, strict=True))


def _calm(point: Point | None) -> str:
    return "–" if point is None else _latency(point.calm)


def _loaded(point: Point | None) -> str:
    return "–" if point is None else _latency(point.loaded)


def _memory(point: Point | None) -> str:
    # What Python has once taken it uses again in later rounds.
    return "–" if point is None or not point.megabytes else f"{max(point.megabytes):.0f}"


_TABLES: Final = (
    (f"Mpps without loss (at most {LOSS:.1%})", _rate),
    ("Mpps that arrive when as much is sent as can be, and what is lost", _flat),
    ("ns per packet, net of generator and XDP drop", _net),
    (f"µs that a packet takes at {CALM:,} packets per second: p50 / p99 / p99.9", _calm),
    (f"µs that a packet takes at {LOADED:.0%} of what arrives without loss: p50 / p99 / p99.9", _loaded),
    ("MB of BPF maps and resident in processes", _memory),
)


def _table(result: Bench, names: Sequence[str], number: int) -> list[list[str]]:
    _, cell = _TABLES[number]
    head = ["scenario", *(f"{_LETTERS[name]}: {name}" for name in names)]
    return [head, *([row.name, *(cell(row.points.get(name)) for name in names)] for row in result.rows)]


def _ratio_table(result: Bench) -> list[list[str]]:
    rows = [[row.name, name, f"{value:.3f}"] for row in result.rows for name, value in row.ratios()]
    return [["scenario", "ratio", "median of the rounds"], *rows]


def _stage_table(result: Bench) -> list[list[str]]:
    texts = {scenario.name: scenario.text for scenario in STAGES}
    rows = [[name, texts.get(name, "and to ask the program"), f"{cost:.1f}"] for name, cost in result.stages()]
    return [["stage", "is", "ns"], *rows]


def _notes(result: Bench) -> Iterator[str]:
    plan = result.plan
    length = f"{plan.seconds:g} s per run, {plan.rounds} rounds ({plan.processes} of setups with processes)"
    yield f"{result.machine}. Plan “{plan.name}”: {length}; {result.minutes:.0f} minutes."
    if plan.name != "full":
        yield "The paper's plan is 5 minutes per run and 10 runs: “full”. Here it was shorter."
    yield (
        "Rates are medians, with their range, over the rounds; ratios are medians of the ratios of each round. All "
        "setups of a round got the same packets. Everything that works inline has one processor, which also makes the "
        "packets; switches with threads of their own have the other processors for these."
    )


def _absent(result: Bench) -> Iterator[str]:
    for name in _names(result):
        reasons: dict[str, list[str]] = {}
        for row in result.rows:
            point = row.points.get(name)
            if point is not None and point.reason is not None:
                reasons.setdefault(point.reason, []).append(row.name)
        for reason, rows in reasons.items():
            where = "" if len(rows) == len(result.rows) else f" ({'; '.join(rows)})"
            yield f"{_TITLES[name]}: {reason}{where}"


# ---- Markdown


def markdown(result: Bench) -> str:
    """The report as Markdown."""
    names = _names(result)
    lines = ["# Benchmarks of whole switches", "", "Written by `python -m perf bench`.", ""]
    lines += [line for note in _notes(result) for line in (note, "")]
    if result.warning is not None:
        lines += [f"**{result.warning}**", ""]
    lines += [f"- {_TITLES[name]}" for name in names]
    for number, (title, _) in enumerate(_TABLES):
        lines += ["", f"## {title}", "", *_markdown_table(_table(result, names, number))]
    lines += ["", "## Stages of Oko", "", *_markdown_table(_stage_table(result))] if result.stages() else []
    lines += ["", "## Ratios", "", *_markdown_table(_ratio_table(result)), "", "## Not run", ""]
    lines += [f"- {line}" for line in _absent(result)] or ["Everything was run."]
    return "\n".join((*lines, ""))


def _markdown_table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    head, *others = rows
    yield f"| {' | '.join(head)} |"
    yield f"|---|{'---:|' * (len(head) - 1)}"
    for row in others:
        yield f"| {' | '.join(row)} |"


# ---- HTML


def html(result: Bench) -> str:
    """The report as one page that needs nothing else."""
    names = _names(result)
    body = ["<h1>Benchmarks of whole switches</h1>", *(f"<p>{escape(note)}</p>" for note in _notes(result))]
    if result.warning is not None:
        body.append(f'<p class="warning">{escape(result.warning)}</p>')
    body.append("<h2>Mpps without loss</h2>")
    for row in result.rows:
        body += [f"<h3>{escape(row.name)}</h3>", f"<p>{escape(row.text)}; {escape(row.traffic)}</p>", bars(row, names)]
        body += [curves(row, names)] if any(point.curve for point in row.points.values()) else []
    for number, (title, _) in enumerate(_TABLES):
        body += [f"<h2>{escape(title)}</h2>", _html_table(_table(result, names, number))]
    body += ["<h2>Stages of Oko</h2>", _html_table(_stage_table(result))] if result.stages() else []
    body += ["<h2>Ratios</h2>", _html_table(_ratio_table(result)), "<h2>Not run</h2>", "<ul>"]
    body += [f"<li>{escape(line)}</li>" for line in _absent(result)]
    page = ['<!doctype html><meta charset="utf-8"><title>Oko: benchmarks</title>', f"<style>{_STYLE}</style>"]
    return "\n".join((*page, *body, "</ul>", ""))


def _html_table(rows: Sequence[Sequence[str]]) -> str:
    head, *others = rows
    parts = ["<table><tr>", *(f"<th>{escape(cell)}" for cell in head)]
    for row in others:
        parts += ["<tr>", *(f"<td>{escape(cell)}" for cell in row)]
    return "".join((*parts, "</table>"))


def bars(row: Row, names: Sequence[str]) -> str:
    """A scenario as an SVG: a bar for each setup, as long as its median, and a line for its range."""
    shown = [(name, row.points[name].mpps) for name in names if name in row.points and row.points[name].flat]
    most = max((max(values) for _, values in shown), default=0.0) or 1.0
    scale = (_WIDTH - _LABEL - 110) / most
    height = len(shown) * (_BAR + _GAP) + _GAP
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" role="img">']
    for place, (name, values) in enumerate(shown):
        top = _GAP + place * (_BAR + _GAP)
        middle_of_bar, length = top + _BAR / 2, median(values) * scale
        least, largest = (_LABEL + value(values) * scale for value in (min, max))
        parts += [
            f'<text x="{_LABEL - 8}" y="{middle_of_bar + 4}" text-anchor="end">{escape(name)}</text>',
            f'<rect x="{_LABEL}" y="{top}" width="{length:.1f}" height="{_BAR}" fill="{_colour(name)}"/>',
            f'<path d="M{least:.1f} {middle_of_bar}H{largest:.1f}" stroke="#1a202c"/>',
            f'<text x="{largest + 6:.1f}" y="{middle_of_bar + 4}">{escape(_rate(row.points[name]))}</text>',
        ]
    return "".join((*parts, "</svg>"))


def curves(row: Row, names: Sequence[str]) -> str:
    """A scenario as an SVG: for each setup the share that was lost, over the Mpps that were offered."""
    shown = [(name, sorted(row.points[name].curve)) for name in names if name in row.points and row.points[name].curve]
    most = max(offered for _, curve in shown for offered, _ in curve) or 1.0
    left, right, top, bottom = 60, _WIDTH - 20, 10, _HEIGHT - 40
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}" role="img">',
        f'<path d="M{left} {top}V{bottom}H{right}" fill="none" stroke="#1a202c"/>',
        f'<text x="{left - 8}" y="{top + 8}" text-anchor="end">100 %</text>',
        f'<text x="{left - 8}" y="{bottom}" text-anchor="end">0 lost</text>',
        f'<text x="{right}" y="{bottom + 18}" text-anchor="end">{most:.2f} Mpps offered</text>',
    ]
    for place, (name, curve) in enumerate(shown):
        points = [(left + offered / most * (right - left), bottom - lost * (bottom - top)) for offered, lost in curve]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{_colour(name)}"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{_colour(name)}"/>' for x, y in points]
        legend = left + place * (_WIDTH - left) / len(shown)
        parts.append(f'<text x="{legend:.0f}" y="{_HEIGHT - 4}" fill="{_colour(name)}">{escape(name)}</text>')
    return "".join((*parts, "</svg>"))


def _colour(name: str) -> str:
    return _COLOURS[list(_TITLES).index(name) % len(_COLOURS)]
