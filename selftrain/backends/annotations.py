"""The fields of a class and their types, read from its source: importing TRL or vLLM costs many seconds.

Types are those that pydantic can hold a value to. A name that the source gives no meaning here (a class of the library
with fields of its own, say) is `Any`.
"""

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Any, Literal

_PLAIN: Mapping[str, Any] = {"int": int, "float": float, "str": str, "bool": bool, "dict": dict, "list": list}
_LISTS: Mapping[str, Any] = {"list": list, "List": list, "Sequence": list, "dict": dict, "Dict": dict}


def fields(file: Path, name: str, aliases: Sequence[Path]) -> dict[str, Any] | None:
    """Return the public fields of a class with their types, None where the file has no such class.

    `aliases` are files in which names of its annotations may be explained: as a `Literal`, or as an enumeration.
    """
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            names = _Names([file, *aliases])
            return {
                line.target.id: names.type(line.annotation)
                for line in node.body
                if isinstance(line, ast.AnnAssign)
                and isinstance(line.target, ast.Name)
                and not line.target.id.startswith("_")
                and "ClassVar" not in ast.unparse(line.annotation)
            }
    return None


class _Names:
    """What names in annotations stand for, as far as some files tell."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._texts = [file.read_text(encoding="utf-8") for file in files]
        self._known: dict[str, Any] = dict(_PLAIN)
        self._enumerations: set[str] = set()

    def type(self, node: ast.expr) -> Any:
        """Return the type that an annotation says."""
        match node:
            case ast.Constant(value=None):
                return None
            case ast.Constant(value=str(text)):
                return self.type(ast.parse(text, mode="eval").body)
            case ast.Name(id=name):
                return self._named(name)
            case ast.BinOp(op=ast.BitOr()):
                return self._union(list(_alternatives(node)))
            case ast.Subscript(value=ast.Name(id=name), slice=inner):
                return self._of(name, list(inner.elts) if isinstance(inner, ast.Tuple) else [inner])
        return Any

    def _of(self, name: str, inner: list[ast.expr]) -> Any:
        if name == "Literal":
            values = tuple(self._literals(inner))
            # PEFT writes "pissa_niter_[number of iters]" for any such text.
            return str if any("[" in str(value) for value in values) else Literal[values]
        if name in ("Optional", "Union"):
            return self._union([*inner, *([ast.Constant(value=None)] if name == "Optional" else [])])
        if name in _LISTS:
            # A list of what nobody knows is still a list.
            return _LISTS[name][tuple(map(self.type, inner))]
        return Any

    def _union(self, parts: list[ast.expr]) -> Any:
        found = [self.type(part) for part in parts]
        if any(isinstance(part, ast.Name) and part.id in self._enumerations for part in parts):
            # `SchedulerType | str` means one of the names, written as a text.
            found = [each for each in found if each is not str]
        if Any in found:
            return Any
        return reduce(or_, found[1:], found[0]) if found else Any

    def _named(self, name: str) -> Any:
        if name not in self._known:
            self._known[name] = Any  # an alias that names itself
            self._known[name] = next((each for text in self._texts if (each := self._found(name, text))), Any)
        return self._known[name]

    def _found(self, name: str, text: str) -> Any:
        """Return what a file says a name is, or None."""
        if alias := re.search(rf"^{name}(?:: TypeAlias)? = (Literal\[.*?\n?\])$", text, re.MULTILINE | re.DOTALL):
            return self.type(ast.parse(alias[1], mode="eval").body)
        if begun := re.search(rf"^class {name}\((?:ExplicitEnum|str, Enum|StrEnum)\):$", text, re.MULTILINE):
            body = ast.parse(text[begun.start() :].partition("\n\n\n")[0]).body[0]
            values = [each.value for each in getattr(body, "body", []) if isinstance(each, ast.Assign)]
            self._enumerations.add(name)
            return Literal[tuple(each.value for each in values if isinstance(each, ast.Constant))]
        return None

    def _literals(self, inner: list[ast.expr]) -> Iterator[Any]:
        for each in inner:
            if isinstance(each, ast.Name):  # Literal["auto", Other]
                yield from getattr(self._named(each.id), "__args__", ())
            else:
                yield ast.literal_eval(each)


def _alternatives(node: ast.expr) -> Iterator[ast.expr]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        yield from _alternatives(node.left)
        yield from _alternatives(node.right)
    else:
        yield node
