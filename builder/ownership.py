"""To whom files on this machine belong that we write anew, also under sudo."""

from __future__ import annotations

import os
from pathlib import Path


def keep_owner(path: Path, descriptor: int) -> None:
    """`sudo pgha-build apply` takes no file from whom it belongs to: what is open as `descriptor`
    goes to the owner of `path`."""
    if os.geteuid() == 0 and path.exists():
        status = path.stat()
        os.fchown(descriptor, status.st_uid, status.st_gid)
