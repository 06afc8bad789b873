# What the first start makes, and every later one finds: schema, signing keys, an administrator. Sourced by `platform`.
# Each step may be repeated, so that a start that was cut short is completed by the next.
# shellcheck shell=bash

prepare_data() {
  local log=$LOGS/migrate.log from
  say 'migrating the database'
  from=$(log_length "$log")
  "$BIN_DIR/millrace-api" migrate >>"$log" 2>&1 || die "the migration failed:
$(log_since "$log" "$from")"
  make_keys
  make_admin
}

make_keys() {
  local log=$LOGS/migrate.log from
  (umask 077 && mkdir -p "$JWT_KEYS_DIR") || die "cannot create $JWT_KEYS_DIR"
  from=$(log_length "$log")
  "$BIN_DIR/millrace-api" token keygen --dir "$JWT_KEYS_DIR" >>"$log" 2>&1 || die "the signing keys could not be made:
$(log_since "$log" "$from")"
}

# The password is on disk before the account exists: a start that is cut short in between must not lose it.
make_admin() {
  local file=$DATA/admin.env email password output fresh=
  if [ ! -s "$file" ]; then
    fresh=yes
    (umask 077 && printf 'ADMIN_EMAIL=%s\nADMIN_PASSWORD=%s\n' \
      "${ADMIN_EMAIL:-admin@millrace.localhost}" "$(random_hex 12)" >"$file") || die "cannot write $file"
  fi
  email=$(sed -n 's/^ADMIN_EMAIL=//p' "$file")
  password=$(sed -n 's/^ADMIN_PASSWORD=//p' "$file")
  if ! output=$(ADMIN_PASSWORD=$password "$BIN_DIR/millrace-api" admin create --email "$email" 2>&1 </dev/null); then
    case $output in
      *already*)
        # Not ours to reset: whoever made the account knows its password.
        if [ -n "$fresh" ]; then
          rm -f "$file"
          say "the account $email is there already, with a password not made here: put it in $file for the demo"
        fi
        return 0 ;;
      *) die "the administrator could not be made: $output" ;;
    esac
  fi
  # Told once, with the addresses.
  # shellcheck disable=SC2034  # read by `platform`
  ADMIN_NOTICE="first administrator: $email   password: $password   (kept in $file)"
}
