# The private PostgreSQL: create, start, stop. Sourced by `servers`, never run.
# shellcheck shell=bash

PG_ROLE=millrace
PG_DATABASE=millrace

# The kernel's limit for a socket path is 108 bytes (104 on macOS), and ".s.PGSQL.12345" is part of it.
pg_socket_dir() {
  if [ ${#RUN_DIR} -le 80 ]; then printf '%s\n' "$RUN_DIR"
  else printf '/tmp/millrace-%s\n' "$(printf '%s' "$RUN_DIR" | cksum | cut -d ' ' -f 1)"; fi
}

postgres_pid() { server_pid "$PGDATA/postmaster.pid" "$PGDATA"; }

postgres_ready() {
  postgres_pid >/dev/null &&
    [ "$(PGCONNECT_TIMEOUT=3 PGPASSWORD=$PG_PASSWORD "$PG_BIN/psql" -XAtqc 'select 1' -h 127.0.0.1 -p "$PG_PORT" -U "$PG_ROLE" -d "$PG_DATABASE" 2>/dev/null)" = 1 ]
}

postgres_url() { printf 'postgres://%s:%s@127.0.0.1:%s/%s\n' "$PG_ROLE" "$PG_PASSWORD" "$PG_PORT" "$PG_DATABASE"; }

create_cluster() {
  [ -f "$PGDATA/PG_VERSION" ] && [ -f "$PGDATA/millrace.created" ] && return 0
  # An initdb that was cut short leaves a directory that no server accepts, and that holds nothing yet.
  rm -rf "$PGDATA"
  private_directory "$PGDATA"
  say "creating the PostgreSQL cluster in $PGDATA"
  local password_file=$RUN_DIR/password
  (umask 077 && printf '%s\n' "$PG_PASSWORD" >"$password_file")
  [ -z "$SERVER_USER" ] || chown "$SERVER_USER" "$password_file"
  # Locale C: the same order of text on every machine, and an index that serves LIKE 'prefix%'.
  (cd "$RUN_DIR" && "${AS_SERVER[@]}" "$PG_BIN/initdb" -D "$PGDATA" -U "$PG_ROLE" --pwfile="$password_file" \
    --auth-local=trust --auth-host=scram-sha-256 -E UTF8 --locale=C --data-checksums >"$LOGS/initdb.log" 2>&1 9>&-) ||
    die "initdb failed: $(tail -n 5 "$LOGS/initdb.log")"
  rm -f "$password_file"
  printf "include_if_exists 'millrace.conf'\n" >>"$PGDATA/postgresql.conf"
  : >"$PGDATA/millrace.created"
}

# Written at each start, so that a change of the settings reaches existing data.
write_postgres_settings() {
  {
    cat "$LOCAL/postgresql.conf"
    printf "port = %s\nunix_socket_directories = '%s'\n" "$PG_PORT" "$(pg_socket_dir)"
    [ -z "${MILLRACE_TLS_DIR:-}" ] || ask_for_tls
  } >"$PGDATA/millrace.conf"
  [ -z "$SERVER_USER" ] || chown "$SERVER_USER" "$PGDATA/millrace.conf"
}

# For infra/local/tls: over TCP nobody gets in without TLS.
ask_for_tls() {
  private_copy "$MILLRACE_TLS_DIR/server.key" "$PGDATA/server.key"
  private_copy "$MILLRACE_TLS_DIR/server.pem" "$PGDATA/server.pem"
  sed -i.plain 's/^host /hostssl /' "$PGDATA/pg_hba.conf"
  printf "ssl = on\nssl_cert_file = 'server.pem'\nssl_key_file = 'server.key'\n"
}

# A killed postmaster leaves its pid file. PostgreSQL takes it over when that pid is dead, but not while it is a zombie or,
# recycled, a stranger. Removing the file is safe only while no orphaned backend still works in the directory.
clear_stale_postmaster() {
  local pid
  [ -f "$PGDATA/postmaster.pid" ] && ! postgres_pid >/dev/null || return 0
  pid=$(head -n 1 "$PGDATA/postmaster.pid")
  alive "$pid" && [ -z "$(processes_in "$PGDATA")" ] || return 0
  say "removing a stale pid file: pid $pid is not our PostgreSQL"
  rm -f "$PGDATA/postmaster.pid" "$(pg_socket_dir)"/.s.PGSQL.*
}

launch_postgres() {
  clear_stale_postmaster
  private_directory "$(pg_socket_dir)"
  write_postgres_settings
  # pg_ctl waits for readiness and puts the server in a session of its own, out of reach of Ctrl-C.
  (cd "$RUN_DIR" && "${AS_SERVER[@]}" "$PG_BIN/pg_ctl" start -D "$PGDATA" -w -t 60 >>"$LOGS/postgres.log" 2>&1 </dev/null 9>&-)
}

accepts_us() { until_true 10 postgres_ready_as_superuser && ensure_role && postgres_ready; }

# The backends of a killed postmaster may take a moment to notice; until then a new one refuses. Hence the attempts.
start_postgres() {
  postgres_ready && return 0
  create_cluster
  local attempt
  for attempt in 1 2 3 4 5; do
    if postgres_pid >/dev/null; then
      # Running, but not answering to what our record says: mend the record's side, or replace the server.
      accepts_us && return 0
      stop_postgres
    fi
    if port_taken "$PG_PORT"; then PG_PORT=$(free_port); fi
    launch_postgres && accepts_us && return 0
    sleep "$attempt"
  done
  die "PostgreSQL did not start. Its log ($LOGS/postgres.log) ends:
$(tail -n 12 "$LOGS/postgres.log" 2>/dev/null)"
}

over_socket() { PGCONNECT_TIMEOUT=3 "$PG_BIN/psql" -XAtq -h "$(pg_socket_dir)" -p "$PG_PORT" -U "$PG_ROLE" -d postgres "$@"; }
postgres_ready_as_superuser() { [ "$(over_socket -c 'select 1' 2>/dev/null)" = 1 ]; }

# The password in our records is the truth: they may have been lost or copied while the cluster lived on. It goes in by standard input, as everybody
# may read arguments.
ensure_role() {
  printf "alter role %s password '%s';\n" "$PG_ROLE" "$PG_PASSWORD" | over_socket -v ON_ERROR_STOP=1 &&
    { [ -n "$(over_socket -c "select 1 from pg_database where datname = '$PG_DATABASE'")" ] ||
      over_socket -c "create database $PG_DATABASE"; }
}

# Fast shutdown rolls open transactions back and writes a checkpoint; immediate leaves the rest to crash recovery.
stop_postgres() {
  local pid
  pid=$(postgres_pid) || return 0
  end_process "$pid" INT 30
  [ "$(pg_socket_dir)" = "$RUN_DIR" ] || rm -rf "$(pg_socket_dir)"
}
