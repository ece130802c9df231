from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from oko.daemon.settings import AttachSettings, ConnectionSettings, Settings, read_settings
from oko.errors import SettingsError
from oko.openflow.endpoint import Address, Endpoint
from oko.switch.local import LocalSpec
from oko.switch.port import PortSpec

DOCUMENT = Path(__file__).parents[3] / "docs" / "okod.md"


def written(directory: Path, text: str) -> Path:
    path = directory / "okod.toml"
    path.write_text(text)
    return path


def as_shown(default: object) -> str:
    """A default in the table of docs/okod.md; that which is nothing is left out."""
    match default:
        case bool():
            return str(default).lower()
        case float():
            return f"{default:g}"
        case None | ():
            return ""
        case _:
            return str(default)


def example() -> str:
    """The file that docs/okod.md shows."""
    found = re.search(r"```toml\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert found is not None
    return found[1]


def test_the_file_of_the_manual(tmp_path: Path) -> None:
    settings = read_settings(written(tmp_path, example()), {})
    assert settings.bridge == "br0"
    assert settings.ports == (PortSpec("eth1", 1), PortSpec("eth2", 2))
    assert settings.local == LocalSpec("host")
    assert settings.dpid == 1
    assert [str(item.endpoint) for item in settings.connections] == [
        "ptcp:6653:127.0.0.1",
        "ssl:controller.example:6653",
    ]
    assert [(item.may_load, item.reads, item.peer_name) for item in settings.connections] == [
        (False, False, None),
        (True, True, "controller.example"),
    ]
    assert settings.tls is not None
    assert settings.tls.files.certificate == Path("/etc/oko/cert.pem")
    assert settings.metrics == Address("127.0.0.1", 9653)


def test_the_manual_names_every_setting_and_its_default() -> None:
    rows = dict(re.findall(r"^\| `([a-z_.\[\]]+)` \|([^|]*)\|", DOCUMENT.read_text(), re.MULTILINE))
    names: dict[str, object] = {}
    for name, field in Settings.model_fields.items():
        section = name in ("log", "limits", "tls", "attach")
        if section and field.default is not None:
            names |= {f"{name}.{inner}": value for inner, value in field.default}
        elif name == "attach":
            names |= {f"attach.{inner}": found.default for inner, found in AttachSettings.model_fields.items()}
        elif section:
            names |= dict.fromkeys(("tls.private_key", "tls.certificate", "tls.ca_certificate"))
        elif name != "connections":
            names[name] = None if field.is_required() else field.default
    for name, field in ConnectionSettings.model_fields.items():
        names[f"connections[].{name}"] = None if field.is_required() else field.default
    shown = {
        name: default.strip().strip("`").replace(",", "")
        for name, default in rows.items()
        if not name.startswith("oko_")
    }
    assert shown == {name: as_shown(default) for name, default in names.items()}


def test_options_override_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, 'bridge = "a"\ndpid = 1\n[ports]\np1 = 1\n[log]\nformat = "json"\nlevel = "error"\n')
    options: dict[str, Any] = {"dpid": 2, "ports": (PortSpec("p2", 2),), "log": {"level": "debug"}}
    settings = read_settings(path, options)
    assert (settings.bridge, settings.dpid, settings.ports) == ("a", 2, (PortSpec("p2", 2),))
    assert (settings.log.format, settings.log.level) == ("json", "debug")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        pytest.param("colour = 1", "colour: there is no such setting", id="unknown"),
        pytest.param("[log]\ncolour = 1", "log.colour: there is no such setting", id="unknown in a section"),
        pytest.param(
            '[[connections]]\nendpoint = "ptcp:1"\n[[connections]]\nendpoint = "ptcp:2"\nload = true',
            "connections.1.load: there is no such setting",
            id="unknown in a list",
        ),
        pytest.param('[[connections]]\nendpoint = "x"', "connections.0.endpoint: 'x' is no endpoint", id="endpoint"),
        pytest.param("[[connections]]\nendpoint = 6653", "connections.0.endpoint: 6653 is no text", id="number"),
        pytest.param(
            '[[connections]]\nendpoint = "ptcp:"\nmay_load = 1', "connections.0.may_load: 1: ", id="1 for true"
        ),
        pytest.param("[attach]\n[ports]\np1 = 1", "ports, local and dpid are Open vSwitch's", id="attached ports"),
        pytest.param('[attach]\nmode = "x"', "attach.mode: 'x': input should be 'proxy' or 'listen'", id="mode"),
        pytest.param("[ports]\np1 = 0", "ports.0: 'p1=0' is no port", id="port"),
        pytest.param('dpid = "1"', "dpid: '1': input should be a valid integer", id="text for a number"),
        pytest.param("dpid = 18446744073709551616", "dpid: 18446744073709551616: ", id="beyond 64 bits"),
        pytest.param('[log]\nlevel = "loud"', "log.level: 'loud': input should be 'debug'", id="choice"),
        pytest.param("[limits]\nprograms = 0", "limits.programs: 0: input should be greater than 0", id="limit"),
        pytest.param(
            '[[connections]]\nendpoint = "ptcp:6653:0.0.0.0"',
            "ptcp:6653:0.0.0.0 listens in clear for other hosts: use 127.0.0.1, --allow-cleartext, or pssl",
            id="in clear",
        ),
        pytest.param(
            'metrics = "0.0.0.0:1"', "the metrics at 0.0.0.0:1 are in clear for other hosts", id="metrics in clear"
        ),
        pytest.param(
            '[[connections]]\nendpoint = "pssl:"', "pssl:6653:127.0.0.1 takes TLS: name private_key", id="TLS"
        ),
        pytest.param('[tls]\ncertificate = "a"', "tls.private_key: is missing", id="TLS in part"),
        pytest.param(
            '[[connections]]\nendpoint = "ptcp:1"\n[[connections]]\nendpoint = "ptcp:1:127.0.0.1"',
            "two connections have the same endpoint: ptcp:1:127.0.0.1",
            id="twice",
        ),
        pytest.param(
            '[[connections]]\nendpoint = "pssl:"\nmay_load = true\nmay_read = false',
            "connections.0: pssl:6653:127.0.0.1: may_load without may_read",
            id="loads and does not read",
        ),
        pytest.param(
            '[[connections]]\nendpoint = "pssl:"\npeer_name = "a"',
            "connections.0: pssl:6653:127.0.0.1: peer_name is for the controllers of ssl only",
            id="name of whoever comes",
        ),
        pytest.param(
            '[[connections]]\nendpoint = "tcp:a"\npeer_name = "a"',
            "connections.0: tcp:a:6653: peer_name is for the controllers of ssl only",
            id="name in clear",
        ),
        pytest.param(
            '[[connections]]\nendpoint = "ssl:a"\npeer_name = "a b"',
            "connections.0: ssl:a:6653: peer_name 'a b' is no name of a host",
            id="no name",
        ),
        pytest.param("= 1", "no TOML: Invalid statement (at line 2, column 1)", id="no TOML"),
    ],
)
def test_what_is_refused(tmp_path: Path, text: str, complaint: str) -> None:
    path = written(tmp_path, f'bridge = "a"\n{text}')
    with pytest.raises(SettingsError) as caught:
        read_settings(path, {})
    assert str(caught.value).startswith(f"{path}: {complaint}")


