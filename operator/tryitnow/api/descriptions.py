"""What the docstrings of fields say, for schemas.

Pydantic would read them itself (``use_attribute_docstrings``), out of the source and at each start
of each program. Only schemas need them.
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterator
from functools import cache
from types import ModuleType

from tryitnow.api.meta import Model


@cache
def describe() -> None:
    """Give all fields of all models their docstrings as descriptions, once."""
    models = list(_models(Model))
    for model in models:
        for name, field in model.model_fields.items():
            field.description = field.description or _docstring(model, name)
    # A schema has those of other models in it, and a model may come before what it is made of.
    for model in (*models, *models):
        model.model_rebuild(force=True)


def _models(base: type[Model]) -> Iterator[type[Model]]:
    for model in base.__subclasses__():
        yield model
        yield from _models(model)


def _docstring(model: type[Model], field: str) -> str | None:
    for base in model.__mro__:
        found = _docstrings(sys.modules[base.__module__]) if issubclass(base, Model) else {}
        if (text := found.get((base.__qualname__, field))) is not None:
            return text
    return None


@cache
def _docstrings(module: ModuleType) -> dict[tuple[str, str], str]:
    """Return the docstrings of fields by class and field."""
    found = {}
    tree = ast.parse(inspect.getsource(module))
    for one in (node for node in tree.body if isinstance(node, ast.ClassDef)):
        for field, after in zip(one.body, one.body[1:], strict=False):
            match field, after:
                case (
                    ast.AnnAssign(target=ast.Name(id=name)),
                    ast.Expr(value=ast.Constant(value=str(text))),
                ):
                    found[one.name, name] = inspect.cleandoc(text)
    return found
