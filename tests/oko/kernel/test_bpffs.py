from __future__ import annotations

import errno
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oko.errors import KernelError
from oko.kernel import maps
from oko.kernel.bpffs import is_bpffs, make_directory, named_by, pin_name, remove_tree, require_bpffs
from oko.kernel.maps import Map


def test_absent_bpffs_is_refused_with_the_command(tmp_path: Path) -> None:
    assert not is_bpffs(tmp_path)
    place = tmp_path / "br0" / "maps"
    with pytest.raises(KernelError, match=f"bpffs is not mounted at {place}: run 'mount -t bpf bpf {place}'"):
        require_bpffs(place)
    with pytest.raises(KernelError, match="bpffs is not mounted"):
        make_directory(place)
    assert list(tmp_path.iterdir()) == []


def test_path_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(KernelError, match="No such file") as missing:
        is_bpffs(tmp_path / "none")
    assert missing.value.errno == errno.ENOENT


def test_tree_is_removed_only_on_a_bpffs(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("keep")
    with pytest.raises(KernelError, match="bpffs is not mounted"):
        remove_tree(tmp_path)
    assert precious.read_text() == "keep"


@pytest.mark.needs_bpf
def test_tree_of_pins(bpffs: Path) -> None:
    place = bpffs / "br0"
    assert is_bpffs(bpffs)
    make_directory(place / "maps")
    make_directory(place / "maps")
    assert (place / "maps").stat().st_mode & 0o777 == 0o700
    with Map.create("m", maps.ARRAY, 4, 4, 1) as made:
        made.pin(place / "maps" / pin_name("1.conn/x%"))
        made.pin(place / "slots")
    (pin,) = (place / "maps").iterdir()
    assert pin.name == "1%2Econn%2Fx%25"
    remove_tree(place)
    remove_tree(place)
    assert not place.exists()


@given(st.text(min_size=1), st.text(min_size=1))
def test_pin_names_are_as_distinct_as_names(one: str, other: str) -> None:
    assert (pin_name(one) == pin_name(other)) == (one == other)
    assert not set("./") & set(pin_name(one))
    assert named_by(pin_name(one)) == one
