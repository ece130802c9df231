"""`Roles`: which of a bridge's connections may change it (OpenFlow 1.3.5, 6.3.4)."""

from __future__ import annotations

from typing import Final

from ofext.constants import Role
from oko.wire.refusal import refused

UNKNOWN_GENERATION: Final = (1 << 64) - 1
"""The generation id that a reply carries before anybody has given one (7.3.9)."""


class Roles:
    """The roles of the connections of one bridge. A connection that has asked for none is equal."""

    def __init__(self) -> None:
        self._held: dict[object, Role] = {}
        self._generation: int | None = None

    @property
    def generation(self) -> int:
        """The newest generation id."""
        return UNKNOWN_GENERATION if self._generation is None else self._generation

    def of(self, connection: object) -> Role:
        """Equal, master or slave."""
        return self._held.get(connection, Role.EQUAL)

    def request(self, connection: object, role: int, generation: int) -> Role:
        """Give `connection` the role that it asks for; a new master makes the old one a slave. The role it has now.

        `generation` counts for master and slave only; ids go round, so the difference decides which is newer. Raises
        ProtocolError for a generation older than the newest one, and for what is no role.
        """
        match role:
            case Role.NOCHANGE:
                pass
            case Role.EQUAL:
                self._held.pop(connection, None)
            case Role.MASTER | Role.SLAVE:
                if self._generation is not None and (generation - self._generation) % (1 << 64) >= 1 << 63:
                    raise refused(
                        "role-request-failed/stale",
                        f"generation {generation:#x} is older than {self._generation:#x}, which was here already",
                    )
                self._generation = generation
                if role == Role.MASTER:
                    masters = [other for other, held in self._held.items() if held is Role.MASTER]
                    self._held.update(dict.fromkeys(masters, Role.SLAVE))
                self._held[connection] = Role(role)
            case _:
                raise refused("role-request-failed/bad-role", f"{role} is no role")
        return self.of(connection)

    def leave(self, connection: object) -> None:
        """The connection is gone."""
        self._held.pop(connection, None)
