import type { FullRecord } from './full-record.ts'

/** What the instance ends with when an earlier command of the same lock began it and left no word of how it ended. */
export const UNKNOWN_STATUS = 76

/** A word of POSIX sh (Shell Command Language, 2.2.2 Single-Quotes). No `{{`, which Systems Manager would take for a parameter of its own. */
const quoted = (word: string): string => `'${word.replaceAll("'", `'\\''`).replace(/\{(?=\{)/g, "{''")}'`

/**
 * A line for `sh` on an instance: runs the image of a service, as its container has it, with another command. A file named by the lock says that it was begun:
 * who comes second waits for the first and ends as it did, or with UNKNOWN_STATUS when that left no word (a reboot). Other statuses are the command's own
 * (docker-run(1), "Exit status").
 */
export const migrateLine = ({ service, command, lock }: NonNullable<FullRecord['migrate']>): string =>
  ['bash', '-c', SCRIPT, 'bake-migrate', lock, `bake-${service}`, ...command].map(quoted).join(' ')

/**
 * Systems Manager keeps the first 24,000 characters of what a command says, so the last lines of more are told as errors too. Variables are those of the service's container, wherever it has them from: in a file, but for those of several lines, which such a file can't hold.
 */
const SCRIPT = String.raw`
set -uo pipefail
umask 077
kept=${'$'}{BAKE_KEPT:-/var/lib/bake}/migrate lock=$1 container=$2
shift 2
last_words() {
  [ "$(wc -c <"$kept/$lock.output")" -le 20000 ] || tail -n 5 "$kept/$lock.output" | tail -c 2000 >&2
}
mkdir -p "$kept" && exec 9>>"$kept/$lock" && flock 9 || exit ${UNKNOWN_STATUS}
if [ -e "$kept/$lock.begun" ]; then
  [ -s "$kept/$lock.status" ] || { echo 'it was begun before, and left no word of how it ended' >&2; exit ${UNKNOWN_STATUS}; }
  cat "$kept/$lock.output"
  last_words
  exit "$(<"$kept/$lock.status")"
fi
: >"$kept/$lock.begun" && sync "$kept/$lock.begun" "$kept" || exit ${UNKNOWN_STATUS}

run() {
  local image user pair variables options
  image=$(docker inspect --format '{{.Config.Image}}' "$container") || return
  user=$(docker inspect --format '{{.Config.User}}' "$container") || return
  variables=$(mktemp -p "${'$'}{BAKE_RUN:-/run}" bake-migrate.XXXXXX) || return
  trap 'rm -f "$variables"' EXIT
  options=(--rm --pull=never --name=bake-migrate "--volumes-from=$container" "--env-file=$variables")
  [ -z "$user" ] || options+=("--user=$user")
  while IFS= read -r -d '' pair; do
    case $pair in
      *$'\n'*) export "${'$'}{pair?}"; options+=("--env=${'$'}{pair%%=*}") ;;
      *) printf '%s\n' "$pair" >>"$variables" ;;
    esac
  done < <(docker inspect --format '{{range .Config.Env}}{{printf "%s\x00" .}}{{end}}' "$container")
  docker run "${'$'}{options[@]}" "$image" "$@"
}
run "$@" 2>&1 | tee "$kept/$lock.output"
status=${'$'}{PIPESTATUS[0]}
echo "$status" >"$kept/$lock.new" && mv "$kept/$lock.new" "$kept/$lock.status"
last_words
exit "$status"
`
