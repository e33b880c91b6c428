"""What was written into a file by hand is shown in a diff without its secrets."""

from __future__ import annotations

import pytest

from builder.engine.texts import unified
from builder.security.masking import masked

SECRET = "gEh31m"


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (f"    stats auth admin:{SECRET}", "    stats auth (sensitive)"),
        (f"  user ann password $5${SECRET} groups ops", "  user ann password (sensitive)"),
        (f"  user ann insecure-password {SECRET}", "  user ann insecure-password (sensitive)"),
        (f"bind :443 ssl ca-sign-pass {SECRET}", "bind :443 ssl ca-sign-pass (sensitive)"),
        (
            f'  http-request set-header Authorization "Basic {SECRET}"',
            '  http-request set-header Authorization "(sensitive)',
        ),
        (rf"  tcp-check send AUTH\ {SECRET}\r\n", r"  tcp-check send AUTH\ (sensitive)"),
        (f"setenv DB_PASSWORD {SECRET}", "setenv DB_PASSWORD (sensitive)"),
        (f"  acl in hdr(X-Api-Key) {SECRET}", "  acl in hdr(X-Api-Key) (sensitive)"),
        (f"        auth_pass {SECRET}", "        auth_pass (sensitive)"),
        (f"auth_pass  '{SECRET}' # old", "auth_pass  '(sensitive)"),
        (f"$PASS={SECRET}", "$PASS=(sensitive)"),
        (f"# the password was: {SECRET}", "# the password (sensitive)"),
        (f"dbpassword={SECRET}", "dbpassword=(sensitive)"),
        (
            f"deb https://ann:{SECRET}@deb.example.org/ x",
            "deb https://ann:(sensitive)@deb.example.org/ x",
        ),
        ("MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg", "(sensitive)"),
    ],
)
def test_of_a_line_that_says_so_the_rest_is_masked(line: str, shown: str) -> None:
    assert masked(line) == shown
    assert SECRET not in masked(line)


@pytest.mark.parametrize(
    "line",
    [
        "    server pg1 10.77.0.21:5432 check port 8008 check-ssl verify required",
        "    option httpchk OPTIONS /primary",
        "    bind 10.77.0.100:5432",
        "    stats uri /",
        "    virtual_router_id 51",
        "    unicast_peer { 10.77.0.31 }",
        "    http-response set-header X-Bypassed yes",
        "    timeout client 30m",
        "    author ann",
    ],
)
def test_other_lines_are_shown_as_they_are(line: str) -> None:
    assert masked(line) == line


def test_a_plan_shows_that_a_secret_went_and_what_comes_in_full() -> None:
    before = f"global\nstats auth admin:{SECRET}\nmode tcp\n# token bucket\n"
    after = "global\nstats auth admin:ours\nmode tcp\n# token bucket\n"
    assert unified(before, after)[1:] == (
        " global",
        "-stats auth (sensitive)",
        "+stats auth admin:ours",
        " mode tcp",
        " # token bucket",
    )
