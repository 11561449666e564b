"""In the sandbox, in the process forked for it: run one program, as a script or as functions to be called.

Everything here is within the program's reach, so nothing here decides anything: tests and expected values are in
another sandbox, and what a program says of itself is only ever compared there.
"""

import atexit
import builtins
import os
import random
import site
import sys
import threading
import types
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from selftrain.backends.sandbox_wire import (
    Channel,
    Descriptor,
    WireError,
    lenient,
    pack,
    read,
    read_sheet,
    unpack,
    write,
)

random.seed(0)
# `exit` and `quit` are there in any Python that was started the usual way.
site.setquit()
NAME = "program.py"


def work(job: Any, descriptors: Sequence[int]) -> NoReturn:
    """Run the program of a job's sheet as a script, or the one that comes first over its channel as functions."""
    if job["kind"] == "functions":
        _functions(Descriptor(descriptors[0]))
    sheet, *others = descriptors
    for number, descriptor in enumerate(others):
        os.dup2(descriptor, number)
        os.close(descriptor)
    _script(read_sheet(sheet)["program"])


def _script(program: str) -> NoReturn:
    """Run a program the way Python runs a file, with its exit status, and what it printed written out."""
    sys.argv = [NAME]
    module = types.ModuleType("__main__")
    module.__dict__["__builtins__"] = builtins
    sys.modules["__main__"] = module
    code = 0
    try:
        exec(compile(program, NAME, "exec", dont_inherit=True), module.__dict__)
    except SystemExit as error:
        code = _status(error)
    except BaseException as error:
        _report(error)
        code = 1
    try:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        code = code or 120
    os._exit(code & 0xFF)


def _status(error: SystemExit) -> int:
    if error.code is None or isinstance(error.code, int):
        return error.code or 0
    sys.stderr.write(f"{error.code}\n")
    return 1


def _report(error: BaseException) -> None:
    """Write the traceback as Python would, without our own frame."""
    import traceback

    trace = error.__traceback__.tb_next if error.__traceback__ else None
    try:
        traceback.print_exception(type(error), error, trace)
    except BaseException:
        os.write(2, b"an exception that can't be printed\n")


def _functions(channel: Channel) -> NoReturn:
    """Load a program as a module, say if that failed, and answer calls until the other end hangs up."""
    module = types.ModuleType("program")
    module.__dict__["__builtins__"] = builtins
    sys.modules["program"] = module
    try:
        exec(compile(read(channel)["program"], NAME, "exec", dont_inherit=True), module.__dict__)
    except BaseException as error:
        write(channel, {"failed": _raised(error)})
        os._exit(1)
    try:
        while True:
            request = read(channel)
            try:
                write(channel, _answer(request, module, channel))
            except WireError as error:
                write(channel, {"id": request.get("id"), "raised": ["Exception", "Exception", str(error)]})
    except (EOFError, OSError):
        os._exit(0)


def _answer(request: Any, module: types.ModuleType, channel: Channel) -> object:
    if "names" in request:
        return {"names": {name: _about(getattr(module, name)) for name in request["names"] if hasattr(module, name)}}
    arguments = unpack(request["arguments"], _callback(channel))
    positional, named = arguments
    before = request["arguments"]
    try:
        value = getattr(module, request["call"])(*positional, **named)
        said = pack(value, lenient)
    except BaseException as error:
        return {"id": request["id"], "raised": _raised(error)}
    answer = {"id": request["id"], "value": said}
    try:
        after = pack(arguments)
    except (WireError, RecursionError):
        return answer
    # A function may change the lists it is given: whoever called it shall see that.
    return answer if after == before else {**answer, "arguments": after}


def _about(value: object) -> object:
    if callable(value):
        return {"callable": True}
    try:
        return {"value": pack(value, lenient)}
    except (WireError, RecursionError) as error:
        return {"unsaid": str(error)}


def _callback(channel: Channel) -> Callable[[str, object], object]:
    """Return what makes functions of the other side callable here."""

    def made(kind: str, number: object) -> object:
        if kind != "callable":
            raise WireError(f"a value of the unknown type {kind!r}")

        def call(*positional: object) -> object:
            write(channel, {"callback": number, "arguments": pack(list(positional), lenient)})
            said = read(channel)
            if "raised" in said:
                raise RuntimeError(said["raised"])
            return unpack(said["value"])

        return call

    return made


def _raised(error: BaseException) -> list[str]:
    """An exception's type and message, its nearest builtin type first."""
    builtin = next((each.__name__ for each in type(error).__mro__ if each.__module__ == "builtins"), "Exception")
    try:
        return [builtin, type(error).__name__, str(error)[:500]]
    except BaseException:
        return [builtin, type(error).__name__, ""]
