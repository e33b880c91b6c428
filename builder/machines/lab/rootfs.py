"""The root file system that all hosts of a release share: made once, then only read.

It is made in a directory of its own and renamed when complete, so a build that was killed leaves
nothing that could be taken for a root file system.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from builder.errors import MachineError
from builder.machines.base import Progress
from builder.machines.lab.commands import run
from builder.machines.lab.layout import CACHE
from builder.machines.lab.locks import locked
from builder.machines.lab.mirror import VARIABLE, recipe_for
from builder.machines.lab.recipe import Recipe

_UNFINISHED = ".unfinished-"


def rootfs(release: str, progress: Progress) -> Path:
    """The directory of `release`'s root file system; made now if there is none (about a minute)."""
    recipe = recipe_for(release)
    complete = CACHE / recipe.name
    if complete.is_dir():
        return complete
    with locked(CACHE) as lock:
        if not complete.is_dir():
            progress("", f"builds the root file system of Debian {release} (once; about a minute)")
            _sweep()
            _build(recipe, CACHE / f"{_UNFINISHED}{recipe.name}", lock).rename(complete)
    return complete


def _sweep() -> None:
    """Remove what killed builds left; we hold the lock, so none of them still runs."""
    for leftover in CACHE.glob(f"{_UNFINISHED}*"):
        run(["rm", "-rf", "--one-file-system", str(leftover)])


def _build(recipe: Recipe, target: Path, lock: int) -> Path:
    _bootstrap(recipe, target, lock)
    for path, text in recipe.files.items():
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        (target / path).write_text(text)
    for path, to in recipe.links.items():
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        (target / path).unlink(missing_ok=True)
        (target / path).symlink_to(to)
    if recipe.authorities:
        run(["chroot", str(target), "update-ca-certificates"])
    for key in (target / "etc/ssh").glob("ssh_host_*"):
        key.unlink()
    shutil.rmtree(target / "var/cache/apt/archives")
    (target / "var/cache/apt/archives/partial").mkdir(parents=True)
    for stamp in ("etc/.updated", "var/.updated"):  # or each first boot would run ldconfig & co.
        (target / stamp).touch()
    run(["chroot", str(target), "apt-cache", "gencaches"])  # 2 s of each host's first apt-get
    return target


def _bootstrap(recipe: Recipe, target: Path, lock: int) -> None:
    """Run mmdebstrap, in namespaces that end with it and take its mounts and processes along.

    It inherits the lock: should we die, nobody builds before it has ended.
    """
    settings = [f'--aptopt={name} "{value}"' for name, value in recipe.apt.items()]
    argv = ["unshare", "--mount", "--pid", "--mount-proc", "--fork", "--kill-child"]
    argv += ["mmdebstrap", "--mode=root", "--variant=minbase", "--format=directory"]
    argv += ["--skip=cleanup/apt", f"--include={','.join(recipe.packages)}", *settings]
    argv += [recipe.release, str(target), *recipe.sources]
    built = subprocess.run(argv, capture_output=True, text=True, check=False, pass_fds=[lock])
    if built.returncode:
        tail = "\n".join(built.stderr.strip().splitlines()[-8:])
        raise MachineError(
            f"Debian {recipe.release} could not be installed from {recipe.mirror}:\n{tail}",
            why="All lab hosts start from this root file system.",
            do=f"Check that this machine reaches the mirror, or name another in {VARIABLE}.",
        )
