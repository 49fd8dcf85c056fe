"""Docstrings read from source text with `ast`: nothing is imported, nothing runs."""

import ast
import warnings

from llmlib.data.corpora.document import Document

_Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def clean_docstring(raw: str) -> str:
    r"""Remove the indentation that a docstring takes from the code round it.

    The rule is that of PEP 257. It is written out here because the standard library's version
    has changed between Python releases and a pinned corpus may not.

    Example:
        >>> clean_docstring("Add.\n\n    Exactly.\n    ")
        'Add.\n\nExactly.'
    """
    first, *rest = raw.expandtabs().split("\n")
    margin = min((len(line) - len(line.lstrip(" ")) for line in rest if line.strip(" ")), default=0)
    lines = [first.lstrip(" "), *(line[margin:] for line in rest)]
    full = [number for number, line in enumerate(lines) if line.strip(" ")]
    return "\n".join(lines[full[0] : full[-1] + 1]) if full else ""


def _raw_docstring(node: _Documented) -> str | None:
    match node.body:
        case [ast.Expr(value=ast.Constant(value=str(text))), *_]:
            return text
    return None


def module_docstrings(source: str, module: str, label: str) -> list[Document]:
    r"""Extract the docstrings of a module and its parts, blank ones apart, in source order.

    `meta["module"]` is the module's dotted name, `meta["name"]` the object's qualified one, empty
    for the module itself.

    Raises:
        SyntaxError: If the source does not parse on this version of Python.

    Example:
        >>> code = "class Dot:\n 'A point.'\n def move(self):\n  'Go.'"
        >>> [(d.meta["name"], d.text) for d in module_docstrings(code, "toy", "toy 1.0")]
        [('Dot', 'A point.'), ('Dot.move', 'Go.')]
    """
    with warnings.catch_warnings():
        # Invalid escapes such as "\p" in other people's docstrings are no concern of the reader's.
        warnings.simplefilter("ignore")
        tree = ast.parse(source)
    documents = []
    pending: list[tuple[ast.AST, str]] = [(tree, "")]
    while pending:
        node, prefix = pending.pop()
        name = prefix
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            name = f"{prefix}.{node.name}" if prefix else node.name
        if isinstance(node, _Documented):
            text = clean_docstring(_raw_docstring(node) or "")
            if not text.isascii():  # an escape such as \ud800 would stop every later step
                text = text.encode("utf-8", "replace").decode("utf-8")
            if text:
                meta = {"module": module, "name": name}
                documents.append(Document(text=text, source=label, meta=meta))
        if not isinstance(node, ast.expr):
            pending += [(child, name) for child in reversed([*ast.iter_child_nodes(node)])]
    return documents
