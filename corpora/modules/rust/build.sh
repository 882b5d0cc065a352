#!/bin/sh
# Builds the programs into the folder above: `rustup target add wasm32-unknown-unknown` first. Nobody else needs that target,
# because the modules are in the repository.
set -eu
cd "$(dirname "$0")"
target="${CARGO_TARGET_DIR:-../../../target/honest-modules}"
cargo build --release --locked --examples --target wasm32-unknown-unknown --target-dir "$target"
for example in examples/*.rs; do
  name="$(basename "$example" .rs)"
  cp "$target/wasm32-unknown-unknown/release/examples/$name.wasm" ..
  chmod 644 "../$name.wasm"
done
