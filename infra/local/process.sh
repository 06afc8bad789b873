# Processes: is a recorded process still the one we started, end it, and may a port be taken? Sourced, never run.
# A pid alone proves nothing: it is recycled. Ours are known by pid + start time, servers by pid + working directory.
# shellcheck shell=bash

# A token that no later process with the same pid can have.
start_token() {
  if [ -r "/proc/$1/stat" ]; then
    local stat boot=''
    stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
    stat=${stat##*) }
    # shellcheck disable=SC2086  # split into fields on purpose; start time is the 20th after the name
    set -- $stat
    # A zombie has ended; only its parent has not noticed yet.
    [ "$1" != Z ] || return 1
    read -r boot 2>/dev/null </proc/sys/kernel/random/boot_id || true
    printf '%s.%s\n' "${20}" "${boot%%-*}"
  else
    ps -o lstart= -p "$1" 2>/dev/null | tr -s ' ' _ | grep .
  fi
}

alive() { kill -0 "$1" 2>/dev/null || [ -d "/proc/$1" ]; }

record_pid() { printf '%s %s\n' "$2" "$(start_token "$2")" >"$1"; }

# Prints the pid of the process that was recorded in the file, if that very process still runs.
recorded_pid() {
  local pid token
  [ -f "$1" ] && read -r pid token <"$1" || return 1
  [ -n "$pid" ] && [ -n "$token" ] && [ "$(start_token "$pid")" = "$token" ] && printf '%s\n' "$pid"
}

working_directory() {
  if [ -d "/proc/$1" ]; then readlink "/proc/$1/cwd"
  else lsof -a -p "$1" -d cwd -Fn 2>/dev/null | sed -n 's/^n//p'; fi
}

# The pids of all that work in a directory.
processes_in() {
  local dir
  if [ -d /proc/self ]; then
    for dir in /proc/[0-9]*; do [ "$(readlink "$dir/cwd" 2>/dev/null)" != "$1" ] || printf '%s\n' "${dir#/proc/}"; done
  else lsof -t "$1" 2>/dev/null; fi
}

# Prints the pid in a server's own pid file, if that process works in the server's own directory.
server_pid() {
  local pid
  [ -f "$1" ] || return 1
  pid=$(head -n 1 "$1" 2>/dev/null)
  case $pid in '' | *[!0-9]*) return 1 ;; esac
  start_token "$pid" >/dev/null && [ "$(working_directory "$pid")" = "$2" ] && printf '%s\n' "$pid"
}

# until_true SECONDS COMMAND…: polls until the command succeeds or the deadline passes.
until_true() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@"; do
    [ "$SECONDS" -lt "$deadline" ] || return 1
    sleep 0.1
  done
}

gone() { ! start_token "$1" >/dev/null || [ "$(start_token "$1")" != "$2" ]; }

# end_process PID SIGNAL SECONDS: asks with the signal, waits, and only then kills.
# The start token is taken once: should the pid pass to a stranger meanwhile, the stranger is left alone.
end_process() {
  local token
  token=$(start_token "$1") || return 0
  kill -"$2" "$1" 2>/dev/null
  until_true "$3" gone "$1" "$token" && return 0
  say "pid $1 did not end within $3 s: killing it"
  gone "$1" "$token" || kill -KILL "$1" 2>/dev/null
  until_true 5 gone "$1" "$token"
}

port_taken() { (exec 3<>"/dev/tcp/${2:-127.0.0.1}/$1") 2>/dev/null; }

# Below the range that the kernel deals out to outgoing connections, so that none sits on the port when we bind.
free_port() {
  local port tries
  for tries in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    port=$((10000 + (RANDOM * 32768 + RANDOM) % 20000))
    port_taken "$port" || { printf '%s\n' "$port"; return 0; }
  done
  die "found no free loopback port in $tries tries"
}

# Who listens on a port, in words, as far as this user may know.
port_owner() {
  local found='' inode pid
  if have ss; then
    found=$(ss -Hltnp "sport = :$1" 2>/dev/null | sed -n 's/.*users:(("\([^"]*\)",pid=\([0-9]*\).*/\1 (pid \2)/p' | head -n 1)
  elif have lsof; then
    found=$(lsof -nP -iTCP:"$1" -sTCP:LISTEN 2>/dev/null | awk 'NR == 2 { print $1 " (pid " $2 ")" }')
  elif [ -r /proc/net/tcp ]; then
    inode=$(awk -v port="$(printf ':%04X' "$1")" '$4 == "0A" && index($2, port) { print $10; exit }' /proc/net/tcp /proc/net/tcp6)
    pid=$(find /proc/[0-9]*/fd -lname "socket:\[$inode\]" 2>/dev/null | head -n 1 | cut -d / -f 3)
    [ -n "$pid" ] && found="$(cat "/proc/$pid/comm" 2>/dev/null) (pid $pid)"
  fi
  printf '%s\n' "${found:-a process of another user}"
}

# One change to this data directory at a time: lock_data NAME. Descriptor 9 is closed in all that we start, or the lock
# would live on in it.
lock_data() {
  held_lock=$DATA/$1.lock
  if have flock; then
    exec 9>"$held_lock"
    flock -w 300 9 || die "another command has held $held_lock for five minutes"
  else
    until_true 300 take_lock_directory || die "another command holds $held_lock.d; delete it if none runs"
  fi
}

unlock_data() { if have flock; then exec 9>&-; else rm -rf "$held_lock.d"; fi; }

# Where there is no flock (macOS): a directory, with the holder's pid in it so that a killed holder blocks nobody.
take_lock_directory() {
  if mkdir "$held_lock.d" 2>/dev/null; then record_pid "$held_lock.d/pid" $$; return 0; fi
  [ -f "$held_lock.d/pid" ] && ! recorded_pid "$held_lock.d/pid" >/dev/null && rm -rf "$held_lock.d"
  return 1
}

# run_detached LOG COMMAND…: starts it in its own session, so that Ctrl-C and a closing terminal do not reach it.
# Leaves the pid in `detached_pid`.
run_detached() {
  local log=$1
  shift
  if have setsid; then setsid "$@" >>"$log" 2>&1 </dev/null 9>&- &
  else nohup "$@" >>"$log" 2>&1 </dev/null 9>&- & fi
  # shellcheck disable=SC2034  # read by the callers
  detached_pid=$!
  disown
}
