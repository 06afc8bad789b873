#!/bin/sh
# A Millrace worker for any command, with curl alone: worker.sh URL QUEUE COMMAND…
# COMMAND gets the answer of the lease as JSON on its standard input (the payload is .jobs[0].job.payload) and prints the result as JSON; a
# status other than 0 is a failure.
# MILLRACE_KEY holds an API key with the scope jobs:work. TERM finishes what runs, and ends an idle worker at once.
# See docs/guides/remote-workers.md.
set -u
url=$1/api/v1 queue=$2
shift 2
files=$(mktemp -d) || exit
trap 'rm -rf "$files"' EXIT
stopping='' asking=''
# What waits for a job is cut off.
trap 'stopping=yes; [ -z "$asking" ] || kill "$asking" 2>/dev/null' TERM INT
# For every curl: asks again for half a minute while the platform cannot answer. A key on the command line could be read by everybody
# on this machine.
(umask 077 && cat >"$files/curl") <<END
silent
show-error
fail
max-time = 60
retry = 10
retry-delay = 3
retry-connrefused
header = "X-API-Key: $MILLRACE_KEY"
header = "Content-Type: application/json"
END

# call PATH: posts standard input.
call() { curl -K "$files/curl" --data-binary @- "$url/$1"; }
# field NAME: the last value of that name; payloads come before what is ours.
field() { sed -n "s/.*\"$1\":\"\{0,1\}\([^\",}]*\).*/\1/p"; }
quoted() { tr -d '\000-\037\177"\\' | cut -c 1-1000; }

session=$(printf '{"name":"%s-%s","queues":["%s"],"concurrency":1}' "$(uname -n)" $$ "$queue" | call worker-sessions) || exit
beat_s=$(($(printf %s "$session" | field heartbeat_ms) / 1000))
id=$(printf %s "$session" | field session_id)

# beat TOKEN PID: keeps the lease while the command runs, and ends it when it should stop.
beat() {
  while sleep "$((beat_s > 0 ? beat_s : 1))" && kill -0 "$2" 2>/dev/null; do
    news=$(printf '{"session_id":"%s","leases":[{"lease_token":"%s"}]}' "$id" "$1" | call leases/heartbeat) || continue
    case $news in *'"lost":["'* | *'"cancel":["'*) kill "$2" 2>/dev/null ;; esac
  done
}

while [ -z "$stopping" ]; do
  # In the background, since a signal is heard in `wait` alone.
  printf '{"session_id":"%s","max":1,"wait_ms":10000}' "$id" >"$files/wish"
  curl -K "$files/curl" --data-binary "@$files/wish" "$url/leases" >"$files/job" &
  asking=$!
  [ -z "$stopping" ] || kill "$asking" 2>/dev/null
  wait "$asking"
  status=$?
  # Cut off, nothing is lost: a job leased in that very moment comes back after its lease, or is run if its answer was whole.
  while kill -0 "$asking" 2>/dev/null; do wait "$asking" && status=$? || status=$?; done
  asking=''
  if [ "$status" != 0 ]; then [ -n "$stopping" ] && break; exit "$status"; fi
  token=$(field lease_token <"$files/job")
  [ -n "$token" ] || continue
  "$@" <"$files/job" >"$files/result" 2>"$files/error" &
  work=$!
  beat "$token" "$work" &
  beating=$!
  wait "$work"
  status=$?
  # Interrupted by a signal to us: the command goes on.
  while kill -0 "$work" 2>/dev/null; do wait "$work" && status=$? || status=$?; done
  kill "$beating" 2>/dev/null
  if [ "$status" = 0 ]; then
    outcome="\"outcome\":\"ok\",\"result\":$(cat "$files/result")"
  else
    outcome="\"outcome\":\"fail\",\"error\":{\"code\":\"exit_$status\",\"message\":\"$(quoted <"$files/error")\"}"
  fi
  printf '{"session_id":"%s","settle":[{"lease_token":"%s",%s}]}' "$id" "$token" "$outcome" | call leases/settle >/dev/null || exit
done
