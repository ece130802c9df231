from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from oko.errors import KernelError
from oko.kernel.namespace import HERE, inode, namespaces, run_in, with_id, with_inode

pytestmark = pytest.mark.needs_bpf  # namespaces need the same privilege


def test_function_runs_inside_and_the_caller_stays(namespace: Callable[[str], Path]) -> None:
    outside, there = inode(), namespace("inside")
    assert run_in(there, inode) == inode(there) != outside
    assert inode() == outside


def test_error_from_inside_comes_out(namespace: Callable[[str], Path]) -> None:
    def fail() -> None:
        raise LookupError("from inside")

    with pytest.raises(LookupError, match="from inside"):
        run_in(namespace("inside"), fail)


def test_child_process_starts_inside(namespace: Callable[[str], Path]) -> None:
    there = namespace("inside")
    listed = run_in(there, lambda: subprocess.check_output(["ip", "-o", "link"], text=True))
    assert len(listed.splitlines()) == 1
    assert ": lo:" in listed


@pytest.mark.parametrize(
    ("path", "reason"),
    [("/run/netns/oko-none", "No such file"), ("/etc/hostname", "entering the network namespace")],
    ids=["absent", "no namespace"],
)
def test_namespace_that_cannot_be_entered(path: str, reason: str) -> None:
    with pytest.raises(KernelError, match=reason):
        run_in(path, inode)


def test_what_entering_takes(namespace: Callable[[str], Path]) -> None:
    code = f"from oko.kernel.namespace import run_in; run_in({str(namespace('inside'))!r}, print)"
    done = subprocess.run(
        ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-all", sys.executable, "-c", code],
        check=False,
        capture_output=True,
        text=True,
    )
    assert "inside: not permitted, it needs CAP_SYS_ADMIN: run it as root" in done.stderr


def test_namespaces_are_found_once_by_name_or_by_process(namespace: Callable[[str], Path]) -> None:
    named = namespace("named")
    with subprocess.Popen(["unshare", "--net", "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        holder.stdin.write(b"x")
        holder.stdin.flush()
        holder.stdout.read(1)  # cat runs: it is in its own namespace by now
        held = Path(f"/proc/{holder.pid}/ns/net")
        found = list(namespaces())
        numbers = [number for _, number in found]
        assert len(numbers) == len(set(numbers))
        assert {inode(), inode(named), inode(held)} <= set(numbers)
        assert (named, inode(named)) in found
        assert with_inode(inode(held)) == held
        holder.stdin.close()
    assert with_inode(os.stat("/etc/hostname").st_ino) is None


def test_namespace_with_an_id(namespace: Callable[[str], Path]) -> None:
    here, there = namespace("here"), namespace("there")
    subprocess.run(["ip", "-n", here.name, "netns", "set", there.name, "77"], check=True)
    assert run_in(here, lambda: with_id(77)) == there
    assert run_in(here, lambda: with_id(78)) is None


def test_a_namespace_that_is_unmounted_meanwhile(
    namespace: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its path is of an ordinary file then."""
    here, there = namespace("here"), namespace("there")
    subprocess.run(["ip", "-n", here.name, "netns", "set", there.name, "77"], check=True)
    gone = tmp_path / "gone"
    gone.touch()
    monkeypatch.setattr("oko.kernel.namespace.namespaces", lambda: iter([(gone, 1), (there, inode(there))]))
    assert run_in(here, lambda: with_id(77)) == there


def test_here_is_the_calling_thread(namespace: Callable[[str], Path]) -> None:
    there = namespace("inside")
    assert run_in(there, lambda: run_in(HERE, inode)) == inode(there)
