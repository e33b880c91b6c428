"""`terraform-provider-pgha`: the same engine behind Terraform's plugin protocol 6."""

from __future__ import annotations

import os
import sys

# What every Terraform and OpenTofu sets: whoever calls by hand is told what this is.
COOKIE = (
    "TF_PLUGIN_MAGIC_COOKIE",
    "d602bf8f470bc67ca7faa0386276bbdd4330efaf76d1a219cb4d6991ca9872b2",
)


def main() -> int:
    """Serve until Terraform says to end. Exit status 1 where nobody can be served."""
    name, value = COOKIE
    if os.environ.get(name) != value:
        print(
            "This is a plugin: Terraform and OpenTofu start it.\n"
            "To use it: pgha-build terraform install, then `terraform init`.",
            file=sys.stderr,
        )
        return 1
    try:
        from builder.terraform.serve import serve
    except ImportError as error:
        print(
            f"{error.name} is missing.\nInstall it: pip install 'pgha-build[terraform]'",
            file=sys.stderr,
        )
        return 1
    serve()
    return 0
