"""The role patroni: one leader, a replica that streams, a switchover that keeps all."""

from shlex import quote

from scenario import in_sync, members, on, roles, there, until

# Numbers from 1000 on; each that was acknowledged is noted. Ends at the first refusal.
WRITES = """\
i=1000
while su postgres -c "psql -qX -c 'insert into t values ($i)'"; do
  echo $i >>/run/written; i=$((i + 1))
done"""
ASK = 'su postgres -c "psql -qAtX -c \\"{}\\""'


def whole():
    return sorted(row["State"] for row in members().values()) == ["running", "streaming"]


def pair():
    leader, (replica,) = roles()
    return leader, replica


def test_there_is_one_leader_and_one_replica_that_streams():
    leader, _ = pair()
    assert leader
    assert whole()
    for host in ("pg1", "pg2"):
        assert there(host).service("patroni").is_running
        assert there(host).service("patroni").is_enabled


def test_what_is_written_on_the_leader_is_on_the_replica():
    leader, replica = pair()
    on(leader, ASK.format("create table if not exists t (i int)"))
    on(leader, ASK.format("insert into t values (42)"))
    until(lambda: on(replica, ASK.format("select max(i) from t")) == "42", "it is replicated", 10)


def test_only_scram_over_tls_is_let_in_from_the_network():
    rules = on(
        "pg1",
        ASK.format(
            "select string_agg(distinct type || ' ' || auth_method, ', ') from "
            "pg_hba_file_rules where type <> 'local' and auth_method <> 'reject'"
        ),
    )
    assert rules == "hostssl scram-sha-256"
    assert on("pg1", ASK.format("show password_encryption")) == "scram-sha-256"
    assert on("pg1", ASK.format("show data_checksums")) == "on"


def test_a_switchover_keeps_whatever_was_acknowledged():
    leader, replica = pair()
    on(leader, f"rm -f /run/written; systemd-run --quiet --collect sh -c {quote(WRITES)}")
    written = "cat /run/written 2>/dev/null || true"
    until(lambda: len(on(leader, written).split()) >= 10, "writes are acknowledged", 30)
    command = f"patronictl -c /etc/patroni/config.yml switchover --leader {leader} --force"

    def moved():
        """Patroni refuses once where the other is too busy to answer it at once."""
        if pair()[0] == leader:
            on(leader, f"{command} || true")
        return pair()[0] == replica

    until(lambda: moved() and whole(), "the other leads", 90)
    assert {*on(leader, written).split()} <= {*on(replica, ASK.format("select i from t")).split()}
    in_sync()
