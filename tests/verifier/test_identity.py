from __future__ import annotations

from verifier.identity import Identities
from verifier.state import Frame, State


def inside(*calls: int) -> State:
    """A state in functions that were called by these instructions."""
    state = State.at_entry()
    state.frames += [Frame(list(state.registers), returns_to=call) for call in calls]
    return state


def test_fresh_identities_differ() -> None:
    identities = Identities()
    given = [identities.fresh(), identities.made_at(7, State.at_entry()), identities.fresh()]
    assert len(set(given)) == 3
    assert 0 not in given


def test_what_one_instruction_makes_is_the_same_on_every_way_with_the_same_calls() -> None:
    identities = Identities()
    made = {
        (index, calls): identities.made_at(index, inside(*calls)) for index in (7, 8) for calls in ((), (3,), (3, 5))
    }
    assert len(set(made.values())) == len(made)
    for (index, calls), identity in made.items():
        assert identities.made_at(index, inside(*calls)) == identity
        assert identities.origins[identity] == index
