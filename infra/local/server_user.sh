# As whom, and in which directory, the private servers run. Sourced, never run.
# PostgreSQL refuses root. Started by root it therefore runs as another user, who must be able to reach its directory:
# a checkout below /root (mode 700) is closed to everyone else, and its servers then live in /var/lib.
# shellcheck shell=bash

# Sets HOME_OF_SERVERS (parent of postgres/, redis/ and run/) and SERVER_USER (empty: the user who runs this).
locate_servers() {
  HOME_OF_SERVERS=$DATA
  SERVER_USER=
  if am_root; then
    local elsewhere
    elsewhere=/var/lib/millrace-$(printf '%s' "$DATA" | cksum | cut -d ' ' -f 1)
    # Data already made decides, also after a chmod that would now lead elsewhere.
    if [ -d "$elsewhere/postgres" ]; then HOME_OF_SERVERS=$elsewhere
    elif ! [ -d "$DATA/postgres" ] && ! reachable "$DATA"; then HOME_OF_SERVERS=$elsewhere; fi
  fi
  PGDATA=$HOME_OF_SERVERS/postgres
  REDIS_DIR=$HOME_OF_SERVERS/redis
  RUN_DIR=$HOME_OF_SERVERS/run
}

# Every directory on the way can be entered by others. Asked of the modes, as no such user may exist yet.
reachable() {
  local dir=$1
  while [ "$dir" != / ]; do
    [ "$dir" = "$DATA" ] || [ -n "$(find "$dir" -maxdepth 0 -perm -001)" ] || return 1
    dir=$(dirname "$dir")
  done
}

# Called once the programs are there, as installing PostgreSQL is what usually makes the user.
choose_server_user() {
  am_root || {
    [ ! -d "$PGDATA" ] || [ "$(owner_uid "$PGDATA")" = "$(id -u)" ] ||
      die "$PGDATA belongs to uid $(owner_uid "$PGDATA"): it was started by another user (root?). Use that user, or start afresh with make reset."
    return 0
  }
  if [ -d "$PGDATA" ] && [ "$(owner_uid "$PGDATA")" != 0 ]; then SERVER_USER=$(owner_uid "$PGDATA")
  elif id postgres >/dev/null 2>&1; then SERVER_USER=$(id -u postgres)
  else
    id millrace >/dev/null 2>&1 || useradd --system --no-create-home --shell /usr/sbin/nologin millrace ||
      die 'root may not run PostgreSQL, and the user millrace could not be made'
    SERVER_USER=$(id -u millrace)
  fi
}

# Makes a directory that only the server's user (and root) can read.
private_directory() {
  mkdir -p "$1" || die "cannot create $1"
  chmod 700 "$1" || die "$1 belongs to another user"
  [ -z "$SERVER_USER" ] || chown -R "$SERVER_USER" "$1"
}

# private_copy FROM TO: a file that only the server's user (and root) can read.
private_copy() {
  (umask 077 && cat "$1" >"$2") || die "cannot write $2"
  [ -z "$SERVER_USER" ] || chown "$SERVER_USER" "$2"
}

make_server_home() {
  mkdir -p "$HOME_OF_SERVERS" || die "cannot create $HOME_OF_SERVERS"
  [ -z "$SERVER_USER" ] || chmod a+x "$HOME_OF_SERVERS"
  private_directory "$RUN_DIR"
}

# Sets AS_SERVER to what comes before a command that the server's user must run.
# Descriptor 9 is the lock of this data directory: no server may inherit it.
as_server_user() {
  local uid=$SERVER_USER
  if [ -z "$uid" ]; then AS_SERVER=(env)
  elif have setpriv; then AS_SERVER=(setpriv --reuid "$uid" --regid "$(group_of "$uid")" --clear-groups env HOME="$RUN_DIR")
  else AS_SERVER=(runuser -u "$(id -nu "$uid")" -- env HOME="$RUN_DIR"); fi
}

# A uid without an account (data made in a container) gets a group of the same number.
group_of() { id -g "$1" 2>/dev/null || printf '%s\n' "$1"; }
