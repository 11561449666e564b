"""Values cross the sandbox's borders unchanged, and nothing else does."""

import json
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selftrain.backends.sandbox_wire import WireError, lenient, pack, read, unpack, write

PLAIN = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(), st.complex_numbers(allow_nan=False)
)
HASHABLE = st.recursive(
    PLAIN, lambda inner: st.one_of(st.tuples(inner, inner), st.frozensets(inner, max_size=3)), max_leaves=5
)
VALUES = st.recursive(
    HASHABLE,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.tuples(inner, inner),
        st.dictionaries(HASHABLE, inner, max_size=3),
        st.sets(HASHABLE, max_size=3),
    ),
    max_leaves=20,
)


@given(VALUES)
def test_a_value_comes_back_as_it_was(value: object) -> None:
    assert shown(unpack(json.loads(json.dumps(pack(value))))) == shown(value)


def shown(value: object) -> str:
    """A text that tells any two values apart, NaN and the order of sets aside."""
    if isinstance(value, set | frozenset):
        return f"{type(value).__name__}({sorted(map(shown, value))})"
    if isinstance(value, list | tuple):
        return f"{type(value).__name__}({[shown(each) for each in value]})"
    if isinstance(value, dict):
        return f"dict({sorted((shown(key), shown(each)) for key, each in value.items())})"
    return f"{type(value).__name__} {value!r}"


@given(
    st.recursive(
        PLAIN.filter(lambda x: not isinstance(x, bytes | complex)),
        lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)),
        max_leaves=20,
    )
)
def test_whatever_is_said_gives_plain_values_or_a_refusal(said: object) -> None:
    try:
        value = unpack(said)
    except WireError:
        return
    shown(value)


@pytest.mark.parametrize(
    "said",
    [{}, {"a": 1, "b": 2}, {"object": []}, {"set": 5}, {"set": [[]]}, {"int": "x"}, {"dict": [1]}, {"complex": 1}],
)
def test_what_is_no_value_is_refused(said: object) -> None:
    with pytest.raises(WireError):
        unpack(said)


def test_an_object_does_not_cross() -> None:
    for value in (object(), [object()], {1: print}):
        with pytest.raises(WireError):
            pack(value)
        with pytest.raises(WireError):
            pack(value, lenient)


def test_a_message_is_bounded_and_ends_with_its_sender() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            write(theirs, {"a": [1, 2]})
            assert read(ours) == {"a": [1, 2]}
            with pytest.raises(WireError, match="can cross"):
                write(theirs, "x" * (9 << 20))
            theirs.sendall(b"\xff\xff\xff\xff")
            with pytest.raises(WireError, match="a message of 4294967295 bytes"):
                read(ours)
            theirs.sendall(b"\x00\x00\x00\x02{]")
            with pytest.raises(WireError, match="no JSON"):
                read(ours)
        with pytest.raises(EOFError):
            read(ours)
