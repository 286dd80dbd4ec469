#!/usr/bin/env bash
# Proves the unit under a real systemd: systemd/test.sh <learnsync binary>
# Makes a Debian tree in memory, boots it with systemd-nspawn, installs by the commands of README.md, and kills, reloads, reboots.
# Needs root, and Debian's packages for what is missing (mmdebstrap, systemd-container, eatmydata). Every wait has an end.
# Ends with 1 when the unit does not hold, with 77 when this machine cannot make or boot a plain tree.
set -euo pipefail
exec </dev/null

binary=$(realpath "$1")
here=$(realpath "$(dirname "$0")")
root=$(mktemp -d /dev/shm/learnsync-unit.XXXXXX)
suite=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
token=a-token-of-sixteen-or-more
nspawn=
leader=
# The status of a failure: until a plain tree is up, it is this machine that cannot, and not our unit.
failed=77

say() { echo "-- $*"; }

fail() {
  echo "FAILED: $*" >&2
  if [[ -n $leader ]]; then inside journalctl -u learnsync --no-pager -n 40 >&2 || true; fi
  exit "$failed"
}

# Runs a command in the tree's system.
inside() {
  nsenter -t "$leader" -m -u -i -p -n -C -- env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 "$@"
}

# Waits until a command succeeds: within <seconds> <what> <command...>
within() {
  local end=$((SECONDS + $1)) what=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    if ((SECONDS >= end)); then fail "waited in vain: $what"; fi
    sleep 0.1
  done
}

clean_up() {
  if [[ -n $nspawn ]] && kill -0 "$nspawn" 2>/dev/null; then kill -KILL "$nspawn" || true; fi
  rm -rf --one-file-system "$root" "$root.console"
}
trap clean_up EXIT

