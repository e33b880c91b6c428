"""Debian's family, in one place: its names, and how its packages are handled. Pure.

Debian and Ubuntu are the only systems so far. Whoever adds another family writes a module with
these names for it; CONTRIBUTING.md says who reads them. All is shell for the hosts, as root.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from builder.resources.base import quoted

# ── what its packages are called, and where they put things ─────────────────────────────────────
ETCD = ("etcd-server", "etcd-client")
PATRONI = ("patroni", "python3-etcd")  # apt may choose another store for Patroni, which then dies
VIRTUAL_ENVIRONMENTS = ("python3-venv", "ca-certificates")
ETCD_DEFAULTS = "/etc/default/etcd"  # how its own package starts etcd
POLICY = "/usr/sbin/policy-rc.d"  # asked by packages before they touch a unit (invoke-rc.d(8))


def postgresql(version: int) -> str:
    """The server's package."""
    return f"postgresql-{version}"


def postgresql_binaries(version: int | str) -> str:
    """Their folder; of `*` a pattern for all versions."""
    return f"/usr/lib/postgresql/{version}/bin"


# ── what is there ───────────────────────────────────────────────────────────────────────────────
SYSTEM = '. /etc/os-release; echo "$ID-$VERSION_ID-$(dpkg --print-architecture)"'


def installed(names: Iterable[str]) -> str:
    """Lines `name installed version`; ends with `looked` where that could be told at all.

    dpkg-query says 1 for a package that it does not know, 2 where it could not look.
    """
    layout = "'${binary:Package} ${db:Status-Status} ${Version}\\n'"
    return f"dpkg-query -W -f {layout} -- {quoted(names)} 2>&1; [ $? -gt 1 ] || echo looked"


def candidates(names: Iterable[str]) -> str:
    """`apt-cache policy`: per package what is installed, what apt would take, and what there is."""
    return f"LC_ALL=C apt-cache policy {quoted(names)}"


# Lines `unattended upgrades` and `unattended reboots`, where apt is set to do so.
UNATTENDED = """\
says() {
  case $(apt-config dump "$1" 2>/dev/null | sed -n 's/.*"\\(.*\\)".*/\\1/p') in
    ''|0|no|false|off) return 1 ;;
  esac
}
says APT::Periodic::Unattended-Upgrade && echo "unattended upgrades"
says Unattended-Upgrade::Automatic-Reboot && echo "unattended reboots"
"""

# Lines `foreign unit file`: programs that run with a configuration that is neither the package's
# own nor ours.
FOREIGN = f"""\
for file in /etc/haproxy/haproxy.cfg /etc/keepalived/keepalived.conf {ETCD_DEFAULTS}; do
  grep -qs 'Managed by pgha-build' $file && continue
  dpkg-query -W -f '${{Conffiles}}\\n' haproxy keepalived {ETCD[0]} 2>/dev/null |
    awk -v f=$file '$1 == f {{ print $2 "  " f }}' | md5sum --status -c 2>/dev/null && continue
  unit=$(basename "${{file%.*}}")
  [ ! -e $file ] || ! systemctl -q is-active "$unit" 2>/dev/null || echo "foreign $unit $file"
done
"""


# ── what its sources have ───────────────────────────────────────────────────────────────────────
REFRESH = "apt-get -q update"
# apt-get's exit status is 0 where a source failed, unless it is asked for more.
_ALL = "-o APT::Update::Error-Mode=any update"
REFRESH_ALL = f"apt-get -q {_ALL}"
REFRESH_IN_TURN = f"apt-get -q -y -o DPkg::Lock::Timeout=300 {_ALL}"  # an apt may be running

_LOCK = """\
{refresh} >&2 || exit 1
for n in {names}; do
  i=$(dpkg-query -W -f '${{db:Status-Status}} ${{Version}}' "$n" 2>/dev/null)
  v=${{i#installed }}; [ "$v" != "$i" ] || v=
  if [ -z "$v" ] || [ {newest} = yes ]; then
    c=$(LC_ALL=C apt-cache policy "$n" | awk '$1 == "Candidate:" {{ print $2 }}')
    [ -z "$c" ] || [ "$c" = '(none)' ] || v=$c
  fi
  s=$(apt-cache show "$n=$v" 2>/dev/null | sed -n 's/^SHA256: //p' | head -n 1)
  echo "package $n ${{v:-none}} ${{s:-none}}"
done
"""


def to_lock(names: Iterable[str], *, newest: bool) -> str:
    """Lines `package name version sha256`: what is installed, or else what would be."""
    answer = "yes" if newest else "no"
    return _LOCK.format(refresh=REFRESH_ALL, names=quoted(names), newest=answer)


# ── installing and removing ─────────────────────────────────────────────────────────────────────
_APT = (
    "apt-get -q -y -o DPkg::Lock::Timeout=300 -o Dpkg::Options::=--force-confdef "
    "-o Dpkg::Options::=--force-confold"
)
BUNDLE = "/var/lib/pgha-build/bundle"
_BUNDLED = (
    f"-o Dir::Etc::sourcelist={BUNDLE}/sources.list -o Dir::Etc::sourceparts=- "
    f"-o Dir::State::lists={BUNDLE}/lists -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= "
    "-o APT::Sandbox::User=root"
)
_SAME_FILES = """\
differs() {{
  for f in {files}; do
    s=$(apt-cache show "${{f% *}}" 2>/dev/null | sed -n 's/^SHA256: //p' | head -n 1)
    [ "$s" = "${{f#* }}" ] || {{ echo "${{f% *}}: its sources have ${{s:-no such version}},"
      echo "and cluster.lock.yml says ${{f#* }}"; return 0; }}
  done
  return 1
}}
if differs >/dev/null; then {refresh} >/dev/null; differs && exit 1; fi
"""

