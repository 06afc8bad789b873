# Builds the programs. Sourced by `platform`, never run.
# MILLRACE_BUILD: release (default), dev (quick to build, slow to run), or none (MILLRACE_BIN_DIR has them already).
# shellcheck shell=bash

locate_programs() {
  local target=${CARGO_TARGET_DIR:-$ROOT/target}
  case ${MILLRACE_BUILD:=release} in
    release) BIN_DIR=$target/release ;;
    dev) BIN_DIR=$target/debug ;;
    none) BIN_DIR=${MILLRACE_BIN_DIR:?MILLRACE_BUILD=none needs MILLRACE_BIN_DIR} ;;
    *) die "MILLRACE_BUILD is release, dev or none, not $MILLRACE_BUILD" ;;
  esac
}

build_programs() { build_bins millrace-api millrace-jobs; }
build_loadtest() { build_bins millrace-loadtest; }

# build_bins PROGRAM…
build_bins() {
  local flags=() program
  [ "$MILLRACE_BUILD" != none ] || return 0
  have cargo || die 'cargo is not to be found: install Rust from https://rustup.rs'
  # The linker is the one thing a Rust toolchain does not bring along.
  ensure_programs cc
  [ "$MILLRACE_BUILD" = dev ] || { flags+=(--release); say 'building the release programs (the first time takes minutes)'; }
  for program in "$@"; do flags+=(--bin "$program"); done
  (cd "$ROOT" && cargo build --locked "${flags[@]}" 9>&-)
}
