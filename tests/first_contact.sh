#!/usr/bin/env bash
# The first contact with a large portal: how many calls, how much memory, how much of the rate. Sandbox and daemon are two processes of the release
# build; nothing but loopback. Not part of CI: with its numbers it takes a quarter of an hour.
#
#   cargo build --release && tests/first_contact.sh [learners] [courses] [enrolments] [calls a second]
set -euo pipefail
cd "$(dirname "$0")/.."
learners=${1:-100000} courses=${2:-500} enrolments=${3:-1000000} rate=${4:-150}
learnsync=$PWD/${CARGO_TARGET_DIR:-target}/release/learnsync
folder=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; wait; rm -rf "$folder"' EXIT
cd "$folder"
mkdir out

"$learnsync" sandbox --port-base 18490 --learners "$learners" --courses "$courses" --enrollments "$enrolments" --quirk competencies=404 >sandbox.log &
until grep -q "second terminal" sandbox.log; do sleep 1; done
cat >learnsync.toml <<TOML
installation = "bench"
store.path = "$folder/store"
listen.address = "127.0.0.1:0"
[portals.main]
url = "http://127.0.0.1:18490"
username = "$(grep -o 'username [^ ]*' sandbox.log | head -n 1 | cut -d ' ' -f 2)"
api_key = { file = "credentials/absorb_api_key" }
password = { file = "credentials/absorb_password" }
webhook_token = { file = "credentials/webhook_token" }
calls_per_second_max = $rate
[destinations.out]
connector = "file"
history = "none"
settings = { folder = "out" }
[destinations.out.routes.completions]
record = "completion"
object = "completions"
TOML
"$learnsync" run --config learnsync.toml 2>daemon.log &
daemon=$!

metric() { curl -s --unix-socket store/admin.sock http://daemon/metrics | awk -v name="$1" '$1 ~ name { sum += $2 } END { printf "%d", sum }'; }
said() { grep -m 1 "$1" daemon.log | cut -d ' ' -f 1; }
seconds() { date -d "$1" +%s.%N; }

until grep -q "Backfill reads the learners" daemon.log; do sleep 1; done
calls_listed=$(metric lms_calls_total)
begin=$(date +%s.%N)
until grep -q "Backfill is done" daemon.log; do
  calls=$(metric lms_calls_total) now=$(date +%s.%N)
  sleep 5
done
listed=$(echo "$(seconds "$(said "Backfill reads the learners")") - $(seconds "$(said "for the first time")")" | bc)
total=$(metric lms_calls_total)
throttled=$(curl -s --unix-socket store/admin.sock http://daemon/metrics | awk '/lms_calls_total.*throttled/ { sum += $2 } END { printf "%d", sum }')
# A page of each thousand learners and of each course's thousand enrolments, the certificates of each learner; log-in, courses and probe besides.
per_course=$(((enrolments / courses + 999) / 1000))
formula=$((courses * per_course + learners))
peak=$(awk '/VmHWM/ { print $2 }' /proc/$daemon/status)
used=$(echo "($calls - $calls_listed) / ($now - $begin)" | bc -l)
"$learnsync" status --config learnsync.toml | head -n 20
printf '%s learners, %s courses, %s enrolments, %s calls a second allowed\n' "$learners" "$courses" "$enrolments" "$rate"
printf 'lists staged in     %.0f s\n' "$listed"
printf 'calls               %d, of which %d were throttled; by the formula %d (%+.2f %%)\n' "$total" "$throttled" "$formula" "$(echo "100 * ($total - $formula) / $formula" | bc -l)"
printf 'rate while reading  %.1f a second, %.1f %% of what is allowed\n' "$used" "$(echo "100 * $used / $rate" | bc -l)"
printf 'peak memory         %.1f MB (VmHWM)\n' "$(echo "$peak / 1000" | bc -l)"
within=1
if (($(echo "100 * ($total - $formula) / $formula > 5" | bc))); then echo "too many calls" && within=0; fi
if (($(echo "$used < 0.85 * $rate" | bc))); then echo "too little of the rate is used" && within=0; fi
if ((peak > 100000)); then echo "too much memory" && within=0; fi
((within))
