"""`pgha-build terraform install`: lay the provider out where Terraform and OpenTofu look for it."""

from __future__ import annotations

import argparse
import importlib.util
import platform
import sys
from pathlib import Path

from builder import __version__
from builder.errors import PghaError

PROGRAM = "terraform-provider-pgha"
REGISTRIES = ("registry.terraform.io", "registry.opentofu.org")
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "arm64": "arm64", "AMD64": "amd64"}

# The same bytes for everybody: .terraform.lock.hcl, which a team shares, holds their hash.
_LAUNCHER = """\
#!/bin/sh
# Starts the provider of the pgha-build that `pgha-build terraform install` was called with.
exec "$HOME/.terraform.d/terraform-provider-pgha" "$@"
"""

_USE = """\
terraform {{
  required_providers {{
    pgha = {{
      source  = "pgha/pgha"
      version = "{version}"
    }}
  }}
}}

resource "pgha_cluster" "orders" {{
  spec = file("cluster.yml")
}}
"""


def configure(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    child = verbs.add_parser("install", help="into ~/.terraform.d, which Terraform searches")
    child.set_defaults(action="install")


def run(arguments: argparse.Namespace) -> int:
    for module in ("tf", "grpc"):
        if importlib.util.find_spec(module) is None:
            raise PghaError(
                f"the Python package {module} is missing",
                why="The provider speaks Terraform's protocol with it.",
                do="pip install 'pgha-build[terraform]'",
            )
    installed = install(Path.home() / ".terraform.d", Path(sys.argv[0]).with_name(PROGRAM))
    print("\n".join(f"written: {path}" for path in installed))
    print(f"\nIn a .tf file:\n\n{_USE.format(version=__version__)}\nThen: terraform init")
    return 0


def install(home: Path, program: Path) -> list[Path]:
    """A local mirror under `home`/plugins, and where its launchers find `program`."""
    if not program.is_file():
        raise PghaError(
            f"{program} is not there", do="Install pgha-build with pip, and call it from there."
        )
    target = f"{platform.system().lower()}_{_MACHINES.get(platform.machine(), platform.machine())}"
    home.mkdir(parents=True, exist_ok=True)
    link = home / PROGRAM
    link.unlink(missing_ok=True)
    link.symlink_to(program.absolute())
    written = [link]
    for registry in REGISTRIES:
        folder = home / "plugins" / registry / "pgha" / "pgha" / __version__ / target
        folder.mkdir(parents=True, exist_ok=True)
        launcher = folder / f"{PROGRAM}_v{__version__}"
        launcher.write_text(_LAUNCHER)
        launcher.chmod(0o755)
        written.append(launcher)
    return written
