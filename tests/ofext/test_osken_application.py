"""An application of os-ken drives a real okod between real hosts, by the field and the messages of the extension."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from demo.lab import SWITCH
from tests.e2e.conftest import Switch, switch  # noqa: F401
from tests.stage import FIREWALL, ROOT

pytestmark = pytest.mark.needs_bpf

ENDPOINT = "tcp:127.0.0.1:6653"


@pytest.fixture
def application(switch: Switch) -> Iterator[subprocess.Popen[str]]:  # noqa: F811
    """tests/ofext/firewall_switch.py, with which okod has connected."""
    process = subprocess.Popen(
        ["nsenter", f"--net={switch.path(SWITCH)}", sys.executable, "-m", "tests.ofext.firewall_switch", FIREWALL],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        start_new_session=True,
    )
    try:
        ports = [f"--port=p{number}={number}" for number in (1, 2, 3)]
        switch.start(*ports, "--controller", ENDPOINT, "--may-load", ENDPOINT)
        switch.lab.await_line(process, "ready")
        yield process
    finally:
        assert process.stdin is not None
        process.stdin.close()
        switch.lab.stop(process)


def test_a_learning_switch_with_the_firewall_on_top(
    switch: Switch,  # noqa: F811
    application: subprocess.Popen[str],
) -> None:
    def tracked() -> str:
        assert application.stdin is not None
        application.stdin.write("?")
        application.stdin.flush()
        return switch.lab.await_line(application, "tracked")

    for host, address in (("host1", "10.0.0.1"), ("host2", "10.0.0.2")):
        switch.listen(host, address)
    assert tracked() == "tracked 0"
    assert switch.connects("host1", "10.0.0.2")
    assert not switch.connects("host2", "10.0.0.1")
    assert tracked() == "tracked 1"
    # What it has learned are flows: the rest of the connection did not pass the controller.
    flows = switch.output("oko", "flow", "list", "br0")
    assert "filter_prog=1" in flows
    assert "dl_dst=02:00:00:00:00:02" in flows
