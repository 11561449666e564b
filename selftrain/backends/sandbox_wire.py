"""How values, messages and descriptors cross the sandbox's borders; standard library only, also loaded inside.

Values cross as JSON of exact builtin types: numbers, texts, booleans, None and lists as they are, any other builtin
as an object with one key that names its type. Nothing else can be said in it: no classes, no code, no references.
"""

import array
import fcntl
import itertools
import json
import os
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

LARGEST = 8 << 20
"""Bytes of a message, at most."""
_BIG = 10_000
"""Bits from which an integer crosses in hexadecimal: decimal digits are slow, and Python limits them."""
LONGEST = 100_000
"""Items of an iterator, at most."""
_HEADER = struct.Struct("!I")

_ENCODER = json.JSONEncoder(separators=(",", ":"), check_circular=False)
Value = Any
"""None, a bool, a number, text, bytes, or a list, tuple, set, frozenset or dict of them."""


class WireError(Exception):
    """What came is no message, or what should go can't cross."""


def pack(value: Value, foreign: Callable[[object], object] | None = None) -> object:
    """Return a value as JSON can hold it; `foreign` makes something of a type that can't cross, or raises."""
    kind = type(value)
    if value is None or kind in (str, bool, float):
        return value
    if kind is int:
        return value if value.bit_length() < _BIG else {"int": hex(value)}
    if kind is list:
        return [pack(each, foreign) for each in value]
    if kind is dict:
        return {"dict": [[pack(key, foreign), pack(each, foreign)] for key, each in value.items()]}
    if kind in (tuple, set, frozenset):
        return {kind.__name__: [pack(each, foreign) for each in value]}
    if kind is bytes:
        return {"bytes": value.hex()}
    if kind is complex:
        return {"complex": [value.real, value.imag]}
    if foreign is None:
        raise WireError(f"a {kind.__name__} can't cross")
    return foreign(value)


def unpack(said: object, foreign: Callable[[str, object], object] | None = None) -> Value:
    """Return the value that `pack` made this of; raises WireError for anything else."""
    if isinstance(said, list):
        return [unpack(each, foreign) for each in said]
    if not isinstance(said, dict):
        return said
    if len(said) != 1:
        raise WireError("a value with more than one type")
    ((kind, inner),) = said.items()
    try:
        return _typed(kind, inner, foreign)
    except (TypeError, ValueError) as error:
        raise WireError(f"a {kind} that is none") from error


def _typed(kind: str, inner: Any, foreign: Callable[[str, object], object] | None) -> Value:
    if kind == "dict":
        return {unpack(key, foreign): unpack(each, foreign) for key, each in inner}
    if kind == "tuple":
        return tuple(unpack(each, foreign) for each in inner)
    if kind == "set":
        return {unpack(each, foreign) for each in inner}
    if kind == "frozenset":
        return frozenset(unpack(each, foreign) for each in inner)
    if kind == "int":
        return int(inner, 16)
    if kind == "range":
        return range(*inner)
    if kind == "iterator":
        return iter([unpack(each, foreign) for each in inner])
    if kind == "bytes":
        return bytes.fromhex(inner)
    if kind == "complex":
        real, imaginary = inner
        return complex(real, imaginary)
    if foreign is None:
        raise WireError(f"a value of the unknown type {kind!r}")
    return foreign(kind, inner)


def lenient(value: Any) -> object:
    """Say more than `pack` can, for its `foreign`: a Counter crosses as a dict, a generator as items."""
    if isinstance(value, str):
        return str.__str__(value)
    kinds: tuple[Any, ...] = (int, float, bytes, list, tuple, dict, set, frozenset)
    for kind in kinds:
        if isinstance(value, kind):
            return pack(kind(value), lenient)
    if isinstance(value, range):
        return {"range": [value.start, value.stop, value.step]}
    if isinstance(value, Iterator):
        items = list(itertools.islice(value, LONGEST + 1))
        if len(items) > LONGEST:
            raise WireError(f"it returned an iterator of more than {LONGEST} items")
        return {"iterator": [pack(each, lenient) for each in items]}
    if type(value).__module__ == "numpy" and getattr(value, "shape", None) == ():
        return pack(value.item(), lenient)
    raise WireError(f"it returned a {type(value).__name__}, which is not a builtin value")


class Channel(Protocol):
    """What messages go through: a socket, or a `Descriptor`."""

    def recv(self, size: int, /) -> bytes:
        """Receive some bytes, none at the end."""

    def sendall(self, data: bytes, /) -> None:
        """Send them all."""


class Descriptor:
    """A channel by its number: a socket object costs a new process as much as all else that it does with it."""

    def __init__(self, number: int) -> None:
        """Keep the number."""
        self._number = number

    def recv(self, size: int, /) -> bytes:
        """Receive some bytes, none at the end."""
        return os.read(self._number, size)

    def sendall(self, data: bytes, /) -> None:
        """Send them all."""
        view = memoryview(data)
        while view:
            view = view[os.write(self._number, view) :]


def write(channel: Channel, message: object) -> None:
    """Send one message; raises WireError if it is too large or can't be said in JSON."""
    try:
        text = _ENCODER.encode(message).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise WireError(f"can't cross: {error}") from error
    if len(text) > LARGEST:
        raise WireError(f"{len(text)} bytes in one value; {LARGEST} can cross")
    channel.sendall(_HEADER.pack(len(text)) + text)


def read(channel: Channel) -> Any:
    """Receive one message; raises EOFError at the channel's end, WireError for anything that is no message."""
    (size,) = _HEADER.unpack(_exactly(channel, _HEADER.size))
    if size > LARGEST:
        raise WireError(f"a message of {size} bytes")
    try:
        return json.loads(_exactly(channel, size))
    except (ValueError, RecursionError) as error:
        raise WireError("a message that is no JSON") from error


def _exactly(channel: Channel, size: int) -> bytes:
    parts = []
    while size:
        part = channel.recv(min(size, 1 << 20))
        if not part:
            raise EOFError
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def send_with(control: socket.socket, message: object, descriptors: Sequence[int]) -> None:
    """Send a short message and descriptors in one packet."""
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
    control.sendmsg([json.dumps(message).encode()], rights)


def receive_with(control: socket.socket) -> tuple[Any, list[int]]:
    """Receive what `send_with` sent; raises EOFError when the other end is gone."""
    data, rights, _, _ = control.recvmsg(65_536, socket.CMSG_SPACE(16 * 4))
    descriptors = array.array("i")
    for level, kind, content in rights:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(content[: len(content) - len(content) % descriptors.itemsize])
    if not data:
        raise EOFError
    return json.loads(data), list(descriptors)


def sheet(content: object) -> int:
    """Return a descriptor of a nameless file that holds a job: whoever gets it can read it whenever it likes."""
    return written(json.dumps(content).encode())


def written(content: bytes) -> int:
    """Return a descriptor of a nameless file with this content, to be read from its beginning, and never changed."""
    if not hasattr(os, "memfd_create"):
        import tempfile

        with tempfile.TemporaryFile() as file:
            file.write(content)
            file.seek(0)
            return os.dup(file.fileno())
    descriptor = os.memfd_create("sheet", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]
    os.lseek(descriptor, 0, os.SEEK_SET)
    seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
    return descriptor


def read_sheet(descriptor: int) -> Any:
    """Read a job and close its file."""
    with os.fdopen(descriptor, "rb") as file:
        return json.loads(file.read())
