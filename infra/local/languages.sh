# Node.js and Python for what is not Rust: are they there, and what a lock file lists. Sourced, never run.
# shellcheck shell=bash

is_recent_node() { have node && node -e 'process.exit(process.versions.node.split(".")[0] >= 18 ? 0 : 1)'; }
# Debian has pip for virtual environments in a package of its own.
is_recent_python() { python3 -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

ensure_languages() {
  local missing=''
  is_recent_node && have npm || missing="$missing nodejs npm"
  is_recent_python || missing="$missing python3 python3-venv"
  [ -z "$missing" ] || install_programs "$missing"
  is_recent_node || die 'Node.js 18 or newer is needed'
  is_recent_python || die 'Python 3.11 or newer is needed, with venv'
}

# installed STAMP LOCK_FILE: whether what the lock file lists is there already.
installed() { [ "$(cat "$1" 2>/dev/null)" = "$(cksum <"$2")" ]; }
mark_installed() { cksum <"$2" >"$1"; }

# install_npm FOLDER: what the lock file in it lists, into its node_modules.
install_npm() {
  ! installed "$1/node_modules/.millrace" "$1/package-lock.json" || return 0
  (cd "$1" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error) && mark_installed "$1/node_modules/.millrace" "$1/package-lock.json"
}

# install_pip VENV LOCK_FILE: what it lists, and nothing whose hash it does not.
install_pip() {
  ! installed "$1/.millrace" "$2" || return 0
  rm -rf "$1"
  python3 -m venv "$1" && "$1/bin/pip" install --quiet --disable-pip-version-check --require-hashes -r "$2" && mark_installed "$1/.millrace" "$2"
}

# lock_pip FOLDER: requirements.txt from requirements.in, with the hash of every file.
lock_pip() {
  local tools=$DATA/pip-tools
  python3 -m venv "$tools" && "$tools/bin/pip" install --quiet pip-tools &&
    (cd "$1" && "$tools/bin/pip-compile" --quiet --generate-hashes --strip-extras --no-header --no-annotate --no-emit-index-url \
      --no-emit-find-links --allow-unsafe --output-file requirements.txt requirements.in) || die 'requirements.txt could not be made'
  rm -rf "$tools"
}
