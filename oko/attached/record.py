"""`Record`: what was changed of an Open vSwitch that Oko is attached to, on disk, so that it can be given back.

A change is a value that says what is changed and what was there before; it is written down before it is made. So
whoever reads the record can undo all of it, whether the okod that wrote it lives, was killed in between, or never came
to make the last change. OVSDB keeps what was changed in it when the machine boots: the record has to outlive that, too.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from oko.errors import AttachError, StateDamaged

VERSION: Final = 1


class Record:
    """The file at `path`. `kinds` are the frozen dataclasses that changes are, told apart by their names; one whose
    fields are not all plain values has the methods `to_json` and `from_json`."""

    def __init__(self, path: Path, kinds: Sequence[type[Any]]) -> None:
        """Raises StateDamaged for a file that cannot be read. None is an empty record."""
        self.path = path
        self._kinds = {kind.__name__: kind for kind in kinds}
        self._changes: list[Any] = list(self._read())

    def __iter__(self) -> Iterator[Any]:
        """The changes, in the order in which they were made."""
        return iter(tuple(self._changes))

    def __len__(self) -> int:
        return len(self._changes)

    def add(self, change: Any) -> None:
        """Write down a change that is about to be made, if it is not there yet. It has reached the disk when this
        returns. Raises AttachError, and it must not be made then."""
        if change not in self._changes:
            self._write([*self._changes, change])
            self._changes.append(change)

    def remove(self, change: Any) -> None:
        """A change has been undone. Raises AttachError. With the last one the file goes."""
        if change in self._changes:
            rest = [each for each in self._changes if each != change]
            if rest:
                self._write(rest)
            else:
                self.path.unlink(missing_ok=True)
            self._changes = rest

    def _read(self) -> Iterator[Any]:
        try:
            content = json.loads(self.path.read_bytes())
            if content["version"] != VERSION:
                raise StateDamaged(f"{self.path}: version {content['version']}, this Oko reads {VERSION}")
            for saved in content["changes"]:
                kind = self._kinds[saved.pop("kind")]
                yield kind.from_json(saved) if hasattr(kind, "from_json") else kind(**saved)
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "what is in it is no record of Oko's"
            raise StateDamaged(
                f"{self.path} cannot be read: {reason}: it says what of Open vSwitch is to be given back: see "
                "docs/ovs.md, 'Detaching', for how to do that by hand"
            ) from None

    def _write(self, changes: Sequence[Any]) -> None:
        """Whole or not at all."""
        saved = [
            {"kind": type(each).__name__, **(each.to_json() if hasattr(each, "to_json") else asdict(each))}
            for each in changes
        ]
        draft = self.path.with_name(f"{self.path.name}.new")
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with draft.open("w") as file:
                json.dump({"version": VERSION, "changes": saved}, file, indent=1)
                file.flush()
                os.fsync(file.fileno())
            draft.rename(self.path)
            directory = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        except OSError as error:
            raise AttachError(f"{self.path} cannot be written: {error.strerror}: nothing is changed") from None
