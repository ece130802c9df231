from __future__ import annotations

import pytest

from oko.errors import UnknownMap
from oko.switch.map_names import full_name, short_name

CLEAR = ("sources", ".data.config", ".rodata", ".bss.cache")


@pytest.mark.parametrize(
    ("full", "short", "names"),
    [
        ("sources", "sources", CLEAR),
        (".data.config", "config", CLEAR),
        (".bss.cache", "cache", CLEAR),
        (".rodata", ".rodata", CLEAR),
        (".rodata.config", "config", (".rodata.config",)),
        (".data.config", ".data.config", (".data.config", "config")),
        (".data.config", ".data.config", (".data.config", ".rodata.config")),
        (".data.", ".data.", (".data.",)),
    ],
)
def test_both_ways(full: str, short: str, names: tuple[str, ...]) -> None:
    assert short_name(full, names) == short
    assert full_name(short, names, 1) == full_name(full, names, 1) == full


@pytest.mark.parametrize(
    ("name", "names", "complaint"),
    [
        ("conf", CLEAR, "program 1 has no map 'conf'; it has: sources, config, .rodata, cache"),
        ("config", (".data.config", ".rodata.config"), "program 1 has .data.config and .rodata.config: write which"),
        ("", (".data.",), "program 1 has no map ''"),
        ("x", (), "it has: none"),
    ],
)
def test_no_map(name: str, names: tuple[str, ...], complaint: str) -> None:
    with pytest.raises(UnknownMap, match=complaint):
        full_name(name, names, 1)
