"""Break a program mechanically: five ways, each by its syntax tree."""

import ast
from collections.abc import Callable


class _Constants(ast.NodeTransformer):
    """Changes every constant: a number by one, a text by a letter, True to False."""

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        if isinstance(node.value, bool):
            return ast.Constant(not node.value)
        if isinstance(node.value, int | float):
            return ast.Constant(node.value + 1)
        if isinstance(node.value, str):
            return ast.Constant(node.value + "x")
        return node

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:
        return ast.JoinedStr([*node.values, ast.Constant("x")])


class _Branches(ast.NodeTransformer):
    """Turns every condition round."""

    def visit_If(self, node: ast.If) -> ast.AST:
        self.generic_visit(node)
        return ast.If(_not(node.test), node.body, node.orelse)

    def visit_IfExp(self, node: ast.IfExp) -> ast.AST:
        self.generic_visit(node)
        return ast.IfExp(_not(node.test), node.body, node.orelse)

    def visit_comprehension(self, node: ast.comprehension) -> ast.AST:
        self.generic_visit(node)
        node.ifs = [_not(each) for each in node.ifs]
        return node


def _not(test: ast.expr) -> ast.expr:
    return ast.UnaryOp(ast.Not(), test)


def _body(function: ast.FunctionDef) -> list[ast.stmt]:
    """The statements of a function, without what it says of itself."""
    first = function.body[0]
    said = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)
    return function.body[said:]


def _transformed(transformer: ast.NodeTransformer) -> Callable[[ast.FunctionDef], list[ast.stmt]]:
    return lambda function: [transformer.visit(each) for each in _body(function)]


def _begun(statement: str) -> Callable[[ast.FunctionDef], list[ast.stmt]]:
    return lambda function: [*ast.parse(statement).body, *_body(function)]


KINDS: dict[str, Callable[[ast.FunctionDef], list[ast.stmt]]] = {
    "wrong constant": _transformed(_Constants()),
    "swapped branch": _transformed(_Branches()),
    "early return": _begun("return None"),
    "exception": _begun("raise ValueError('broken')"),
    "endless loop": _begun("while True: pass"),
}


def broken(program: str, entry: str, kind: str) -> str | None:
    """Return the program with its function broken in one of the ways; None where it has nothing to break that way."""
    tree = ast.parse(program)
    for statement in tree.body:
        if isinstance(statement, ast.FunctionDef) and statement.name == entry:
            before = [ast.dump(each) for each in _body(statement)]
            statement.body = KINDS[kind](statement)
            if [ast.dump(each) for each in statement.body] != before:
                return ast.unparse(ast.fix_missing_locations(tree))
    return None
