from __future__ import annotations

from pathlib import Path

import pytest

from oko.cli.p0f_signatures import (
    BANK_SIZE,
    MAX_CANDIDATES,
    QUIRKS,
    Layout,
    Signature,
    Window,
    layout_key,
    map_entries,
    parse_database,
)
from oko.errors import LimitExceeded, OkoError

DATABASE = Path("/etc/p0f/p0f.fp")
PLAIN = "*:64:0:*:mss*20,7:mss,sok,ts,nop,ws:df,id+:0"


def parse(*texts: str, label: str = "s:unix:Penguin:new") -> tuple[Signature, ...]:
    lines = "\n".join(f"sig = {text}" for text in texts)
    return parse_database(f"[tcp:request]\nlabel = {label}\n{lines}\n", "p0f.fp")


def test_a_signature() -> None:
    assert parse(PLAIN) == (
        Signature(
            line=3,
            label="Penguin new",
            generic=False,
            tool=False,
            text=PLAIN,
            version=None,
            ttl=64,
            random_ttl=False,
            layout=Layout((2, 4, 8, 1, 3), 0, 0),
            mss=None,
            window=Window("UNIT_MSS", 20),
            scale=7,
            quirks=QUIRKS["df"] | QUIRKS["id+"],
            payload=False,
        ),
    )


@pytest.mark.parametrize(
    ("text", "member", "value"),
    [
        pytest.param("4:64:0:*:*,*:::0", "version", 4, id="IPv4"),
        pytest.param("6:64:0:*:*,*:::0", "version", 6, id="IPv6"),
        pytest.param("*:54+10:0:*:*,*:::0", "ttl", 64, id="TTL and distance"),
        pytest.param("*:64-:0:*:*,*:::0", "random_ttl", True, id="random TTL"),
        pytest.param("*:64-:0:*:*,*:::0", "ttl", 64, id="highest TTL"),
        pytest.param("*:64:4:*:*,*:::0", "layout", Layout((), 0, 4), id="IP options"),
        pytest.param("*:64:0:1460:*,*:::0", "mss", 1460, id="MSS"),
        pytest.param("*:64:0:*:*,*:::0", "window", None, id="any window"),
        pytest.param("*:64:0:*:8192,*:::0", "window", Window("UNIT_BYTES", 8192), id="window"),
        pytest.param("*:64:0:*:%8192,*:::0", "window", Window("UNIT_BYTES", 8192, divisible=True), id="divisible"),
        pytest.param("*:64:0:*:mtu*2,*:::0", "window", Window("UNIT_MTU", 2), id="MTU"),
        pytest.param("*:64:0:*:*,*:::0", "scale", None, id="any scale"),
        pytest.param("*:64:0:*:*,*:mss,eol+18::0", "layout", Layout((2, 0), 18, 0), id="end of options"),
        pytest.param("*:64:0:*:*,*:sack,?254::0", "layout", Layout((5, 254), 0, 0), id="options by number"),
        pytest.param("*:64:0:*:*,*::bad:0", "quirks", 1 << 16, id="the last quirk"),
        pytest.param("*:64:0:*:*,*:::+", "payload", True, id="payload"),
        pytest.param("*:64:0:*:*,*:::*", "payload", None, id="any payload"),
    ],
)
def test_fields(text: str, member: str, value: object) -> None:
    (signature,) = parse(text)
    assert getattr(signature, member) == value


@pytest.mark.parametrize(
    ("label", "full_name", "generic", "tool"),
    [
        ("s:unix:Linux:3.x (loopback)", "Linux 3.x (loopback)", False, False),
        ("g:unix:Mac OS X:", "Mac OS X", True, False),
        ("s:!:NMap:SYN scan", "NMap SYN scan", False, True),
    ],
)
def test_labels(label: str, full_name: str, generic: bool, tool: bool) -> None:
    (signature,) = parse(PLAIN, label=label)
    assert (signature.label, signature.generic, signature.tool) == (full_name, generic, tool)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("*:64:0:*:*,*::", "has 8 fields with colons between them, this has 7"),
        ("5:64:0:*:*,*:::0", "version '5' is none of 4, 6, *"),
        ("*:0:0:*:*,*:::0", "TTL '0' is not a number from 1 to 255"),
        ("*:200+56:0:*:*,*:::0", "distance '56' is not a number from 0 to 55"),
        ("*:54+?:0:*:*,*:::0", "distance '?' is not"),
        ("*:64:x:*:*,*:::0", "length of IP options 'x'"),
        ("*:64:0:65536:*,*:::0", "MSS '65536'"),
        ("*:64:0:*:*:::0", "'*' is not WINDOW,SCALE"),
        ("*:64:0:*:mss20,*:::0", "window 'mss20' is none of"),
        ("*:64:0:*:mss*1001,*:::0", "window '1001' is not a number from 1 to 1000"),
        ("*:64:0:*:%1,*:::0", "window '1' is not a number from 2"),
        ("*:64:0:*:*,256:::0", "window scale '256'"),
        ("*:64:0:*:*,*:mss,zip::0", "option 'zip' is none of eol, nop"),
        ("*:64:0:*:*,*:eol::0", "write eol+N"),
        ("*:64:0:*:*,*:eol+1,nop::0", "go on behind the end of options"),
        ("*:64:0:*:*,*::df,gf:0", "quirk 'gf' is none of df, id+"),
        ("*:64:0:*:*,*:::1", "payload class '1' is none of 0, +, *"),
        (f"*:64:0:*:*,*:{','.join(['nop'] * 25)}::0", "options of a signature: 25 used, limit 24"),
    ],
)
def test_signatures_that_are_wrong(text: str, complaint: str) -> None:
    with pytest.raises(OkoError) as caught:
        parse(PLAIN, text)
    assert str(caught.value).startswith("p0f.fp:4: ")
    assert complaint in str(caught.value)


