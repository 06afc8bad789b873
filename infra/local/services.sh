# The API and the worker as background processes. Sourced by `platform`, never run.
# shellcheck shell=bash

# What both programs are told. Everything else they take from the environment themselves.
# A running API is found at the port it was started with, whatever this shell has in mind; one that died comes back there.
export_settings() {
  local running_port='' last_port=''
  [ ! -f "$DATA/api.pid" ] || last_port=$(cat "$DATA/api_port" 2>/dev/null)
  service_pid api >/dev/null && running_port=$last_port
  [ -z "$running_port" ] || [ "${API_PORT:-$running_port}" = "$running_port" ] ||
    say "the API of this checkout runs on port $running_port; API_PORT=$API_PORT takes effect after make stop"
  export API_HOST=${API_HOST:-127.0.0.1} API_PORT=${running_port:-${API_PORT:-${last_port:-8000}}}
  export JWT_KEYS_DIR=${JWT_KEYS_DIR:-$DATA/keys} STORAGE_URL=${STORAGE_URL:-file://$DATA/files}
  local host=$API_HOST
  case $host in 0.0.0.0 | ::) host=127.0.0.1 ;; *:*) host="[$host]" ;; esac
  API_URL=http://$host:$API_PORT
  # Without an address of the user's own, the one chosen at the last start.
  [ -n "${WORKER_METRICS_ADDR+set}" ] || worker_address=$(cat "$DATA/worker_metrics_addr" 2>/dev/null)
}

# What WORKER_METRICS_ADDR is, or will be; empty or `none` when the worker shall not listen.
worker_address() { printf '%s\n' "${WORKER_METRICS_ADDR-${worker_address:-127.0.0.1:9101}}"; }

# A second checkout on this machine finds the default port of the worker's metrics taken, and gets another.
choose_worker_address() {
  [ -z "${WORKER_METRICS_ADDR+set}" ] || return 0
  WORKER_METRICS_ADDR=$(worker_address)
  if ! service_pid jobs >/dev/null && port_taken "${WORKER_METRICS_ADDR##*:}"; then
    WORKER_METRICS_ADDR=127.0.0.1:$(free_port)
  fi
  printf '%s\n' "$WORKER_METRICS_ADDR" >"$DATA/worker_metrics_addr"
  export WORKER_METRICS_ADDR
}

service_pid() { recorded_pid "$DATA/$1.pid"; }

# Before anything is built: a minute of compiling for a port that is taken would be a poor joke.
require_api_port() {
  service_pid api >/dev/null || ! port_taken "$API_PORT" ||
    die "port $API_PORT is taken by $(port_owner "$API_PORT"). Stop that, or choose another: API_PORT=8001 make start"
}

# start_service NAME PROGRAM ARGUMENT…
start_service() {
  local name=$1 program=$BIN_DIR/$2 before
  shift 2
  if service_pid "$name" >/dev/null; then
    [ ! "$program" -nt "$DATA/$name.pid" ] ||
      say "$name runs an older build than the one on disk; make stop and make start bring the new one up"
    return 0
  fi
  say "starting $name"
  cd "$ROOT" || exit
  # One old log is kept; colours are for terminals.
  [ -z "$(find "$LOGS/$name.log" -size +100000k 2>/dev/null)" ] || mv "$LOGS/$name.log" "$LOGS/$name.log.1"
  # Files of users, and logs that name them, are nobody else's to read.
  before=$(umask) && umask 077
  printf -v "${name}_log_from" %s "$(log_length "$LOGS/$name.log")"
  NO_COLOR=1 run_detached "$LOGS/$name.log" "$program" "$@"
  umask "$before"
  record_pid "$DATA/$name.pid" "$detached_pid"
}

# Settings are read when a program starts: what was changed since, here or in .env, does not reach one that runs.
tell_what_runs() {
  local name since
  for name in api jobs; do
    service_pid "$name" >/dev/null || continue
    since=$(date -r "$DATA/$name.pid" '+%F %H:%M' 2>/dev/null)
    say "$name runs since ${since:-before}, with the settings of then: make stop first to change them"
  done
}

start_services() {
  start_both
  wait_until_ready_or_ended
  # One that was dying while we looked seemed to run.
  both_run || { start_both && wait_until_ready_or_ended; }
  require_both
}

start_both() {
  start_service jobs millrace-jobs work
  start_service api millrace-api serve
  printf '%s\n' "$API_PORT" >"$DATA/api_port"
}

both_run() { service_pid api >/dev/null && service_pid jobs >/dev/null; }

api_ready() { curl -fsS -m 3 -o /dev/null "$API_URL/readyz" 2>/dev/null; }
jobs_ready() {
  local address
  address=$(worker_address)
  # On all interfaces is on the loopback one too.
  [ -z "$address" ] || [ "$address" = none ] || curl -fsS -m 3 -o /dev/null "http://${address/#0.0.0.0:/127.0.0.1:}/readyz" 2>/dev/null
}
ready_or_ended() { { api_ready && jobs_ready; } || ! both_run; }

wait_until_ready_or_ended() {
  printf 'waiting until both are ready ' >&2
  local waited=0
  until until_true 1 ready_or_ended; do
    printf '.' >&2
    waited=$((waited + 1))
    [ "$waited" -lt 60 ] || { say ''; service_status >&2; die "not ready after a minute; $API_URL/readyz says: $(curl -sS -m 3 "$API_URL/readyz" 2>&1)"; }
  done
  say ''
}

require_both() {
  local name from
  for name in api jobs; do
    from=${name}_log_from
    service_pid "$name" >/dev/null || die "$name ended at once. Its log ($LOGS/$name.log) ends:
$(log_since "$LOGS/$name.log" "${!from:-}")"
  done
  say 'both are ready'
}

# The programs drain by themselves within SHUTDOWN_TIMEOUT_S; the margin is for a slow machine.
STOP_DEADLINE_S=$((${SHUTDOWN_TIMEOUT_S:-30} + 15))

# Both are asked at once, so that their drains run side by side.
stop_services() {
  local name pid
  for name in "$@"; do pid=$(service_pid "$name") && { say "stopping $name"; kill -TERM "$pid"; }; done
  for name in "$@"; do
    pid=$(service_pid "$name") && until_true "$STOP_DEADLINE_S" service_gone "$name" ||
      { pid=$(service_pid "$name") && say "$name did not end in $STOP_DEADLINE_S s: killing it" && kill -KILL "$pid"; }
      rm -f "$DATA/$name.pid"
  done
}

service_gone() { ! service_pid "$1" >/dev/null; }

# One line per service; fails unless both run and the API is ready.
service_status() {
  local pid failed=0
  if ! pid=$(service_pid api); then printf 'api       stopped\n'; failed=1
  elif api_ready; then printf 'api       ready     pid %s, %s\n' "$pid" "$API_URL"
  else printf 'api       unready   pid %s, %s, log %s\n' "$pid" "$API_URL" "$LOGS/api.log"; failed=1; fi
  if ! pid=$(service_pid jobs); then printf 'jobs      stopped\n'; failed=1
  elif jobs_ready; then printf 'jobs      ready     pid %s, metrics on %s\n' "$pid" "$(worker_address)"
  else printf 'jobs      unready   pid %s, log %s\n' "$pid" "$LOGS/jobs.log"; failed=1; fi
  return "$failed"
}
