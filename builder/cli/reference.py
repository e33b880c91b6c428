"""What there is to say about all commands, out of the parser: a page, and a manual page. Pure."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

HEAD = """\
# Commands

<!-- Written by scripts/docs: do not edit. -->

Exit status: 0 done or in sync, 1 error, 2 differences (`plan`), 130 interrupted. `-f FILE` names
another cluster.yml than the one in this folder; `--json`, where it is, is for programs.
"""
MANUAL_HEAD = """\
.\\" Written by scripts/docs: do not edit.
.TH PGHA-BUILD 1
.SH NAME
pgha-build \\- one cluster.yml becomes, and stays, a highly available PostgreSQL cluster
.SH SYNOPSIS
.B pgha-build
.I VERB
[\\fB\\-f\\fR \\fIFILE\\fR] [\\fIOPTIONS\\fR]
.SH DESCRIPTION
Every verb reads ./cluster.yml, or the file that \\fB\\-f\\fR names. Results go to stdout, progress
to stderr; \\fB\\-\\-json\\fR, where it is, is for programs.
.SH VERBS
"""
MANUAL_FOOT = """\
.SH EXIT STATUS
0 done or in sync, 1 error, 2 differences
.RB ( plan ),
130 interrupted.
.SH FILES
.TP
cluster.yml
what the cluster is to be
.TP
cluster.secrets.yml
its passwords and keys, beside it
.TP
cluster.lock.yml
the exact versions of its packages, where there is one
"""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One verb, or a verb's verb: `line` is how it is called, `rows` what may be given to it."""

    line: str
    depth: int
    help: str
    rows: Sequence[argparse.Action]


def entries(parser: argparse.ArgumentParser, above: str = "pgha-build") -> Iterator[Entry]:
    """In the order of the help."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            helps = {choice.dest: choice.help or "" for choice in action._choices_actions}
            for name, child in action.choices.items():
                yield _entry(child, f"{above} {name}", helps.get(name, ""))
                yield from entries(child, f"{above} {name}")


def _entry(parser: argparse.ArgumentParser, name: str, help_text: str) -> Entry:
    words = " ".join(_word(action) for action in parser._actions if not action.option_strings)
    return Entry(
        line=f"{name} {words}".strip(),
        depth=name.count(" "),
        help=f"{help_text[:1].upper()}{help_text[1:]}.",
        rows=[action for action in parser._actions if _worth_a_row(action)],
    )


def _word(action: argparse.Action) -> str:
    if isinstance(action, argparse._SubParsersAction):
        return str(action.metavar or "VERB")
    word = str(action.metavar or action.dest)
    marks = {"?": f"[{word}]", "*": f"[{word}...]", "+": f"{word}...", argparse.REMAINDER: "..."}
    return marks.get(str(action.nargs), word)


def _worth_a_row(action: argparse.Action) -> bool:
    common = {"-h", "-f", "--file"}
    return (
        bool(action.help)
        and not common & set(action.option_strings)
        and not isinstance(action, argparse._SubParsersAction)
    )


def _value(action: argparse.Action) -> str:
    """What an option takes; empty where it takes nothing."""
    if action.nargs == 0 or not action.option_strings:
        return ""
    return str(action.metavar or "|".join(map(str, action.choices or ())) or action.dest.upper())


# ── as Markdown ─────────────────────────────────────────────────────────────────────────────────
def markdown(parser: argparse.ArgumentParser) -> str:
    """One section per verb."""
    return HEAD + "".join(f"\n{_section(entry)}" for entry in entries(parser))


def _section(entry: Entry) -> str:
    text = f"{'#' * (entry.depth + 1)} `{entry.line}`\n\n{entry.help}\n"
    if entry.rows:
        text += "\n| | |\n| --- | --- |\n" + "".join(map(_row, entry.rows))
    return text


def _row(action: argparse.Action) -> str:
    names = ", ".join(f"`{name}`" for name in action.option_strings) or f"`{_word(action)}`"
    value = f" `{_cell(_value(action))}`" if _value(action) else ""
    return f"| {names}{value} | {_cell(str(action.help))} |\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


# ── as a manual page (man(7)) ───────────────────────────────────────────────────────────────────
def manual(parser: argparse.ArgumentParser) -> str:
    return MANUAL_HEAD + "".join(map(_paragraph, entries(parser))) + MANUAL_FOOT


def _paragraph(entry: Entry) -> str:
    text = f".TP\n.B {_roff(entry.line)}\n{_roff(entry.help)}\n"
    if entry.rows:
        text += ".RS\n" + "".join(map(_option, entry.rows)) + ".RE\n"
    return text


def _option(action: argparse.Action) -> str:
    names = ", ".join(action.option_strings) or _word(action)
    value = f" \\fI{_roff(_value(action))}\\fR" if _value(action) else ""
    return f".TP\n\\fB{_roff(names)}\\fR{value}\n{_roff(str(action.help))}\n"


def _roff(text: str) -> str:
    """A line that begins with a dot or an apostrophe would be a request."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{escaped}" if escaped[:1] in {".", "'"} else escaped
