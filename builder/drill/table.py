"""What is told of drills in a terminal. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from builder.drill.verdict import Result, lost_words, slow_words

_HEAD = ("drill", "on", "no writes", "bound", "connect", "no reads", "lost", "whole", "verdict")


def rows(results: Sequence[Result]) -> Iterator[str]:
    cells = [_HEAD, *(_row(result) for result in results)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(_HEAD))]
    for row in cells:
        yield "  ".join(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True)).rstrip()
    for result in results:
        if words := slow_words(result):
            yield f"  {result.fault.name}: {words}"
        for check in result.checks:
            if not check.passed:
                yield f"✗ {result.fault.name}: {check.name}: {check.measured} ({check.bound})"


def _row(result: Result) -> Sequence[str]:
    said = result.document()
    bound, whole = said["write_bound_seconds"], said["recovery_seconds"]
    no_reads = said["read_outage_seconds"]
    return (
        result.fault.name,
        ", ".join(result.targets),
        f"{said['write_outage_seconds']:.1f} s",
        "-" if bound is None else f"{bound:g} s",
        f"{said['connect_outage_seconds']:.1f} s",
        "-" if no_reads is None else f"{no_reads:.1f} s",
        lost_words(said),
        "NO" if whole is None else f"{whole:g} s",
        "passed" if result.passed else "FAILED",
    )


def line(result: Result) -> str:
    failed = [f"{c.name}: {c.measured}" for c in result.checks if not c.passed]
    return f"{result.fault.name}: {'passed' if result.passed else 'FAILED: ' + '; '.join(failed)}"
