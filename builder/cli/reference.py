"""The page about all commands, out of the parser itself. Pure."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

HEAD = """\
# Commands

<!-- Written by scripts/docs: do not edit. -->

Exit status: 0 done or in sync, 1 error, 2 differences (`plan`), 130 interrupted. `-f FILE` names
another cluster.yml than the one in this folder; `--json`, where it is, is for programs.
"""


def markdown(parser: argparse.ArgumentParser) -> str:
    """One section per verb, in the order of the help."""
    return HEAD + "".join(f"\n{line}" if line.startswith("#") else line for line in _verbs(parser))


def _verbs(parser: argparse.ArgumentParser, above: str = "pgha-build") -> Iterator[str]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            helps = {choice.dest: choice.help or "" for choice in action._choices_actions}
            for name, child in action.choices.items():
                yield from _verb(child, f"{above} {name}", helps.get(name, ""))


def _verb(parser: argparse.ArgumentParser, name: str, help_text: str) -> Iterator[str]:
    depth = "##" if name.count(" ") == 1 else "###"
    words = " ".join(_word(action) for action in parser._actions if not action.option_strings)
    yield f"{depth} `{name}{f' {words}' if words.strip() else ''}`\n\n"
    yield f"{help_text[:1].upper()}{help_text[1:]}.\n"
    rows = [_row(action) for action in parser._actions if _worth_a_row(action)]
    if rows:
        yield "\n| | |\n| --- | --- |\n" + "".join(rows)
    yield from _verbs(parser, name)


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


def _row(action: argparse.Action) -> str:
    names = ", ".join(f"`{name}`" for name in action.option_strings) or f"`{_word(action)}`"
    value = "" if action.nargs == 0 or not action.option_strings else f" {_value(action)}"
    return f"| {names}{value} | {str(action.help).replace('|', chr(92) + '|')} |\n"


def _value(action: argparse.Action) -> str:
    word = str(action.metavar or "|".join(map(str, action.choices or ())) or action.dest.upper())
    return "`" + word.replace("|", "\\|") + "`"
