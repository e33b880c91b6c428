"""The real `terraform` drives the provider against a lab, as a team would."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(not shutil.which("terraform"), reason="no terraform is on this machine"),
]
PROVIDER = Path(sys.executable).with_name("terraform-provider-pgha")
ADDRESS = "pgha_cluster.orders"
ALL = ["etcd", "patroni", "haproxy", "keepalived"]
MAIN = """
terraform {
  required_providers {
    pgha = { source = "pgha/pgha" }
  }
}
resource "pgha_cluster" "orders" {
  spec                = file("cluster.yml")
  deletion_protection = var.protected
}
variable "protected" { default = true }
"""
STATUS = """
data "pgha_status" "orders" { spec = pgha_cluster.orders.spec }
output "healthy" { value = data.pgha_status.orders.healthy }
output "leader" { value = data.pgha_status.orders.leader }
"""


class Terraform:
    """Terraform in a folder, with this provider instead of one from a registry."""

    def __init__(self, home: Path) -> None:
        self.home = home
        settings = home / "terraformrc"
        settings.write_text(
            "disable_checkpoint = true\nprovider_installation {\n"
            f'  dev_overrides {{ "pgha/pgha" = "{PROVIDER.parent}" }}\n  direct {{}}\n}}\n'
        )
        self.environment = {
            **os.environ,
            "TF_CLI_CONFIG_FILE": str(settings),
            "TF_IN_AUTOMATION": "1",
            "TF_INPUT": "0",
        }
        (home / "main.tf").write_text(MAIN)

    def run(self, *words: str, seconds: float = 300) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["terraform", *words, "-no-color"],
            cwd=self.home,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
        )

    def start(self, *words: str) -> subprocess.Popen[str]:
        """In a process group of its own, as a shell would."""
        return subprocess.Popen(
            ["env", "--default-signal=INT", "terraform", *words, "-no-color"],
            cwd=self.home,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def apply(self, *words: str) -> str:
        done = self.run("apply", "-auto-approve", *words)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout

    def nothing_to_do(self) -> None:
        done = self.run("plan", "-detailed-exitcode")
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]

    def state(self) -> Any:
        """Of the cluster."""
        shown = json.loads(self.run("show", "-json").stdout)
        found = shown["values"]["root_module"]["resources"]
        return next(item for item in found if item["address"] == ADDRESS)


@pytest.fixture(scope="module")
def cluster(new_cluster: Any) -> Any:
    """Three hosts that carry everything; Terraform makes them."""
    cluster = new_cluster()
    hosts = {
        name: {"address": str(cluster.network[11 + number]), "roles": ALL}
        for number, name in enumerate("abc")
    }
    cluster.write(
        {
            "hosts": hosts,
            "postgresql": {
                "users": [{"name": "app"}],
                "databases": [{"name": "app", "owner": "app"}],
            },
            "keepalived": {"virtual_ip": f"{cluster.network[200]}/24"},
        }
    )
    return cluster


@pytest.fixture(scope="module")
def terraform(cluster: Any, until: Callable[..., float]) -> Terraform:
    """Its first apply is interrupted, as by Ctrl-C, in the middle of creating."""
    terraform = Terraform(cluster.home)
    process = terraform.start("apply", "-auto-approve")
    begun = "test -e /var/lib/pgha-build/manifest.json"
    until(lambda: cluster.try_on("a", begun).returncode == 0, 180)
    os.killpg(process.pid, signal.SIGINT)
    said, _ = process.communicate(timeout=180)
    assert process.returncode == 1, said
    assert "Interrupt received" in said
    return terraform


def test_a_create_that_is_interrupted_goes_on_with_the_next_apply(
    terraform: Terraform, cluster: Any
) -> None:
    assert terraform.state()["address"] == ADDRESS
    assert not terraform.state().get("tainted")
    said = terraform.apply()
    assert "Resources: 0 added, 1 changed, 0 destroyed" in said
    terraform.nothing_to_do()
    cluster.in_sync()
    assert cluster.answers("primary", "SELECT 1") == "1"


def test_the_state_holds_no_secret_and_connection_strings_work(
    terraform: Terraform, cluster: Any
) -> None:
    stored = yaml.safe_load((cluster.home / "cluster.secrets.yml").read_text())
    keys = [record["key"].splitlines()[1] for record in stored["authorities"].values()]
    secrets = [*stored["passwords"].values(), stored["leaf_seed"], *keys]
    state = (cluster.home / "terraform.tfstate").read_text()
    assert not [word for word in secrets if word in state]
    uri = terraform.state()["values"]["primary_uri"]
    assert cluster.psql(uri, "SELECT 1").returncode == 0


def test_drift_is_in_the_plan_and_repaired(terraform: Terraform, cluster: Any) -> None:
    cluster.on("b", "echo '# by hand' >>/etc/haproxy/haproxy.cfg")
    done = terraform.run("plan", "-detailed-exitcode")
    assert done.returncode == 2
    assert "~ b/file:/etc/haproxy/haproxy.cfg" in done.stdout
    assert "reload of haproxy on b" in done.stdout
    terraform.apply()
    terraform.nothing_to_do()
    cluster.in_sync()


def test_a_change_shows_what_it_leads_to_and_is_applied_in_place(
    terraform: Terraform, cluster: Any
) -> None:
    spec = cluster.spec()
    spec["postgresql"]["parameters"] = {"work_mem": "9MB"}
    cluster.write(spec)
    done = terraform.run("plan", "-detailed-exitcode")
    assert done.returncode == 2
    assert "~ cluster/patroni_config" in done.stdout
    terraform.apply()
    terraform.nothing_to_do()
    assert cluster.answers("primary", "SHOW work_mem") == "9MB"


def test_a_mistake_in_the_spec_is_a_diagnostic_with_its_attribute(
    terraform: Terraform, cluster: Any
) -> None:
    text = cluster.file.read_text()
    cluster.file.write_text(text.replace("roles:", "rolls:", 1))
    done = terraform.run("plan")
    cluster.file.write_text(text)
    assert done.returncode == 1
    assert "in resource" in done.stderr
    assert "spec " in done.stderr
    assert "rolls" in done.stderr


def test_two_hosts_that_are_down_are_told_and_nothing_is_forgotten(
    terraform: Terraform, cluster: Any
) -> None:
    for host in "bc":
        cluster.run("lab", "kill", host)
    done = terraform.run("plan", "-detailed-exitcode")
    for host in "bc":
        cluster.run("lab", "start", host)
    assert done.returncode == 2, done.stdout[-2000:] + done.stderr[-2000:]
    assert "b cannot be looked at" in done.stdout
    assert "c cannot be reached" in done.stdout
    assert "0 to add, 1 to change, 0 to destroy" in done.stdout
    cluster.apply()
    terraform.nothing_to_do()


def test_a_cluster_of_the_command_line_is_imported(
    terraform: Terraform, cluster: Any, tmp_path: Path
) -> None:
    other = Terraform(tmp_path)
    (tmp_path / "main.tf").write_text(
        MAIN.replace('file("cluster.yml")', f'file("{cluster.file}")').replace(
            "deletion", f'directory = "{cluster.home}"\n  deletion'
        )
    )
    done = other.run("import", ADDRESS, str(cluster.file))
    assert done.returncode == 0, done.stdout + done.stderr
    other.nothing_to_do()


INSIDE = """
resource "pgha_role" "reports" {
  spec      = pgha_cluster.orders.spec
  name      = "reports"
  member_of = ["pg_read_all_data"]
}
resource "pgha_role" "owners" {
  spec  = pgha_cluster.orders.spec
  name  = "owners"
  login = false
}
resource "pgha_database" "extra" {
  spec            = pgha_cluster.orders.spec
  name            = "extra"
  owner           = pgha_role.owners.name
  extensions      = ["hstore"]
  drop_on_destroy = true
}
"""


def test_roles_and_databases_come_change_back_and_go(terraform: Terraform, cluster: Any) -> None:
    (cluster.home / "inside.tf").write_text(INSIDE)
    assert "3 added" in terraform.apply()
    terraform.nothing_to_do()
    cluster.in_sync()
    uri = cluster.uris["primary"].replace("app@", "reports@")
    uri = uri.replace("/app?", "/extra?")
    assert cluster.psql(uri, "SELECT current_user").stdout.strip() == "reports"
    cluster.sql("ALTER ROLE reports CREATEDB PASSWORD 'another one'")
    done = terraform.run("plan", "-detailed-exitcode")
    assert done.returncode == 2
    assert "createdb" in done.stdout
    assert "another one" not in done.stdout + done.stderr
    terraform.apply()
    terraform.nothing_to_do()
    assert cluster.psql(uri, "SELECT 1").returncode == 0
    (cluster.home / "inside.tf").unlink()
    assert "3 destroyed" in terraform.apply()
    found = cluster.sql("SELECT count(*) FROM pg_roles WHERE rolname IN ('reports', 'owners')")
    assert found == "0"
    assert cluster.sql("SELECT count(*) FROM pg_database WHERE datname = 'extra'") == "0"


def test_the_data_source_tells_who_leads(
    terraform: Terraform, cluster: Any, until: Callable[..., float]
) -> None:
    (cluster.home / "status.tf").write_text(STATUS)

    def healthy() -> bool:
        terraform.apply()
        return bool(json.loads(terraform.run("output", "-json", "healthy").stdout))

    until(healthy, 90)  # hosts have just been down
    leader = json.loads(terraform.run("output", "-json", "leader").stdout)
    assert leader == cluster.leader()


def test_destroying_is_refused_while_protected_and_then_leaves_nothing(
    terraform: Terraform, cluster: Any
) -> None:
    done = terraform.run("destroy", "-auto-approve")
    assert done.returncode == 1
    assert "is protected" in done.stderr
    assert cluster.leader()
    terraform.apply("-var=protected=false")
    done = terraform.run("destroy", "-auto-approve", "-var=protected=false")
    assert done.returncode == 0, done.stderr
    assert "1 destroyed" in done.stdout
    assert (
        cluster.run("lab", "status").returncode != 0
        or "running" not in cluster.run("lab", "status").stdout
    )
