"""Every file that a role renders, whole, for a few shapes of clusters; and all that is wanted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from builder.resources.base import Resource, shown
from builder.resources.block import Block
from builder.resources.file import File

GOLDEN = Path(__file__).parents[1] / "golden"
SHAPES = sorted(file.stem for file in (GOLDEN / "shapes").glob("*.yml"))


def written(resource: Resource) -> str | None:
    if isinstance(resource, File):
        return resource.content.decode()
    return resource.content if isinstance(resource, Block) else None


@pytest.mark.parametrize("shape", SHAPES)
def test_every_file_is_as_its_golden_file(shape: str, world: Any, golden: Any) -> None:
    for resource in world(shape).resources:
        if (text := written(resource)) is not None:
            golden(f"{shape}/{resource.hosts[0]}{resource.name}", text)


@pytest.mark.parametrize("shape", SHAPES)
def test_everything_that_is_wanted_is_as_its_golden_list(
    shape: str, world: Any, golden: Any
) -> None:
    golden(f"{shape}/resources.txt", "".join(_listed(item) for item in world(shape).resources))


@pytest.mark.parametrize("shape", SHAPES)
def test_no_golden_file_is_left_over(shape: str, world: Any) -> None:
    rendered = {
        f"{r.hosts[0]}{r.name}" for r in world(shape).resources if written(r) is not None
    } | {"resources.txt"}
    kept = {str(f.relative_to(GOLDEN / shape)) for f in (GOLDEN / shape).rglob("*") if f.is_file()}
    assert kept == rendered


def _listed(resource: Resource) -> str:
    """One block per resource: what is compared, what comes first, what makes it act."""
    lines = [resource.address if len(resource.hosts) == 1 else f"{resource.address} of all"]
    for name, value in resource.attributes().items():
        hidden = resource.hides(name) or (written(resource) is not None and name == "content")
        lines.append(f"    {name}: {'…' if hidden else shown(value)}")
    lines += [f"    after {need}" for need in resource.needs]
    lines += [f"    {impact}s for {cause}" for cause, impact in resource.triggers().items()]
    return "\n".join(lines) + "\n"
