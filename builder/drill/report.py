"""The page: one self-contained HTML file, per drill its timeline and what a manager asks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from builder.drill.verdict import Result, lost_words, slow_words
from builder.errors import PghaError

_TEMPLATE = Path(__file__).with_name("report.html.j2")


def require() -> None:
    """Say before the first fault, not after the last, that no page can be drawn."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise PghaError(
            "--report needs matplotlib", do="pip install 'pgha-build[report]'"
        ) from error


def page(
    cluster: str,
    results: Sequence[Result],
    now: datetime | None = None,
    *,
    stopped: str = "",
    left_out: Mapping[str, str] | None = None,
    software: Mapping[str, str] | None = None,
) -> str:
    """`left_out`: drills that were not possible, and why; `stopped`: why no more were done.

    `software`: names and versions of what it was done with, and to.
    """
    from builder.drill.drawing import svg

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    return environment.from_string(_TEMPLATE.read_text()).render(
        cluster=cluster,
        stopped=stopped,
        left_out=left_out or {},
        software=software or {},
        now=(now or datetime.now(UTC)).strftime("%Y-%m-%d %H:%M UTC"),
        drills=[
            (result, result.document(), Markup(svg(result.history)))  # noqa: S704  our own drawing
            for result in results
        ],
        passed=sum(result.passed for result in results),
        acknowledged=sum(result.figures.acknowledged for result in results),
        lost=sum(len(result.figures.lost) for result in results),
        read_back=all(result.figures.read_back for result in results),
        lost_words=lost_words,
        slow_words=slow_words,
    )
