# `make dev`: debug builds, rebuilt and restarted when a source file changes. Sourced by `platform`, never run.
# Polls, so that it needs nothing installed: one `find` a second over a few hundred files.
# shellcheck shell=bash

changed_source() {
  find "$ROOT"/{api,jobs,shared,migrations,infra/config,Cargo.toml,Cargo.lock,.sqlx} -type f -newer "$1" 2>/dev/null | head -n 1
}

# A build that fails changes nothing: what ran before goes on, and the compiler's message stands in the terminal.
rebuild_and_restart() {
  build_programs || { say 'the build failed; still running what was built before'; return; }
  lock_data platform
  stop_services api jobs
  start_servers
  prepare_data
  start_services
  unlock_data
}

dev() {
  local stamp changed
  before=$(running)
  stamp=$(mktemp)
  # shellcheck disable=SC2154  # `leave` belongs to platform
  trap 'rm -f "$stamp"; leave' EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  # Whatever runs may be a release build.
  stop_services api jobs
  start
  print_urls
  say 'watching the sources; Ctrl-C stops everything and keeps the data'
  # From here on it is how this is meant to end, and no failure.
  trap 'exit 0' INT
  while sleep 1; do
    changed=$(changed_source "$stamp")
    [ -n "$changed" ] || continue
    touch "$stamp"
    say "changed: ${changed#"$ROOT"/}"
    (rebuild_and_restart)
  done
}
