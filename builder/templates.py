"""Jinja2 templates, and where they live. Templates are ours; what the user writes is only data.

In a checkout they stand beside the package, in a wheel inside of it: `_home` alone knows that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder.security.secret import MASK, Secret

if TYPE_CHECKING:
    from jinja2 import Environment


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """A file's text. `sensitive` where a secret went into it; `masked` then hides it."""

    text: str
    masked: str

    @property
    def sensitive(self) -> bool:
        return self.text != self.masked

    @property
    def content(self) -> bytes:
        return self.text.encode()


def _home() -> Path:
    packed = Path(__file__).parent / "_templates"
    return packed if packed.is_dir() else Path(__file__).parents[1] / "templates"


@cache
def _environment(homes: tuple[Path, ...], shown: Callable[[Secret], str]) -> Environment:
    """Autoescaping is for HTML, and these are configuration files."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(  # noqa: S701
        loader=FileSystemLoader([str(home) for home in homes]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=lambda value: shown(value) if isinstance(value, Secret) else value,
    )


def _revealed(secret: Secret) -> str:
    return secret.reveal()


def _masked(_: Secret) -> str:
    return MASK


def render(name: str, values: dict[str, Any], home: Path | None = None) -> Rendered:
    """Render a template. Raises jinja2.UndefinedError where the template asks for too much.

    `home` is a further folder to look in first: a role from another distribution brings its own.
    """
    homes = (home, _home()) if home else (_home(),)
    text = _environment(homes, _revealed).get_template(f"{name}.j2").render(values)
    if not any(isinstance(value, Secret) for value in values.values()):
        return Rendered(text=text, masked=text)
    masked = _environment(homes, _masked).get_template(f"{name}.j2").render(values)
    return Rendered(text=text, masked=masked)
