from __future__ import annotations

import pytest

from oko.errors import BridgeError
from oko.switch.daemon import Listener


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ptcp:6653", Listener("127.0.0.1", 6653)),
        ("ptcp:6653:192.0.2.1", Listener("192.0.2.1", 6653)),
        ("ptcp:6653:::1", Listener("::1", 6653)),
    ],
)
def test_listeners(text: str, expected: Listener) -> None:
    assert Listener.parse(text) == expected


@pytest.mark.parametrize("text", ["", "6653", "ptcp", "ptcp:", "ptcp:x", "ptcp:65536", "tcp:6653", "ptcp:²"])
def test_what_is_no_listener(text: str) -> None:
    with pytest.raises(BridgeError, match="is no listener: write ptcp:PORT"):
        Listener.parse(text)
