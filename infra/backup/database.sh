# Which database `backup` and `restore` mean, as the programs read it. Sourced, never run; it lies beside both, wherever they are installed.
# shellcheck shell=bash

say() { printf '%s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }

# setting NAME: its value, or the text of the file that NAME_FILE names; empty where there is neither.
setting() {
  local value=${!1:-} file=${1}_FILE
  file=${!file:-}
  if [ -z "$value" ] && [ -n "$file" ]; then
    [ -r "$file" ] || die "${1}_FILE names a file that cannot be read: $file"
    # Without the end of the line, and nothing else taken off: a password may end in a space.
    value=$(cat "$file") && value=${value%$'\r'} || die "${1}_FILE names a file that cannot be read: $file"
  fi
  printf '%s' "$value"
}

# Sets url, and PGPASSWORD where it has a password: arguments are there for all to see, and the environment is not.
locate_database() {
  local rest user
  url=$(setting DATABASE_DIRECT_URL) || exit
  [ -n "$url" ] || url=$(setting DATABASE_URL) || exit
  [ -n "$url" ] || die 'neither DATABASE_URL nor DATABASE_URL_FILE is set'
  rest=${url#*://}
  case $rest in *@*) user=${rest%@*} ;; *) return 0 ;; esac
  case $user in
    *:*)
      PGPASSWORD=$(printf '%b' "$(printf '%s' "${user#*:}" | sed 's/\\/\\\\/g; s/%/\\x/g')")
      export PGPASSWORD
      url=${url%%://*}://${user%%:*}@${rest##*@}
      ;;
  esac
}