# What was there before us stays when it leaves the spec.
_OURS = "/var/lib/pgha-build/packages"
_MISSING = """\
new=$(for n in {names}; do
  case $(dpkg-query -W -f '${{db:Status-Status}}' "$n" 2>/dev/null) in
    installed) ;;
    *) echo "$n" ;;
  esac
done)
"""
_NOTED = """
for n in $new; do grep -sqxF "$n" {ours} || echo "$n" >>{ours}; done
"""
_REMOVE = """\
ours=$(for n in {names}; do ! grep -sqxF "$n" {ours} || echo "$n"; done)
needs() {{
  apt-get -s -q remove "$@" | awk '$1 == "Remv" {{ print $2 }}' | while read -r p; do
    printf '%s\\n' "$ours" | grep -qxF "$p" || echo "$p"
  done
}}
set -- $ours
if [ $# -gt 0 ] && [ -n "$(needs "$@")" ]; then
  set --
  for n in $ours; do
    other=$(needs "$n")
    [ -z "$other" ] || {{ echo "$n stays: needed by" $other; continue; }}
    set -- "$@" "$n"
  done
  if [ $# -gt 0 ] && other=$(needs "$@") && [ -n "$other" ]; then
    echo "$* stay: needed by" $other; set --
  fi
fi
[ $# = 0 ] || {apt} remove "$@"
for n; do {{ grep -vxF "$n" {ours} || :; }} >{ours}.new; mv {ours}.new {ours}; done
"""


def install(wanted: Mapping[str, str | None], locked: Mapping[str, str], *, bundled: bool) -> str:
    """Install from the lists at hand; only where those are too old, fetch new ones first.

    `wanted` maps names to versions (None: whichever), `locked` some of them to the SHA-256 of their
    file. `bundled`: from what was carried over to the host.
    """
    words = quoted(f"{name}={version}" if version else name for name, version in wanted.items())
    apt = f"{_APT} {_BUNDLED}" if bundled else _APT
    act = f"{apt} install --no-install-recommends --allow-downgrades {words}"
    if bundled:
        act = f"apt-get {_BUNDLED} -q update >/dev/null && {act}"
    else:
        act = f"{act} || {{ {REFRESH} && {act}; }}"
        if locked:
            files = quoted(f"{name}={wanted[name]} {sha256}" for name, sha256 in locked.items())
            act = f"{_SAME_FILES.format(files=files, refresh=REFRESH)}\n{act}"
    return f"{_MISSING.format(names=quoted(wanted))}{act}{_NOTED.format(ours=_OURS)}"


def remove(names: Iterable[str]) -> str:
    """Those that we installed and that nothing else needs; apt would take the others along."""
    return _REMOVE.format(names=quoted(names), ours=_OURS, apt=_APT)


# ── packages that are carried over ──────────────────────────────────────────────────────────────
_COLLECT = """\
set -e
d=/var/tmp/pgha-bundle
rm -rf "$d"; mkdir -p -m 700 "$d/archives/partial"; cd "$d"
: >status
{refresh} >&2
apt-get -q -y -o Dir::State::status="$d/status" -o Dir::Cache::archives="$d/archives" \
-o APT::Sandbox::User=root --no-install-recommends --download-only install {packages} >&2
cd archives
rm -rf partial lock
{wheels}
for f in *.deb; do
  dpkg-deb -f "$f"
  s=$(sha256sum "$f")
  printf 'Filename: ./%s\\nSize: %s\\nSHA256: %s\\n\\n' "$f" "$(stat -c %s "$f")" "${{s%% *}}"
done >Packages
others=; [ ! -d wheels ] || others=wheels
tar cf "$d/all.tar" Packages *.deb $others
rm -rf "$d/archives"
tar xOf "$d/all.tar" Packages | awk '/^Package:/ {{ p = $2 }} /^Version:/ {{ v = $2 }}
  /^SHA256:/ {{ print "holds", p, v, $2 }}'
tar tf "$d/all.tar" | sed -nE 's,^wheels/([^-]+)-([^-]+)-.*whl$,\\1 \\2,p' | while read -r n v; do
  echo "holds {prefix}$(echo "$n" | tr A-Z a-z | sed -E 's/[-_.]+/-/g') $v -"
done
s=$(sha256sum "$d/all.tar")
echo "collected ${{s%% *}} $(stat -c %s "$d/all.tar")"
"""

# After `b`, the folder, and `sha256`.
_UNPACK = """\
set -e
s=$(sha256sum $b/new.tar)
[ "${s%% *}" = $sha256 ] || { echo "what arrived is not what was sent" >&2; exit 1; }
cd $b; rm -rf packages lists sources.list; mkdir -p packages lists/partial
tar xf new.tar -C packages
rm -f new.tar
echo "deb [trusted=yes] file:$b/packages ./" >sources.list
echo $sha256 >sha256
"""


def collect(packages: Iterable[str], wheels: str, prefix: str) -> str:
    """Packages and all that they need, into one archive of which the host has none installed.

    `wheels` is shell that adds a folder of Python's; they are named with `prefix`. Lines
    `holds name version sha256`; the last is `collected sha256 size`.
    """
    names = quoted(packages)
    return _COLLECT.format(refresh=REFRESH, packages=names, wheels=wheels, prefix=prefix)


def unpack(sha256: str) -> str:
    """Make the archive that was carried over a source of packages, if it is what was sent."""
    return f"b={BUNDLE} sha256={sha256}\n{_UNPACK}"
