"""cluster.yml → ClusterSpec: the one entry into this package."""

from __future__ import annotations

from pathlib import Path

from builder.spec.load import load
from builder.spec.model import ClusterSpec


def read_spec(path: Path, content: bytes | None = None) -> ClusterSpec:
    """The spec in the file, validated, with all defaults. SpecError carries every mistake in it.

    `content` is used instead of what is in the file, which need not exist then.
    """
    document = load(path, content)
    # Late, and after loading: both take longer to import than a file that is no YAML deserves.
    from builder.registry import vocabulary
    from builder.spec.validate import validate

    return validate(document, vocabulary(), path.absolute())
