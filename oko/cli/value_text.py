"""Keys and values of maps as people read them: a schema's value on one line, and the entries that describe flows.

A flow (`struct oko_flow` of the SDK) is written with both ends and the protocol. When it is a key and the value has one
of the members `state`, `last_seen`, `packets` and `opener` with the types given here, the entry is written as

    10.0.0.1:51000 → 10.0.0.2:80 tcp ESTABLISHED 00:01:12 ↑12 ↓9

with the time since `last_seen`, an oko_time, and `packets[2]` of each side. `opener`, an integer, is the index of the
end that stands on the left, of whose packets ↑ tells; without it the first end does, and ↔ says so. Whatever else the
value has is left to --json.
"""

from __future__ import annotations

from typing import Any, Final

from oko.switch.schema import Schema, Value

_FLOW: Final = ("oko_flow", 40, {"addr", "port", "protocol", "pad"})
"""Name, size and members of the SDK's struct."""
_SECOND: Final = 1_000_000_000
_MINUTE: Final = 60
_HOUR: Final = 60 * _MINUTE
_SIDES: Final = 2


def entry_text(key_schema: Schema, value_schema: Schema, columns: dict[str, Value], now: int | None) -> str:
    """An entry on one line; `columns` are its ``key`` and ``value``, or ``values`` of a per-CPU map, as
    `oko.switch.schema.read` gives them. `now` is the time on the clock of the switch in ns, None if that is not known.
    """
    if _is_flow(key_schema) and "value" in columns:
        line = _flow_entry(columns["key"], value_schema, columns["value"], now)
        if line is not None:
            return line
    shown = {"key": value_text(key_schema, columns["key"], now)}
    if "value" in columns:
        shown["value"] = value_text(value_schema, columns["value"], now)
    else:
        values = columns["values"]
        assert isinstance(values, list)
        shown["values"] = "[" + ", ".join(value_text(value_schema, value, now) for value in values) + "]"
    return "  ".join(f"{title}: {text}" for title, text in shown.items())


def value_text(described: Schema, value: Value, now: int | None) -> str:
    """A value on one line, without the quotes of JSON. `now` as for `entry_text`."""
    match described["kind"], value:
        case "time", int():
            return _time_text(value, now)
        case "struct", dict() if _is_flow(described):
            return _flow_text(value, 0, "↔")
        case "struct", dict():
            members = {member["name"]: member["type"] for member in described["members"]}
            return "{" + ", ".join(f"{name}: {value_text(members[name], value[name], now)}" for name in value) + "}"
        case "array", list():
            return "[" + ", ".join(value_text(described["element"], element, now) for element in value) + "]"
        case _, bool():
            return str(value).lower()
        case _:
            return str(value)


def _flow_entry(key: Value, described: Schema, value: Value, now: int | None) -> str | None:
    """The line for a flow and what the program keeps of it; None if nothing of that is known here."""
    if not isinstance(key, dict) or not isinstance(value, dict):
        return None
    kinds = {member["name"]: member["type"] for member in described.get("members", ())}
    found: dict[str, Any] = {name: value[name] for name, kind in kinds.items() if _is_shown(name, kind)}
    if not found.keys() & {"state", "last_seen", "packets"}:
        return None
    opener: int | None = found.get("opener")
    left = 1 if opener == 1 else 0
    words = [_flow_text(key, left, "↔" if opener is None else "→")]
    if "state" in found:
        words.append(str(found["state"]))
    if "last_seen" in found:
        seen: int = found["last_seen"]
        words.append(_time_text(seen, now) if now is None or not seen else _clock(max(0, now - seen) // _SECOND))
    if "packets" in found:
        words += [f"↑{found['packets'][left]}", f"↓{found['packets'][1 - left]}"]
    return " ".join(words)


def _is_flow(described: Schema) -> bool:
    members = {member["name"] for member in described.get("members", ())}
    return (described.get("name"), described["size"], members) == _FLOW


def _is_shown(name: str, kind: Schema) -> bool:
    match name:
        case "state":
            return bool(kind["kind"] == "enum")
        case "last_seen":
            return bool(kind["kind"] == "time")
        case "packets":
            is_pair = kind["kind"] == "array" and kind["size"] == _SIDES * kind["element"]["size"]
            return bool(is_pair and kind["element"]["kind"] == "int")
        case "opener":
            return bool(kind["kind"] == "int")
        case _:
            return False


def _flow_text(flow: Any, left: int, arrow: str) -> str:
    """Both ends, that with the index `left` first. Where no end has a port, the protocol has none."""
    ends = [
        _end(address, port if any(flow["port"]) else None)
        for address, port in zip(flow["addr"], flow["port"], strict=True)
    ]
    return f"{ends[left]} {arrow} {ends[1 - left]} {flow['protocol']}"


def _end(address: str, port: int | None) -> str:
    if port is None:
        return address
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _time_text(time: int, now: int | None) -> str:
    """How long ago it was; 0 is a time that was never written."""
    if time == 0:
        return "never"
    if now is None:
        return f"{time / _SECOND:.3f} s"
    return f"{(now - time) / _SECOND:.1f} s ago" if now >= time else f"in {(time - now) / _SECOND:.1f} s"


def _clock(seconds: int) -> str:
    """Hours, minutes and seconds; of more than a day the days in front."""
    days, rest = divmod(seconds, 24 * _HOUR)
    text = f"{rest // _HOUR:02}:{rest % _HOUR // _MINUTE:02}:{rest % _MINUTE:02}"
    return f"{days}d {text}" if days else text
