"""A local lab: hosts that are systemd-nspawn containers in a network of their own.

The public face is `LabProvider`; docs/reference/lab.md says what it leaves on a machine, and where.
"""

from builder.machines.lab.provider import LabProvider

__all__ = ["LabProvider"]
