"""What every host needs, whatever else it carries. Pure."""

from __future__ import annotations

from builder.role import Role
from roles.system.desired import resources
from roles.system.settings import NAME, PACKAGES, SECTION

ROLE = Role(
    name=NAME,
    doc="Names, time, kernel parameters, packet filter, and protection against foreign restarts.",
    sections={"system": SECTION, "packages": PACKAGES},
    everywhere=True,
    resources=resources,
)
