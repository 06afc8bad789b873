# What is made to be thrown away: no setting of this user leads it to servers, files or keys that are not, and nothing of it stays. Sourced, never run.
# shellcheck shell=bash

# Called before anything of it is started. Settings that only change how the programs behave stay, and may be measured.
forget_lasting_places() {
  local name
  for name in DATABASE_URL DATABASE_DIRECT_URL DATABASE_READ_URL REDIS_URL JWT_SECRET; do unset "$name" "${name}_FILE"; done
  unset CONFIG_FILE REDIS_CA_FILE STORAGE_URL JWT_KEYS_DIR
  # For every script of ours that is called from here on: see load_dotenv.
  export MILLRACE_DOTENV=none
}

# servers_in DIRECTORY ARGUMENT…: `servers` for those in it, whatever the URLs of this shell name.
servers_in() {
  local directory=$1
  shift
  MILLRACE_DATA_DIR=$directory MILLRACE_DOTENV=none DATABASE_URL='' REDIS_URL='' "$LOCAL/servers" "$@"
}

# remove_data DIRECTORY: where nothing runs any more. Under a closed directory (mode 700 above it) root's servers live elsewhere.
remove_data() { rm -rf "$(servers_in "$1" home)" "$1"; }

# Dies unless the URLs of this shell are those of the servers that `with-servers --ephemeral` started: for what destroys them.
require_throw_away_servers() {
  local settings
  [ -n "${MILLRACE_SERVERS_DIR:-}" ] && settings=$(servers_in "$MILLRACE_SERVERS_DIR" env) &&
    [ "$settings" = "export DATABASE_URL='$DATABASE_URL'"$'\n'"export REDIS_URL='$REDIS_URL'" ] ||
    die 'DATABASE_URL and REDIS_URL do not name servers that are there to be thrown away'
}
