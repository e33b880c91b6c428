"""The command `pgha-build`: one module per verb. Parse, call, print, exit code; nothing else."""

from builder.cli.main import main

__all__ = ["main"]
