#!/bin/bash
# Builds every fuzz target to $OUT, with its seeds and its options, as ClusterFuzzLite and OSS-Fuzz call it.
#   SRC=… OUT=… SANITIZER=address bash .clusterfuzzlite/build.sh
set -euo pipefail
cd "$SRC/stockade"

# The environment says which flags; coverage is not a sanitizer of cargo-fuzz's.
sanitizer=${SANITIZER:-address}
[[ $sanitizer != coverage ]] || sanitizer=none
# Assertions stay: an overflow in a guard is a finding.
RUSTC_WRAPPER=$PWD/ci/fuzz-rustc cargo fuzz build --fuzz-dir fuzz -O -a --sanitizer "$sanitizer"

built=${CARGO_TARGET_DIR:-target}/x86_64-unknown-linux-gnu/release
for program in fuzz/fuzz_targets/*.rs; do
  target=$(basename -s .rs "$program")
  # It is there to be found: it would be reported for ever.
  [[ $target != canary ]] || continue
  cp -- "$built/$target" "$OUT/"
  printf '[libfuzzer]\nmax_len = 4096\nlen_control = 0\ntimeout = 10\n' >"$OUT/$target.options"
  seeds=$(mktemp -d)
  STOCKADE_FUZZ_SEEDS=$seeds "$built/$target"
  [[ -z $(ls -A "$seeds") ]] || zip -jqr "$OUT/${target}_seed_corpus.zip" "$seeds"
  rm -r "$seeds"
done
