# The API and the worker as background processes. Sourced by `platform`, never run.
# shellcheck shell=bash

# What both programs are told. Everything else they take from the environment themselves.
export_settings() {
  export API_HOST=${API_HOST:-127.0.0.1} API_PORT=${API_PORT:-8000}
  export JWT_KEYS_DIR=${JWT_KEYS_DIR:-$DATA/keys}
  local host=$API_HOST
  case $host in 0.0.0.0 | ::) host=127.0.0.1 ;; *:*) host="[$host]" ;; esac
  API_URL=http://$host:$API_PORT
  # Without an address of the user's own, the one chosen at the last start.
  [ -n "${WORKER_METRICS_ADDR+set}" ] || worker_address=$(cat "$DATA/worker_metrics_addr" 2>/dev/null)
}

# What WORKER_METRICS_ADDR is, or will be; empty when the worker shall not listen.
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
  local name=$1 program=$BIN_DIR/$2
  shift 2
  if service_pid "$name" >/dev/null; then
    [ ! "$program" -nt "$DATA/$name.pid" ] ||
      say "$name runs an older build than the one on disk; make stop and make start bring the new one up"
    return 0
  fi
  end_orphans "$name"
  say "starting $name"
  cd "$ROOT" || exit
  # One old log is kept; colours are for terminals.
  [ -z "$(find "$LOGS/$name.log" -size +100000k 2>/dev/null)" ] || mv "$LOGS/$name.log" "$LOGS/$name.log.1"
  NO_COLOR=1 run_detached "$LOGS/$name.log" "$program" "$@"
  record_pid "$DATA/$name.pid" "$detached_pid"
}

start_services() {
  start_service jobs millrace-jobs work
  start_service api millrace-api serve
  wait_until_ready
}

api_ready() { curl -fsS -m 3 -o /dev/null "$API_URL/readyz" 2>/dev/null; }
jobs_ready() {
  local address
  address=$(worker_address)
  # On all interfaces is on the loopback one too.
  [ -z "$address" ] || curl -fsS -m 3 -o /dev/null "http://${address/#0.0.0.0:/127.0.0.1:}/readyz" 2>/dev/null
}
ready_or_ended() { { api_ready && jobs_ready; } || ! service_pid api >/dev/null || ! service_pid jobs >/dev/null; }

wait_until_ready() {
  printf 'waiting until both are ready ' >&2
  local waited=0 name
  until until_true 1 ready_or_ended; do
    printf '.' >&2
    waited=$((waited + 1))
    [ "$waited" -lt 60 ] || { say ''; service_status >&2; die "not ready after a minute; $API_URL/readyz says: $(curl -sS -m 3 "$API_URL/readyz" 2>&1)"; }
  done
  for name in api jobs; do
    service_pid "$name" >/dev/null || { say ''; die "$name ended at once. Its log ($LOGS/$name.log) ends:
$(tail -n 15 "$LOGS/$name.log")"; }
  done
  say ' ready'
}

# Children of a killed supervisor, should they outlive it: in its process group, and running our program.
orphans() {
  local leader rest stat pid
  [ -f "$DATA/$1.pid" ] && read -r leader rest <"$DATA/$1.pid" || return 0
  if [ -d /proc/self ]; then
    for stat in /proc/[0-9]*/stat; do
      read -r stat 2>/dev/null <"$stat" || continue
      pid=${stat%% *}
      case $stat in *"(millrace-$1)"*) ;; *) continue ;; esac
      # shellcheck disable=SC2086  # split into fields: state, parent, process group
      set -- "$1" ${stat##*) }
      [ "$2" != Z ] && [ "$4" = "$leader" ] && [ "$pid" != "$leader" ] && printf '%s\n' "$pid"
    done
  else
    ps -A -o pid=,pgid=,comm= | awk -v g="$leader" -v n="millrace-$1" '$2 == g && $1 != g && index($3, n) { print $1 }'
  fi
}

end_orphans() {
  local pid
  service_pid "$1" >/dev/null || for pid in $(orphans "$1"); do
    say "ending pid $pid, left over from a killed $1"
    end_process "$pid" TERM "$STOP_DEADLINE_S"
  done
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
    end_orphans "$name"
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
