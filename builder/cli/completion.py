"""`pgha-build completion SHELL`: what a shell must be told once to complete our words."""

from __future__ import annotations

import argparse

SHELLS = ("bash", "zsh", "fish")


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=SHELLS)


def run(arguments: argparse.Namespace) -> int:
    """Put the output into the shell's start-up file, or `eval` it there."""
    from argcomplete.shell_integration import shellcode

    print(shellcode(["pgha-build"], shell=arguments.shell))
    return 0
