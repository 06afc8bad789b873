# What a backup consists of: the sum of each of its files, and whether they are all as they were. Sourced by `backup` and `restore`, never run.
# MANIFEST has a line for each file, as sha256sum writes and reads them, and MANIFEST.sha256 the sum of that. They tell damage, not forgery: who may
# change a backup may change its sums.
# shellcheck shell=bash

# The files of a backup, one in a line, without the two that list them.
files_in() { (cd "$1" && find . -type f ! -path ./MANIFEST ! -path ./MANIFEST.sha256 | LC_ALL=C sort); }

# A name in a manifest stands behind 64 digits and two spaces.
listed_in() { cut -c 67- "$1/MANIFEST" | LC_ALL=C sort; }

# The objects of a backup with their numbers on the disk: what is the same in two of them is one file.
objects_in() { (cd "$1" && find ./files -type f -printf '%i %p\n' 2>/dev/null | LC_ALL=C sort); }

manifest_is_whole() { (cd "$1" 2>/dev/null && [ -f MANIFEST ] && LC_ALL=C sha256sum --status --strict -c MANIFEST.sha256 2>/dev/null); }

# write_manifest NEW [LAST]: what is one file with the last backup's keeps the sum that it has there. So a copy that went bad on the disk is never called
# good, and a night reads what is new and not all there is.
write_manifest() {
  local new=$1 last=${2:-} odd
  odd=$(find "$new" \( ! -type f ! -type d -o -name $'*[\\\\\n]*' \) -print -quit) || return
  [ -z "$odd" ] || { say "this is no plain file, or has a name that no list can hold: $odd"; return 1; }
  : >"$new/MANIFEST" || return
  if [ -n "$last" ]; then
    awk 'NR == FNR { linked[$0]; next } substr($0, 67) in linked' <(LC_ALL=C comm -12 <(objects_in "$last") <(objects_in "$new") | cut -d ' ' -f 2-) \
      "$last/MANIFEST" >"$new/MANIFEST" || return
  fi
  # sort has read the manifest to its end before the first sum is added to it.
  (
    cd "$new" && LC_ALL=C comm -23 <(files_in .) <(listed_in .) | tr '\n' '\0' | xargs -0r sha256sum -- >>MANIFEST &&
      cmp <(files_in .) <(listed_in .) && sha256sum MANIFEST >MANIFEST.sha256
  )
}

# Says each difference between a backup and its manifest; fails where there is one.
check_manifest() {
  local backup=$1 found sums path is_whole=yes
  manifest_is_whole "$backup" || { say 'damaged: MANIFEST, or MANIFEST.sha256'; return 1; }
  found=$(
    LC_ALL=C comm -23 <(listed_in "$backup") <(files_in "$backup") | sed 's|^\./|missing: |'
    LC_ALL=C comm -13 <(listed_in "$backup") <(files_in "$backup") | sed 's|^\./|not of this backup: |'
    cd "$backup" && find . ! -type f ! -type d | sed 's|^\./|no plain file: |'
  ) || is_whole=''
  [ -z "$found" ] || { is_whole=''; say "$found"; }
  # Its exit code counts even if it names nothing: it may have been killed.
  sums=$(cd "$backup" && LC_ALL=C sha256sum --quiet --strict -c MANIFEST 2>/dev/null) || is_whole=''
  while IFS= read -r path; do
    case $path in
      *': FAILED') path=${path%: FAILED} && say "damaged: ${path#./}" ;;
      # What is missing was named above.
      *': FAILED open or read') path=${path%: FAILED open or read} && { [ ! -e "$backup/$path" ] || say "cannot be read: ${path#./}"; } ;;
    esac
  done <<<"$sums"
  [ -n "$is_whole" ]
}
