"""Where Debian's packages come from: what the machine's apt is set to, else Debian's default."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from builder.machines.lab.recipe import AUTHORITIES, Recipe

DEFAULT = "http://deb.debian.org/debian"
VARIABLE = "PGHA_DEBIAN_MIRROR"
# Settings of the machine's apt without which its mirror may be out of a host's reach.
_CARRIED = re.compile(
    r'(Acquire::(?:http::Proxy|https::Proxy|Check-Valid-Until|Check-Date)) "(.*)";'
)


def recipe_for(release: str) -> Recipe:
    """The recipe of `release` on this machine."""
    mirror, security = _mirrors()
    return Recipe(
        release=release,
        mirror=mirror,
        security_mirror=security,
        apt=apt_settings(),
        authorities=authorities(),
    )


def authorities() -> Mapping[str, str]:
    """Certificates that this machine trusts beside the usual ones: a proxy's, a company's own."""
    found = sorted(Path("/", AUTHORITIES).glob("*.crt"))
    return {file.name: file.read_text() for file in found}


def apt_settings() -> Mapping[str, str]:
    """This machine's own apt settings that concern the way to the mirror."""
    return dict(_CARRIED.findall(_said("apt-config", "dump", "--no-empty", "Acquire")))


def _mirrors() -> tuple[str, str]:
    override = os.environ.get(VARIABLE, "").rstrip("/")
    if override:
        return override, f"{override}-security"
    own = _own_mirrors()
    mirror = own.get("Debian", DEFAULT)
    return mirror, own.get("Debian-Security", f"{DEFAULT}-security")


def _own_mirrors() -> Mapping[str, str]:
    """Label of each Debian repository that this machine uses, to its address over HTTP(S)."""
    said = _said(
        "apt-get", "indextargets", "--format", "$(LABEL) $(REPO_URI)", "Created-By: Packages"
    )
    lines = (line.split() for line in said.splitlines())
    pairs = [words for words in lines if len(words) == 2 and words[1].startswith("http")]
    return {label: uri.rstrip("/") for label, uri in pairs if label.startswith("Debian")}


def _said(*argv: str) -> str:
    if not shutil.which(argv[0]):  # the machine is no Debian
        return ""
    return subprocess.run(argv, capture_output=True, text=True, check=False).stdout
