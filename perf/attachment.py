"""`attached`: okod attached to an Open vSwitch of the benchmark's own."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from ofext.extension import MapEntry, MapUpdate, ProgramLoaded
from ofext.load import chunks
from oko.cli.client import Client
from oko.cli.csv_entries import batches
from oko.errors import OkoError
from oko.flow.text import parse_flow_mod
from oko.wire.change import write_flow_mod
from perf.okod_process import OkodProcess
from perf.scenarios import PROGRAM_ID
from perf.switches import Entry
from tests.ovs import Vswitch


@contextlib.contextmanager
def attached(
    switch: Vswitch,
    bridge: str,
    ports: int,
    rules: Sequence[str] = (),
    *,
    program: Path | None = None,
    entries: Iterable[Entry] = (),
    prefix: Sequence[str] = (),
) -> Iterator[OkodProcess]:
    """okod attached to the bridge, with XDP at so many ports; afterwards the bridge is as it was before.

    `program` is the object of the filter program PROGRAM_ID, which `rules` name; `entries` are written into its maps.
    `prefix` goes before the commands, such as an nsenter. Raises OkoError.
    """
    with tempfile.TemporaryDirectory() as directory:
        okod = OkodProcess(bridge, Path(directory), [f"--ovsdb={switch.remote}"], role="--attach", prefix=prefix)
        try:
            okod.start()
            if f", {ports} ports, " not in okod.ready:
                raise OkoError(f"{okod.ready.strip()}, not {ports} of them: the end of its log:\n{okod.last_words()}")
            with Client.connect(bridge, okod.rundir) as client:
                if program is not None:
                    _load(client, program, entries)
                for refusal in client.send_all(
                    [write_flow_mod(parse_flow_mod(rule, open_vswitch=True)) for rule in rules]
                ):
                    if refusal is not None:
                        raise refusal
            yield okod
        finally:
            okod.detach()


def _load(client: Client, program: Path, entries: Iterable[Entry]) -> None:
    answer = client.request(*chunks(PROGRAM_ID, "", program.read_bytes()))
    if not isinstance(answer, ProgramLoaded):
        raise OkoError(f"okod answered a load with {type(answer).__name__}")
    for name, found in groupby(entries, itemgetter(0)):
        for batch in batches((key, value) for _, key, value in found):
            client.command(MapUpdate(PROGRAM_ID, 0, name, tuple(MapEntry(*entry) for entry in batch)))
