"""What a `pgha_cluster` block may say, and what it tells."""

from __future__ import annotations

from tf.blocks import SetNestedBlock
from tf.schema import Attribute, Block, Schema
from tf.types import Bool, List, Map, String

from builder.resources.base import Impact

IMPACTS = ", ".join(str(impact) for impact in Impact)
SOURCE = [
    Attribute(
        "spec",
        String(),
        optional=True,
        description='The text of a cluster.yml: `file("cluster.yml")`, or `yamlencode({…})`. '
        "Or write `name`, `host` blocks and `settings` instead.",
    ),
    Attribute("name", String(), optional=True, description="Name of the cluster, with `host`."),
    Attribute(
        "settings",
        String(),
        optional=True,
        description="All other sections of a cluster.yml, with `host`: `jsonencode({…})`.",
    ),
    Attribute(
        "directory",
        String(),
        optional=True,
        computed=True,
        default=".",
        description="Folder of the secrets file, and of the files that clients need. "
        "Default: the working directory. Keep a copy of the secrets file in it.",
    ),
]
_HOST = SetNestedBlock(
    "host",
    Block(
        attributes=[
            Attribute("name", String(), required=True, description="Name of the host."),
            Attribute("address", String(), required=True, description="Its IPv4 address."),
            Attribute(
                "roles",
                List(String()),
                required=True,
                description="Any of etcd, patroni, haproxy, keepalived.",
            ),
        ],
        description="A machine of the cluster.",
    ),
)
LIMITS = [
    Attribute(
        "max_impact",
        String(),
        optional=True,
        description=f"Refuse what costs the service more than this: {IMPACTS}.",
    ),
    Attribute(
        "deletion_protection",
        Bool(),
        optional=True,
        computed=True,
        default=True,
        description="Whether destroying is refused. Default: true.",
    ),
]
COMPUTED = [
    Attribute("id", String(), computed=True, description="The cluster's name."),
    Attribute(
        "changes",
        List(String()),
        computed=True,
        description="What the last apply changed, or this one will: `+` made, `~` changed, `-` "
        "removed, `?` decided on the way; in brackets what it costs the service.",
    ),
    Attribute(
        "impact", String(), computed=True, description="What these changes cost the service."
    ),
    Attribute(
        "drift",
        List(String()),
        computed=True,
        description="What is not as the configuration says: changed by others, left over from an "
        "interrupted run, or on hosts that cannot be reached. An apply repairs it.",
    ),
    Attribute(
        "addresses", Map(String()), computed=True, description="Address of each host, by name."
    ),
    Attribute(
        "primary_uri",
        String(),
        computed=True,
        description="libpq connection string to the primary; it names a password file.",
    ),
    Attribute(
        "replica_uri", String(), computed=True, description="The same, to the replicas: reads only."
    ),
    Attribute(
        "ca_certificate",
        String(),
        computed=True,
        description="Certificate of the authority that signed the servers' certificates (PEM).",
    ),
    Attribute(
        "promises",
        List(String()),
        computed=True,
        description="Outages at worst, by fault, with the timings of this configuration.",
    ),
]
CLUSTER = Schema(
    version=0,
    attributes=[*SOURCE, *LIMITS, *COMPUTED],
    block_types=[_HOST],
    description="A PostgreSQL cluster: etcd, Patroni, HAProxy, Keepalived.",
)
