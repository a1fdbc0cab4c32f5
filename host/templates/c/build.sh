#!/bin/sh
# Makes out/new-merge.wasm, about 40 KB. Needs clang, lld and a libc for wasm32-wasi; of Debian:
# clang-19 lld-19 wasi-libc libclang-rt-19-dev-wasm32. CC=PROGRAM takes another compiler, such as
# CC="python3 -m ziglang cc" with ziglang of PyPI.
set -eu
cd "$(dirname "$0")"
mkdir -p out
${CC:-clang-19} --target=wasm32-wasi -mexec-model=reactor -O2 -Wall -Wl,--strip-all -Istator \
  src/*.c stator/stator.c -o out/core.wasm
stator module encode out/core.wasm --out out/new-merge.wasm
