"""One drill's timeline as SVG: writes per 100 ms, failures, who was primary, who held the address.

Drawn by matplotlib, which only a report needs (extra `report`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from io import StringIO
from typing import Any

from builder.drill.history import History, Kind, Moment, Outcome
from builder.drill.judge import Span, gap, spans

BUCKET_SECONDS = 0.1
_INK, _FAINT = "#1f2933", "#9aa5b1"
_ACK, _FAILED, _PRIMARY, _HOLDER, _READ = "#2f855a", "#c53030", "#2b6cb0", "#805ad5", "#319795"
_MARKS: Mapping[Moment, tuple[str, str]] = {
    Moment.INJECTED: (_FAILED, "fault"),
    Moment.HEALED: ("#b7791f", "healed"),
    Moment.HEALTHY: (_ACK, "whole"),
}


def svg(history: History) -> str:
    """Inline SVG; its text stays text."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({"svg.fonttype": "none", "font.size": 9, "font.family": "sans-serif"}):
        figure = Figure(figsize=(11, 4.6), layout="constrained")
        rows = figure.subplots(4, 1, sharex=True, height_ratios=(5, 1.6, 1.6, 1.6))
        _writes(rows[0], history)
        _outcomes(rows[1], history)
        _who(rows[2], history, "primary", _PRIMARY, "primary")
        _who(rows[3], history, "holder", _HOLDER, "address")
        for row in rows:
            _frame(row, history)
        _label_marks(rows[0], history)
        rows[-1].set_xlabel("seconds since the drill began")
        text = StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()[text.getvalue().index("<svg") :]


def per_bucket(ends: Iterable[float], seconds: float) -> Sequence[int]:
    """How many fall into each 100 ms of so many seconds. Pure."""
    counts = Counter(int(end / BUCKET_SECONDS) for end in ends)
    return [counts[bucket] for bucket in range(int(seconds / BUCKET_SECONDS) + 1)]


def _writes(axes: Any, history: History) -> None:
    acks = (a.end - history.begin for a in history.acknowledged(Kind.WRITE))
    counts = per_bucket((end for end in acks if end >= 0), history.end - history.begin)
    edges = [bucket * BUCKET_SECONDS for bucket in range(len(counts) + 1)]
    axes.stairs(counts, edges, fill=True, color=_ACK)
    axes.set_ylabel("writes per 100 ms")
    axes.set_ylim(bottom=0, top=max(1, *counts) * 1.05)
    begin, end = gap(history)
    if end - begin >= 0.5:
        axes.axvspan(begin, end, color=_FAILED, alpha=0.08, lw=0)
        middle, height = (begin + end) / 2, axes.get_ylim()[1] * 0.45
        axes.text(middle, height, f"{end - begin:.1f} s", ha="center", color=_FAILED)


def _outcomes(axes: Any, history: History) -> None:
    """A tick per failure; and reads, so that a gap in them shows."""
    rows = (
        ("reads", Kind.READ, (Outcome.ACK,), _READ),
        ("failed", Kind.WRITE, (Outcome.ERROR,), _FAILED),
        ("no answer", Kind.WRITE, (Outcome.UNKNOWN,), "#dd6b20"),
    )
    for place, (_, kind, outcomes, colour) in enumerate(rows):
        chosen = (a for a in history.attempts if a.kind is kind and a.outcome in outcomes)
        moments = [a.end - history.begin for a in chosen if a.end >= history.begin]
        axes.plot(moments, [place] * len(moments), "|", color=colour, ms=8)
    _lanes(axes, [name for name, *_ in rows])


def _who(axes: Any, history: History, word: str, colour: str, title: str) -> None:
    found = spans(history, word)
    hosts = sorted(found)
    for place, host in enumerate(hosts):
        axes.broken_barh(
            [_shifted(span, history) for span in found[host]],
            (place - 0.3, 0.6),
            facecolors=colour,
        )
    _lanes(axes, hosts)
    axes.set_ylabel(title)


def _shifted(span: Span, history: History) -> tuple[float, float]:
    begin, end = (max(0.0, at - history.begin) for at in span)
    return begin, max(end - begin, BUCKET_SECONDS)


def _lanes(axes: Any, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(-0.6, max(0, len(names) - 1) + 0.6)
    axes.invert_yaxis()


def _frame(axes: Any, history: History) -> None:
    axes.set_xlim(0, history.end - history.begin)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_FAINT)
    axes.tick_params(colors=_INK, length=3)
    for moment, at in history.marks.items():
        axes.axvline(at - history.begin, color=_MARKS[moment][0], lw=1.2, ls="--")


def _label_marks(axes: Any, history: History) -> None:
    """Above the drawing; those that are close to each other on lines of their own."""
    place, before = axes.get_xaxis_transform(), 0.0
    line, near = 0, (history.end - history.begin) / 12
    for moment, at in sorted(history.marks.items(), key=lambda mark: mark[1]):
        colour, label = _MARKS[moment]
        x = at - history.begin
        line = line + 1 if before and x - before < near else 0
        before = x
        height = 1.02 + 0.12 * line
        axes.text(x, height, label, color=colour, ha="center", va="bottom", transform=place)
