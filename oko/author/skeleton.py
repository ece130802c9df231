"""The beginning of a filter program: a C file that does something, and a table of packets that tests it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from oko.author.clang import SDK
from oko.errors import OkoError, ProgramError
from oko.flow.words import names

_FILES: Final = {"filter.c": "{}.c", "packets.toml": "{}.toml"}
"""The files of the template, and what they are called."""
_PLACEHOLDER: Final = "NAME"

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,30}")
_RESERVED: Final = names("""
    auto break case char const continue default do double else enum extern float for goto if inline int long main
    register restrict return short signed sizeof static struct switch typedef union unsigned void volatile while
    config count settings source sources
""")
"""Words of C, and what the template has names for."""


def write_skeleton(name: str, directory: Path) -> list[Path]:
    """Write the files of a program called `name` into `directory`, which is made if need be; returns their paths.

    Raises ProgramError for a name that is no name of a function, and OkoError if a file is there already (then nothing
    is written) or cannot be written.
    """
    if not _NAME.fullmatch(name) or name in _RESERVED or name.startswith(("oko_", "bpf_")):
        raise ProgramError(
            f"{name!r} cannot be the name of a program: it becomes that of a function in C. Take at most 31 small "
            "letters, digits and _, a letter first, that are no word of C and no name of the SDK or the skeleton"
        )
    files = {directory / called.format(name): SDK / "template" / file for file, called in _FILES.items()}
    for path in files:
        if path.exists():
            raise OkoError(f"{path} is there already: choose another name or directory")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for path, template in files.items():
            text = template.read_text(encoding="utf-8").replace(_PLACEHOLDER, name)
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
    except OSError as error:
        raise OkoError(f"{error.filename}: {error.strerror}") from None
    return list(files)
