"""Identities: what tells values in registers and on the stack that are the same from those that only look alike."""

from __future__ import annotations

from dataclasses import dataclass, field

from verifier.state import State


@dataclass(slots=True)
class Identities:
    """The identities that one walk gives. `origins` has the instructions that made those of map values and records."""

    origins: dict[int, int] = field(default_factory=dict)
    _last: int = 0
    _made: dict[tuple[int, ...], int] = field(default_factory=dict)

    def fresh(self) -> int:
        """An identity that was never given before."""
        self._last += 1
        return self._last

    def made_at(self, index: int, state: State) -> int:
        """The identity of the map value or record that the instruction makes. It is the same on every way with the same
        calls, none of which comes here twice: so states in which the same records or locks are held can be joined."""
        key = (index, *(frame.returns_to for frame in state.frames[1:]))
        if key not in self._made:
            self._made[key] = self.fresh()
            self.origins[self._made[key]] = index
        return self._made[key]
