# The private Redis: start, stop. Sourced by `servers`, never run.
# shellcheck shell=bash

redis_pid() { server_pid "$RUN_DIR/redis.pid" "$REDIS_DIR"; }

redis_url() { printf 'redis://default:%s@127.0.0.1:%s/0\n' "$REDIS_PASSWORD" "$REDIS_PORT"; }

# Speaks the protocol itself: redis-cli is a package of its own on some systems.
redis_answers() {
  local reply=''
  {
    exec 8<>"/dev/tcp/127.0.0.1/$REDIS_PORT" || return 1
    printf 'AUTH %s\r\nPING\r\n' "$REDIS_PASSWORD" >&8
    read -r -t 3 reply <&8 && read -r -t 3 reply <&8
    exec 8>&-
  } 2>/dev/null
  [ "${reply%$'\r'}" = +PONG ]
}

# For infra/local/tls: a second port, where nobody gets in without TLS. The first one is for `redis_answers`.
offer_tls() {
  private_copy "$MILLRACE_TLS_DIR/server.key" "$REDIS_DIR/server.key"
  private_copy "$MILLRACE_TLS_DIR/server.pem" "$REDIS_DIR/server.pem"
  printf 'tls-port %s\ntls-cert-file "%s"\ntls-key-file "%s"\ntls-auth-clients no\n' \
    "$MILLRACE_TLS_PORT" "$REDIS_DIR/server.pem" "$REDIS_DIR/server.key"
}

redis_ready() { redis_pid >/dev/null && redis_answers; }

redis_ready_or_ended() { redis_ready || gone "$1" "$2"; }

launch_redis() {
  local conf=$RUN_DIR/redis.conf pid token
  (umask 077 && {
    cat "$LOCAL/redis.conf"
    printf 'port %s\nrequirepass %s\ndir "%s"\npidfile "%s"\n' \
      "$REDIS_PORT" "$REDIS_PASSWORD" "$REDIS_DIR" "$RUN_DIR/redis.pid"
    [ -z "${MILLRACE_TLS_DIR:-}" ] || offer_tls
  } >"$conf")
  [ -z "$SERVER_USER" ] || chown "$SERVER_USER" "$conf"
  run_detached "$LOGS/redis.log" "${AS_SERVER[@]}" "$REDIS_SERVER" "$conf"
  pid=$detached_pid
  token=$(start_token "$pid") || return 1
  # Loading a large append-only file takes its time.
  until_true 120 redis_ready_or_ended "$pid" "$token" && redis_ready
}

start_redis() {
  redis_ready && return 0
  # Alive but deaf: a loading server answers later, one that never does is replaced.
  if redis_pid >/dev/null; then until_true 120 redis_answers && return 0; stop_redis; fi
  private_directory "$REDIS_DIR"
  local attempt
  for attempt in 1 2 3; do
    if port_taken "$REDIS_PORT"; then REDIS_PORT=$(free_port); fi
    launch_redis && return 0
    say "Redis did not start (attempt $attempt)"
  done
  die "Redis did not start. Its log ($LOGS/redis.log) ends:
$(tail -n 8 "$LOGS/redis.log" 2>/dev/null)"
}

# TERM writes the append-only file out before Redis leaves.
stop_redis() {
  local pid
  pid=$(redis_pid) || return 0
  end_process "$pid" TERM 20
}
