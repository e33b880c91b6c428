"""Finds the verb, runs it, and turns what went wrong into words and an exit code."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NoReturn

from builder import __version__
from builder.cli.output import as_document, in_words
from builder.errors import PghaError

_COMPLETING = "_ARGCOMPLETE"  # argcomplete's own mark
VERBS = {
    "init": "write a commented cluster.yml and its secrets",
    "validate": "check cluster.yml, without any connection",
    "render": "show every file that a host would get, without any connection",
    "check": "look for what could stand in the way, on all hosts at once",
    "plan": "show what apply would change",
    "apply": "bring the hosts to what cluster.yml says",
    "status": "show the whole cluster at a glance",
    "lock": "write down the exact versions of all packages, with their checksums",
    "bundle": "collect all packages into one file, for hosts without any repository",
    "ops": "switchover, restart, replace, rotate: change a running cluster, guarded",
    "state": "what is managed: list, show, forget, import",
    "drill": "inject a fault under write traffic; report outage and lost writes",
    "up": "make and start the machines, then apply",
    "destroy": "take down what is ours",
    "psql": "open psql through the virtual IP",
    "connect": "show how applications connect, and write the files for it",
    "terraform": "install the Terraform provider that comes with pgha-build",
    "completion": "print completions for a shell",
    "ssh": "open a shell on a host, or run a command there",
    "ssh-config": "print an ssh_config(5) of all hosts, for scp, rsync, Ansible",
    "machines": "the machines themselves: list, make, switch off and on",
    "lab": "local hosts for trying and testing",
}


class _Parser(argparse.ArgumentParser):
    """A mistyped command is an error, 1: argparse's own 2 would read as differences."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(1, f"{self.prog}: error: {message}\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0 done or in sync, 1 error, 2 differences, 130 interrupted."""
    if _COMPLETING in os.environ:
        _complete()
    arguments = argparse.Namespace()
    try:
        arguments = _parser(argv if argv is not None else sys.argv[1:])
        return int(arguments.run(arguments))
    except PghaError as error:
        return _complain(error, as_json=getattr(arguments, "json", False))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        words = f"{where}{error.strerror or repr(error)}"
        return _complain(PghaError(words), as_json=getattr(arguments, "json", False))


def _parser(argv: Sequence[str]) -> argparse.Namespace:
    """Only the verb that was given is imported: `plan` need not pay for `lab`."""
    given = next((word for word in argv if not word.startswith("-")), "")
    return _with_verbs({given}).parse_args(argv)


def whole_parser() -> argparse.ArgumentParser:
    """Of all verbs: for completion and for the page about them."""
    return _with_verbs(VERBS.keys())


def _complete() -> None:
    """The shell asks how a line could go on: tell it, and end."""
    import argcomplete

    argcomplete.autocomplete(whole_parser())


def _with_verbs(wanted: Collection[str]) -> argparse.ArgumentParser:
    parser = _Parser(
        prog="pgha-build",
        description="One cluster.yml becomes, and stays, a highly available PostgreSQL cluster.",
        epilog="Exit status: 0 done or in sync, 1 error, 2 differences, 130 interrupted.",
    )
    parser.add_argument("--version", action="version", version=f"pgha-build {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for verb, help_text in VERBS.items():
        child = verbs.add_parser(verb, help=help_text, description=f"{help_text.capitalize()}.")
        child.add_argument(
            "-f", "--file", type=Path, default=Path("cluster.yml"), help="default: ./cluster.yml"
        )
        if verb in wanted:
            module = importlib.import_module(f"builder.cli.{verb.replace('-', '_')}")
            module.configure(child)
            child.set_defaults(run=module.run)
    return parser


def _complain(error: PghaError, *, as_json: bool) -> int:
    if as_json:
        print(json.dumps(as_document(error)))
    print(in_words(error), file=sys.stderr)
    return 1
