# Where things live: the checkout, its data directory, and the small files in it. Sourced, never run.
# shellcheck shell=bash disable=SC2034  # what is set here is read by the scripts that source it

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
LOCAL=$ROOT/infra/local

# A user's own settings for this checkout. What is already in the environment wins, as everywhere in Millrace.
# MILLRACE_DOTENV=none: they are not for what is thrown away (throw_away.sh).
load_dotenv() {
  [ "${MILLRACE_DOTENV:-}" != none ] && [ -f "$ROOT/.env" ] || return 0
  local line name value
  while IFS= read -r line || [ -n "$line" ]; do
    line=${line#export }
    name=${line%%=*}
    [[ $line == *=* && $name =~ ^[A-Z_][A-Z0-9_]*$ ]] || continue
    value=${line#*=}
    value=${value%$'\r'}
    case $value in
      \"*\") value=${value#\"}; value=${value%\"} ;;
      \'*\') value=${value#\'}; value=${value%\'} ;;
    esac
    [ -n "$value" ] && [ -z "${!name+set}" ] && export "$name=$value"
  done <"$ROOT/.env"
  return 0
}

# Before anything is built or started: a copy of .env.example names servers that nobody has, in place of the private ones.
refuse_template_urls() {
  case "${DATABASE_URL:-} ${REDIS_URL:-}" in *:change-me@*) ;; *) return 0 ;; esac
  die "DATABASE_URL or REDIS_URL still has the template's password \`change-me\`: no such server is there.
Take the two lines DATABASE_URL and REDIS_URL out of $ROOT/.env, and private servers are started; or name your own servers in them."
}

# DATA is absolute and free of symbolic links: a server is recognised by its working directory.
locate_data() {
  DATA=${MILLRACE_DATA_DIR:-$ROOT/.data}
  mkdir -p "$DATA" || die "cannot create the data directory $DATA"
  DATA=$(cd "$DATA" && pwd -P)
  LOGS=$DATA/logs
  mkdir -p "$LOGS"
  # Logs name users. Servers that run as another user are handed their log open. Another user's folder is that user's to close.
  chmod 700 "$LOGS" 2>/dev/null || true
}

say() { printf '%s\n' "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }
am_root() { [ "$(id -u)" = 0 ]; }

# Logs are appended to. What one run wrote begins at the length that its log had: log_since LOG LENGTH prints its last lines.
log_length() { [ ! -f "$1" ] || wc -c <"$1" | tr -d ' '; }
log_since() { tail -c "+$((${2:-0} + 1))" "$1" | tail -n 15; }

# Hexadecimal, so that it needs no quoting in a URL, a shell or a configuration file.
random_hex() { od -An -N"$1" -tx1 /dev/urandom | tr -d ' \n'; }

owner_uid() { stat -c %u "$1" 2>/dev/null || stat -f %u "$1"; }
