"""The directory that holds the rows. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from builder.resources.directory import Directory


@dataclass(frozen=True, kw_only=True)
class DataDirectory(Directory):
    """A kind of its own, so that the role's guard sees when the spec turns its back on the data."""

    kind: ClassVar[str] = "data_directory"
