"""What can be broken in a Python file: every change that ``make mutants`` may choose from."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

COMPARISONS = {
    ast.Lt: ("<", ["<=", ">="]), ast.LtE: ("<=", ["<", ">"]), ast.Gt: (">", [">=", "<="]), ast.GtE: (">=", [">", "<"]),
    ast.Eq: ("==", ["!="]), ast.NotEq: ("!=", ["=="]), ast.In: ("in", ["not in"]), ast.NotIn: ("not in", ["in"]),
    ast.Is: ("is", ["is not"]), ast.IsNot: ("is not", ["is"]),
}  # fmt: skip
ARITHMETIC = {
    ast.Add: ("+", "-"), ast.Sub: ("-", "+"), ast.Mult: ("*", "/"), ast.Div: ("/", "*"), ast.FloorDiv: ("//", "*"),
    ast.Mod: ("%", "//"), ast.Pow: ("**", "*"), ast.BitAnd: ("&", "|"), ast.BitOr: ("|", "&"),
}  # fmt: skip
SWAPS = {"min": "max", "minimum": "maximum", "argmin": "argmax", "any": "all", "floor": "ceil", "nanmin": "nanmax"}
SWAPS |= {new: old for old, new in SWAPS.items()}
DROPPED = ("abs", "sqrt", "square", "sorted", "round")  # calls of which only the argument is left
NAMES = re.compile(r"_?([A-Z]+_)?(BLOCK|CELLS|CHUNK|NUMBERS|ROWS|SCORES|VERSION)")  # sizes of blocks, and versions
LEFT_ALONE = ("annotation", "returns", "decorator_list")
CHECKS = ast.Raise | ast.Assert | ast.Import | ast.ImportFrom | ast.JoinedStr | ast.arg

Change = tuple[int, int, str]  # the bytes from start to end become this text


class Source:
    """A file and its changes. Annotations, decorators, messages, assertions, sizes of blocks and versions are left alone."""

    def __init__(self, file: Path) -> None:
        self.bytes = file.read_bytes()
        lengths = [len(line) for line in self.bytes.splitlines(keepends=True)]
        self.starts = [sum(lengths[:i]) for i in range(len(lengths))]

    def span(self, node: ast.AST) -> tuple[int, int]:
        start = self.starts[node.lineno - 1] + node.col_offset  # type: ignore[attr-defined]
        return start, self.starts[node.end_lineno - 1] + node.end_col_offset  # type: ignore[attr-defined]

    def text(self, node: ast.AST) -> str:
        return self.bytes[slice(*self.span(node))].decode()

    def replaced(self, node: ast.AST, new: str) -> Change:
        return *self.span(node), new

    def swapped(self, left: ast.AST, right: ast.AST, old: str, new: str) -> Change:
        """Another operator between two operands."""
        start, end = self.span(left)[1], self.span(right)[0]
        return start, end, self.bytes[start:end].decode().replace(old, new, 1)

    def removed(self, spans: list[tuple[int, int]]) -> Iterator[Change]:
        """One element less, of several between commas."""
        for i in range(len(spans)) if len(spans) > 1 else ():
            yield (spans[i][0], spans[i + 1][0], "") if i + 1 < len(spans) else (spans[i - 1][1], spans[i][1], "")

    def changes(self, node: ast.AST) -> Iterator[Change]:
        """All changes at a node and below it."""
        yield from self.of_operators(node)
        yield from self.of_values(node)
        yield from self.of_statements(node)
        for name, field in ast.iter_fields(node):
            for child in field if isinstance(field, list) else [field]:
                if isinstance(child, ast.AST) and name not in LEFT_ALONE and not self.settled(child):
                    yield from self.changes(child)

    def settled(self, node: ast.AST) -> bool:
        """Whether nothing in a node is to be broken: it is not run, or changes speed alone."""
        if isinstance(node, ast.Assign | ast.AnnAssign):
            target = self.text(node.targets[0] if isinstance(node, ast.Assign) else node.target)
            return target == "__all__" or bool(NAMES.fullmatch(target))
        if isinstance(node, ast.keyword):
            return node.arg == "strict"
        return isinstance(node, CHECKS) or (isinstance(node, ast.If) and self.text(node.test) == "TYPE_CHECKING")

    def of_operators(self, node: ast.AST) -> Iterator[Change]:
        match node:
            case ast.Compare(left, operators, others):
                for a, operator, b in zip([left, *others], operators, others, strict=False):
                    old, news = COMPARISONS[type(operator)]
                    yield from (self.swapped(a, b, old, new) for new in news)
            case ast.BoolOp(operator, values):
                old, new = ("and", "or") if isinstance(operator, ast.And) else ("or", "and")
                yield from (self.swapped(a, b, old, new) for a, b in pairwise(values))
            case ast.BinOp(a, operator, b) | ast.AugAssign(a, operator, b) if type(operator) in ARITHMETIC:
                yield self.swapped(a, b, *ARITHMETIC[type(operator)])
            case ast.UnaryOp(ast.Not() | ast.USub() | ast.Invert(), operand):
                yield self.replaced(node, f"({self.text(operand)})")

    def of_values(self, node: ast.AST) -> Iterator[Change]:
        match node:
            case ast.Constant(bool(value)):
                yield self.replaced(node, str(not value))
            case ast.Constant(int() | float()):
                yield self.replaced(node, f"({self.text(node)} + 1)")
            case ast.keyword("axis" | "dim", ast.Constant(0 | 1 as axis) as value):
                yield self.replaced(value, str(1 - axis))
            case ast.Slice(lower, upper):
                yield from (self.replaced(bound, f"({self.text(bound)}) + 1") for bound in (lower, upper) if bound)
            case ast.List(elements) | ast.Set(elements):
                yield from self.removed([self.span(element) for element in elements])
            case ast.Dict(keys, values) if all(keys):
                yield from self.removed(
                    [(self.span(a)[0], self.span(b)[1]) for a, b in zip(keys, values, strict=True) if a]
                )
            case ast.Call(function, arguments, keywords):
                path, _, name = self.text(function).rpartition(".")
                if name in SWAPS:
                    yield self.replaced(function, f"{path}.{SWAPS[name]}" if path else SWAPS[name])
                if name in DROPPED and arguments:
                    yield self.replaced(node, f"({self.text(arguments[0])})")
                yield from self.removed([self.span(keyword) for keyword in keywords])

    def of_statements(self, node: ast.AST) -> Iterator[Change]:
        for child in ast.iter_child_nodes(node):
            match child:
                case ast.If(test) | ast.While(test) | ast.IfExp(test) if not self.settled(child):
                    yield self.replaced(test, f"(not ({self.text(test)}))")
                case ast.Raise() | ast.Continue() | ast.Break() | ast.AugAssign() | ast.Expr(ast.Call()):
                    yield self.replaced(child, "pass")
                case ast.Assign([ast.Subscript() | ast.Attribute()]):
                    yield self.replaced(child, "pass")
