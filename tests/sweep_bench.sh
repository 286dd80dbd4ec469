#!/usr/bin/env bash
# A night's sweep by whole lists of a large portal: its wall time as a ratio to only transferring and parsing the same pages, and the peak memory of
# the process that sweeps. The sandbox is another process; nothing but loopback. Not part of CI: with its numbers it takes some minutes.
#
#   tests/sweep_bench.sh [learners] [courses] [enrolments] [ratio allowed] [MB allowed]
set -euo pipefail
cd "$(dirname "$0")/.."
export LEARNERS=${1:-100000} COURSES=${2:-500} ENROLMENTS=${3:-1000000}
ratio_max=${4:-2.0} peak_max=${5:-64}
said=$(mktemp)
trap 'rm -f "$said"' EXIT
cargo test --release --locked --test sweep_bench -- --ignored --nocapture | tee "$said"
ratio=$(awk '/^median ratio/ { print $3 + 0 }' "$said") peak=$(awk '/^peak memory/ { print $3 }' "$said")
within=1
if (($(echo "$ratio > $ratio_max" | bc))); then echo "too slow: $ratio, $ratio_max is allowed" && within=0; fi
if (($(echo "$peak > $peak_max" | bc))); then echo "too much memory: $peak MB, $peak_max are allowed" && within=0; fi
((within))