@pytest.mark.parametrize(
    ("said", "reads"),
    [
        pytest.param({"endpoint": "ptcp:"}, False, id="in clear"),
        pytest.param({"endpoint": "tcp:a"}, False, id="in clear to a controller"),
        pytest.param({"endpoint": "ptcp:", "may_read": True}, True, id="in clear, told to"),
        pytest.param({"endpoint": "ptcp:", "may_load": True}, True, id="who loads"),
        pytest.param({"endpoint": "pssl:"}, True, id="TLS"),
        pytest.param({"endpoint": "ssl:a"}, True, id="TLS to a controller"),
        pytest.param({"endpoint": "pssl:", "may_read": False}, False, id="TLS, told not to"),
        pytest.param({"endpoint": "punix:/a"}, True, id="Unix socket"),
    ],
)
def test_who_reads(said: dict[str, Any], reads: bool) -> None:
    assert ConnectionSettings(**said).reads == reads


def test_every_fault_is_in_the_details(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="a: there is no such setting") as caught:
        read_settings(written(tmp_path, "a = 1\nb = 1"), {})
    assert [line.partition(": ")[2] for line in caught.value.details.splitlines()] == [
        "b: there is no such setting",
        "bridge: is missing",
    ]


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"okod\.toml: No such file"):
        read_settings(tmp_path / "okod.toml", {})


def test_in_clear_when_told_to() -> None:
    endpoint = Endpoint.parse("ptcp:6653:0.0.0.0")
    options = {"bridge": "a", "connections": [{"endpoint": endpoint}], "allow_cleartext": True, "metrics": "0.0.0.0:1"}
    assert read_settings(None, options).connections[0].endpoint == endpoint
