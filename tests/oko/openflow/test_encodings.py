from __future__ import annotations

from oko.openflow.encodings import Encodings


def test_each_form_of_an_event_is_made_once() -> None:
    made: list[tuple[str, int]] = []
    encodings = Encodings()

    def encoded(event: str, form: int) -> bytes | None:
        def encode() -> bytes | None:
            made.append((event, form))
            return f"{event} in {form}".encode() if form else None

        return encodings.encoded(event, form, encode)

    for event in ("first", "second"):
        for _ in range(3):
            assert [encoded(event, form) for form in (4, 1, 0)] == [
                f"{event} in 4".encode(),
                f"{event} in 1".encode(),
                None,
            ]
    assert made == [(event, form) for event in ("first", "second") for form in (4, 1, 0)]


def test_an_event_that_is_alike_is_another() -> None:
    encodings = Encodings()
    first, second = [1], [1]
    assert encodings.encoded(first, 4, lambda: b"a") == b"a"
    assert encodings.encoded(second, 4, lambda: b"b") == b"b"