@pytest.mark.parametrize(
    ("database", "complaint"),
    [
        ("", "p0f.fp has no signatures in a section [tcp:request]"),
        (f"[tcp:response]\nlabel = s:unix:P:\nsig = {PLAIN}", "has no signatures"),
        (f"[tcp:request]\nsig = {PLAIN}", "p0f.fp:2: label '' above it"),
        (f"[tcp:request]\nlabel = x:unix:P:\nsig = {PLAIN}", "p0f.fp:3: label 'x:unix:P:'"),
        (f"[tcp:request]\nlabel = s:unix:{'P' * 64}:\nsig = {PLAIN}", "64 used, limit 63"),
        ("[tcp:request]\nnote = 1", "p0f.fp:2: 'note' is none of label, sys and sig"),
    ],
)
def test_databases_that_are_wrong(database: str, complaint: str) -> None:
    with pytest.raises(OkoError) as caught:
        parse_database(database, "p0f.fp")
    assert complaint in str(caught.value)


def test_sections_comments_and_order() -> None:
    database = f"""
    classes = win,unix
    [mtu]
    label = Ethernet
    sig = 1500
    [tcp:request]
    ; a comment
    label = s:!:Map:scan
    sys = @unix
    sig = {PLAIN}

    label = g:unix:Penguin:
    sig = *:64:0:*:*,*:mss::0
    [tcp:response]
    label = s:unix:Server:
    sig = {PLAIN}
    """
    assert [(found.line, found.label) for found in parse_database(database, "x")] == [(10, "Map scan"), (13, "Penguin")]


@pytest.mark.skipif(not DATABASE.exists(), reason="p0f's database is not installed")
def test_p0f_s_own_database() -> None:
    signatures = parse_database(DATABASE.read_text(), str(DATABASE))
    assert len(signatures) == DATABASE.read_text().split("[tcp:request]")[1].split("[tcp:response]")[0].count("\nsig ")
    entries = map_entries(signatures, lambda _: True, 1)
    assert len(entries["signatures"]) == len(signatures)


def test_signatures_of_a_layout_are_neighbours() -> None:
    signatures = parse("*:64:0:*:1,0:mss::0", PLAIN, "*:64:0:*:2,0:mss::0", "*:64:4:*:3,0:mss::0")
    entries = map_entries(signatures, lambda signature: signature.text == PLAIN, 1)
    assert [value for _, value in entries["layouts"]] == [
        {"first": BANK_SIZE + 1, "count": 2},
        {"first": BANK_SIZE + 3, "count": 1},
        {"first": BANK_SIZE + 4, "count": 1},
    ]
    conditions = [value for _, value in entries["signatures"] if isinstance(value, dict)]
    assert [(value["window"], value["chosen"]) for value in conditions] == [
        (1, False),
        (2, False),
        (20, True),
        (3, False),
    ]
    assert [key for key, _ in entries["signatures"]] == [BANK_SIZE + index for index in range(1, 5)]
    # What is no signature has a name and a count, too.
    for name in ("names", "counts"):
        assert [key for key, _ in entries[name]] == [BANK_SIZE + index for index in range(5)]


def test_the_last_option_is_the_lowest_byte() -> None:
    assert layout_key(Layout((2, 4, 8), 0, 0), 1) == {
        "kinds": [0x020408, 0, 0],
        "options": 3,
        "padding": 0,
        "ip_options": 0,
        "bank": 1,
    }
    assert layout_key(Layout(tuple(range(1, 10)), 2, 4), 0)["kinds"] == [0x0203040506070809, 1, 0]


def test_quirks_of_the_other_version_do_not_count() -> None:
    texts = [f"{version}:64:0:*:*,*::df,flow:0" for version in "*46"]
    values = [value for _, value in map_entries(parse(*texts), lambda _: True, 0)["signatures"]]
    df, flow = QUIRKS["df"], QUIRKS["flow"]
    assert [value["quirks"] for value in values if isinstance(value, dict)] == [
        [df, flow],
        [df | flow] * 2,
        [df | flow] * 2,
    ]


def test_limits() -> None:
    layouts = [f"*:64:{4 * options}:*:{window},0:mss::0" for options in range(11) for window in range(MAX_CANDIDATES)]
    map_entries(parse(*layouts[: BANK_SIZE - 1]), lambda _: True, 0)
    with pytest.raises(LimitExceeded, match="signatures of p0f: 512 used, limit 511"):
        map_entries(parse(*layouts[:BANK_SIZE]), lambda _: True, 0)
    with pytest.raises(LimitExceeded, match="65 used, limit 64"):
        map_entries(parse(*layouts[:MAX_CANDIDATES], "*:64:0:*:64,0:mss::0"), lambda _: True, 0)