tools() {
  local missing=()
  command -v mmdebstrap >/dev/null || missing+=(mmdebstrap)
  command -v systemd-nspawn >/dev/null || missing+=(systemd-container)
  command -v eatmydata >/dev/null || missing+=(eatmydata)
  if [[ ${#missing[@]} == 0 ]]; then return; fi
  apt-get -o DPkg::Lock::Timeout=300 update -qq
  DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -qq -y --no-install-recommends "${missing[@]}" >/dev/null
}

# procps has /usr/bin/kill, for ExecReload.
tree() {
  eatmydata mmdebstrap --quiet --variant=minbase --dpkgopt=force-unsafe-io \
    --include=systemd,systemd-sysv,dbus,procps,curl "$suite" "$root"
  : >"$root/etc/machine-id"
  # Without it the journal of a container is lost with its life.
  mkdir -p "$root/var/log/journal"
  mkdir -p "$root/opt/learnsync/target/release"
  cp -r "$here" "$root/opt/learnsync/systemd"
  cp "$binary" "$root/opt/learnsync/target/release/learnsync"
}

boot() {
  setsid systemd-nspawn -q -D "$root" --private-network --register=no --keep-unit --boot </dev/null >"$root.console" 2>&1 &
  nspawn=$!
  leader=
  within 20 "systemd to begin" find_leader
  within 60 "systemd to be up" is_up
}

find_leader() {
  local child
  for child in $(cat "/proc/$nspawn/task/$nspawn/children"); do
    if [[ $(cat "/proc/$child/comm") == systemd ]]; then leader=$child; fi
  done
  [[ -n $leader ]]
}

is_up() { inside systemctl is-system-running | grep -qE '^(running|degraded)$'; }

power_off() {
  # The bus goes down with the system, and systemctl may lose its answer.
  inside systemctl poweroff 2>/dev/null || true
  within 30 "the system to power off" is_off
  wait "$nspawn" || true
  nspawn=
}

is_off() { ! kill -0 "$nspawn" 2>/dev/null; }

# The commands of README.md, but for the questions of init: their answers are these files.
install_it() {
  local command
  while read -r command; do
    case $command in
    "learnsync init"*) configure ;;
    *) inside bash -ec "cd /opt/learnsync; $command" || fail "README.md: $command" ;;
    esac
  done < <(sed -n '/^## Install in five commands/,/^In /s/^    //p' "$here/README.md")
}

# A portal that nobody answers for, and no destination: what is asked of the unit needs neither.
configure() {
  local name
  write_config "http://127.0.0.1:9"
  for name in absorb_api_key absorb_password webhook_token; do
    inside install -D -m 600 /dev/null "/etc/credstore/$name"
    echo "$token" >"$root/etc/credstore/$name"
  done
}

write_config() {
  cat >"$root/etc/learnsync/learnsync.toml" <<TOML
installation = "unit"
store.path = "/var/lib/learnsync"
admin.listen = "unix:/run/learnsync/admin.sock"

[portals.main]
url = "$1"
username = "learnsync"
api_key = { credential = "absorb_api_key" }
password = { credential = "absorb_password" }
webhook_token = { credential = "webhook_token" }
TOML
}

property() { inside systemctl show learnsync -p "$1" --value; }
is() { [[ $(property "$1") == "$2" ]]; }
is_active() { is ActiveState active; }
admin() { inside curl -sS --max-time 10 --unix-socket /run/learnsync/admin.sock "http://localhost$1"; }
hook() { inside curl -sS --max-time 10 -d '{"eventName":"CourseCompleted"}' "http://127.0.0.1:8480/hooks/main/$token"; }
events() { inside runuser -u learnsync -- learnsync status --json | sed -n 's/^  "events": \([0-9]*\),$/\1/p'; }
# One line of JSON for each entry that has this text.
journal() { inside journalctl -u learnsync -o json --no-pager | grep -F -- "$1"; }

expect() {
  local what=$1 expected=$2 found=$3
  if [[ $found != "$expected" ]]; then fail "$what: \"$found\", not \"$expected\""; fi
}

ready_when_started() {
  # The very first question is answered: the start returned after the port was bound.
  expect "a webhook" '{"status":"accepted"}' "$(hook)"
  expect "/readyz" '{"status":"ready"}' "$(admin /readyz)"
  expect "the state" active "$(property ActiveState)"
  property StatusText | grep -q "takes webhooks of main on 127.0.0.1:8480" || fail "no status: $(property StatusText)"
  local ready started
  ready=$(journal "learnsync is ready" | sed 's/.*"__MONOTONIC_TIMESTAMP":"\([0-9]*\)".*/\1/')
  started=$(journal '"MESSAGE":"Started' | sed 's/.*"__MONOTONIC_TIMESTAMP":"\([0-9]*\)".*/\1/')
  ((started >= ready)) || fail "systemd called it started at $started, before it was ready at $ready"
  say "active only after READY, /readyz 200, a webhook answered"
}

has_no_rights() {
  local status
  status=$(inside cat "/proc/$(property MainPID)/status")
  grep -q '^CapEff:\s*0*$' <<<"$status" || fail "it has capabilities"
  grep -q '^NoNewPrivs:\s*1$' <<<"$status" || fail "it may gain privileges"
  grep -q '^Seccomp:\s*2$' <<<"$status" || fail "system calls are not filtered"
  expect "the owner of the ledger" "learnsync 600" "$(inside stat -c '%U %a' /var/lib/learnsync/learnsync.db)"
  say "no capabilities, filtered system calls, a private ledger"
}

survives_a_kill() {
  local pid
  pid=$(property MainPID)
  inside systemctl kill -s KILL --kill-whom=main learnsync
  within 20 "a new life" eval "is_active && [[ \$(property MainPID) != $pid ]]"
  expect "restarts" 1 "$(property NRestarts)"
  expect "events after kill -9" 1 "$(events)"
  say "kill -9: a new life, and the event is there"
}

reloads_or_says_why() {
  local pid
  pid=$(property MainPID)
  write_config "ftp://example.org"
  inside systemctl reload learnsync
  within 20 "the reason in the journal" journal "portals.main.url: "
  journal "is not taken over" | grep -F '"PRIORITY":"3"' | grep -qF '"LEARNSYNC_ERRORS":"1"' || fail "no fields: $(journal "is not taken over")"
  within 20 "the end of the reload" is_active
  expect "the process" "$pid" "$(property MainPID)"
  expect "a webhook after a wrong reload" '{"status":"accepted"}' "$(hook)"
  write_config "http://127.0.0.1:10"
  inside systemctl reload learnsync
  within 20 "the new configuration" journal "The new configuration is in force"
  within 20 "the end of the reload" is_active
  expect "the process" "$pid" "$(property MainPID)"
  say "SIGHUP: a wrong file changes nothing and says why, with fields; a right one is taken over by the same process"
}

stops_clean() {
  inside systemctl stop learnsync
  expect "the state" inactive "$(property ActiveState)"
  expect "the result" success "$(property Result)"
  expect "the exit status" 0 "$(property ExecMainStatus)"
  say "SIGTERM: clean"
}

keeps_the_ledger_over_a_reboot() {
  power_off
  boot
  within 20 "the daemon after the boot" is_active
  expect "events after the reboot" 2 "$(events)"
  say "a reboot keeps the ledger"
}

is_ended_when_it_hangs() {
  inside mkdir -p /run/systemd/system/learnsync.service.d
  printf '[Service]\nWatchdogSec=2s\n' >"$root/watchdog.conf"
  inside cp /watchdog.conf /run/systemd/system/learnsync.service.d/
  inside systemctl daemon-reload
  inside systemctl restart learnsync
  inside systemctl kill -s STOP --kill-whom=main learnsync
  within 30 "the watchdog" journal "Watchdog timeout"
  within 30 "a new life" eval "is_active && [[ \$(property NRestarts) == 1 ]]"
  say "a process that hangs is ended by the watchdog and started again"
}

gives_up_on_a_wrong_configuration() {
  write_config "ftp://example.org"
  if inside systemctl restart learnsync 2>/dev/null; then fail "it started with a wrong configuration"; fi
  within 20 "a clear failure" is ActiveState failed
  # Three times RestartSec: a loop would show.
  sleep 3
  expect "the state" failed "$(property ActiveState)"
  expect "the result" exit-code "$(property Result)"
  expect "the exit status" 2 "$(property ExecMainStatus)"
  expect "restarts" 0 "$(property NRestarts)"
  journal "portals.main.url: " >/dev/null || fail "the reason is not in the journal"
  say "a wrong portal: failed with status 2, no restart, the reason in the journal"
}

if [[ $(id -u) != 0 ]]; then fail "needs root to boot a system; run it as root"; fi
# A command that fails for itself is a failure of the same kind.
set -E
trap 'exit "$failed"' ERR
tools
tree
say "a Debian $suite tree after $SECONDS s"
boot
failed=1
install_it
expect "systemd-analyze verify" "" "$(inside systemd-analyze verify --man=no learnsync.service 2>&1)"
ready_when_started
has_no_rights
survives_a_kill
reloads_or_says_why
stops_clean
inside systemctl start learnsync
keeps_the_ledger_over_a_reboot
is_ended_when_it_hangs
gives_up_on_a_wrong_configuration
power_off
say "the unit holds, after $SECONDS s"
