# Finds the PostgreSQL and Redis programs, and installs them where they are missing. Sourced, never run.
# Installing never starts or enables a system-wide server, and never touches one that is there.
# shellcheck shell=bash

# A directory is of use only with all four programs: distributions split them over packages.
complete_bindir() { [ -x "$1/postgres" ] && [ -x "$1/initdb" ] && [ -x "$1/pg_ctl" ] && [ -x "$1/psql" ]; }

# Every place PostgreSQL is known to be put, best first. Sorted by version where several may be installed.
postgres_bindirs() {
  local program
  program=$(command -v postgres) && dirname "$(readlink -f "$program" 2>/dev/null || printf '%s' "$program")"
  have pg_config && pg_config --bindir
  printf '%s\n' /usr/lib/postgresql/*/bin /usr/pgsql-*/bin | sort -Vr
  printf '%s\n' /opt/homebrew/opt/postgresql@*/bin /usr/local/opt/postgresql@*/bin | sort -Vr
  printf '%s\n' /home/linuxbrew/.linuxbrew/opt/postgresql@*/bin /usr/local/pgsql/bin /usr/bin
}

# find_postgres [MAJOR]: sets PG_BIN. With a version only that one will do: data of one major is closed to all others.
find_postgres() {
  local dir dirs version
  dirs=$(postgres_bindirs)
  while IFS= read -r dir; do
    complete_bindir "$dir" || continue
    version=$("$dir/postgres" -V | sed 's/.*) \([0-9]*\).*/\1/')
    [ "${version:-0}" -ge 14 ] && { [ -z "${1:-}" ] || [ "$1" = "$version" ]; } || continue
    PG_BIN=$dir
    return 0
  done <<<"$dirs"
  return 1
}

# Sets REDIS_SERVER.
find_redis() {
  local program
  for program in "$(command -v redis-server)" /usr/bin/redis-server /usr/local/bin/redis-server \
    /opt/homebrew/bin/redis-server /home/linuxbrew/.linuxbrew/bin/redis-server; do
    [ -n "$program" ] && [ -x "$program" ] && REDIS_SERVER=$program && return 0
  done
  return 1
}

# ensure_programs postgres|redis|cc|curl…: finds each, installs what is missing.
ensure_programs() {
  local missing='' program
  for program in "$@"; do
    case $program in
      postgres) find_postgres "$(postgres_major)" ;;
      redis) find_redis ;;
      *) have "$program" ;;
    esac || missing="$missing $program"
  done
  [ -n "$missing" ] || return 0
  install_programs "$missing"
  for program in $missing; do
    case $program in
      postgres) find_postgres "$(postgres_major)" ;;
      redis) find_redis ;;
      *) have "$program" ;;
    esac || die "$program is still missing after the installation. $(needed_postgres)"
  done
}

# The major version that existing data asks for; empty when there is none yet.
postgres_major() { [ -f "${PGDATA:-}/PG_VERSION" ] && cat "$PGDATA/PG_VERSION"; }
needed_postgres() {
  local major
  major=$(postgres_major)
  [ -z "$major" ] || printf '%s was made by PostgreSQL %s: install that version, or start afresh with make reset.' "$PGDATA" "$major"
}

install_programs() {
  local packages
  if have apt-get; then
    packages=$(printf '%s' "$1" | sed 's/ postgres/ postgresql/; s/ redis/ redis-server/; s/ cc/ gcc libc6-dev/')
    as_root_or_explain "apt-get update && apt-get install -y$packages"
    apt_install "$packages"
  elif have dnf; then
    packages=$(printf '%s' "$1" | sed 's/ postgres/ postgresql-server postgresql/; s/ cc/ gcc/; s/ python3-venv//')
    as_root_or_explain "dnf install -y$packages"
    # shellcheck disable=SC2086  # a list of packages
    "${AS_ROOT[@]}" dnf install -y $packages >&2
  elif have brew && ! am_root; then
    packages=$(printf '%s' "$1" | sed 's/ postgres/ postgresql@17/; s/ cc/ gcc/; s/ python3-venv//; s/ nodejs npm/ node/')
    # shellcheck disable=SC2086
    brew install $packages >&2
  else
    die "missing:$1. Install PostgreSQL (14 or newer, with initdb and pg_ctl) and Redis (7 or newer) by hand,
or set DATABASE_URL and REDIS_URL to servers you have."
  fi || die "the installation of$1 failed (see above)"
}

# Sets AS_ROOT to what comes before a command that needs root.
as_root_or_explain() {
  if am_root; then AS_ROOT=(env)
  elif have sudo && sudo -n true 2>/dev/null; then AS_ROOT=(sudo -n env)
  else
    local way_out=''
    case $1 in *postgres* | *redis*) way_out=$'\nor set DATABASE_URL and REDIS_URL to servers you have.' ;; esac
    die "some programs are missing, and this user may not install them. Run as root:
    $1$way_out"
  fi
}

# Debian starts what it installs, and makes a cluster of its own. Both are prevented for the moment of the installation,
# and what a fresh package enabled for the next boot is disabled again.
apt_install() (
  local conf=/etc/postgresql-common/createcluster.d/millrace.conf policy=/usr/sbin/policy-rc.d wrote_policy='' status=0 unit
  # In a shell of its own, so that both go however it ends: a policy that stayed would keep every service of this machine from starting.
  undo() {
    [ -z "$wrote_policy" ] || "${AS_ROOT[@]}" rm -f "$policy"
    "${AS_ROOT[@]}" rm -f "$conf"
    "${AS_ROOT[@]}" rmdir "${conf%/*}" 2>/dev/null
  }
  trap undo EXIT
  trap 'exit 129' HUP
  trap 'exit 130' INT
  trap 'exit 143' TERM
  say "installing:$1 (apt-get)"
  "${AS_ROOT[@]}" mkdir -p "${conf%/*}"
  printf 'create_main_cluster = false\n' | "${AS_ROOT[@]}" tee "$conf" >/dev/null
  if [ ! -e "$policy" ]; then
    wrote_policy=yes
    printf '#!/bin/sh\nexit 101\n' | "${AS_ROOT[@]}" tee "$policy" >/dev/null
    "${AS_ROOT[@]}" chmod 755 "$policy"
  fi
  # One unreachable source is no reason to give up: what we need may be in another.
  "${AS_ROOT[@]}" apt-get update -q >&2 || say 'apt-get update failed; trying with the package lists at hand'
  # shellcheck disable=SC2086  # a list of packages
  "${AS_ROOT[@]}" DEBIAN_FRONTEND=noninteractive apt-get install -o DPkg::Lock::Timeout=300 -q -y --no-install-recommends $1 >&2 || status=$?
  for unit in postgresql redis-server nginx prometheus; do
    case $1 in *"$unit"*) have systemctl && "${AS_ROOT[@]}" systemctl disable "$unit" >/dev/null 2>&1 ;; esac
  done
  exit "$status"
)
