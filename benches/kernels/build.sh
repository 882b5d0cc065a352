#!/bin/sh
# Builds the kernels into modules/: `rustup target add wasm32-unknown-unknown` first. Nobody else needs that target, because the
# modules are in the repository.
set -eu
cd "$(dirname "$0")"
target="${CARGO_TARGET_DIR:-../../target/kernels}"
cargo build --release --locked --examples --target wasm32-unknown-unknown --target-dir "$target"
mkdir -p modules
for example in examples/*.rs; do
  name="$(basename "$example" .rs)"
  cp "$target/wasm32-unknown-unknown/release/examples/$name.wasm" modules/
  chmod 644 "modules/$name.wasm"
done
