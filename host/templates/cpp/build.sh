#!/bin/sh
# Makes out/new-merge.wasm, about 150 KB. Needs clang, lld, a libc and libc++ for wasm32-wasi; of
# Debian: clang-19 lld-19 wasi-libc libclang-rt-19-dev-wasm32 libc++-19-dev-wasm32
# libc++abi-19-dev-wasm32. CC and CXX take other compilers.
set -eu
cd "$(dirname "$0")"
mkdir -p out
flags="--target=wasm32-wasi -O2 -Wall -Istator"
${CC:-clang-19} $flags -c stator/stator.c -o out/stator.o
${CXX:-clang++-19} $flags -std=c++20 -fno-exceptions -mexec-model=reactor -Wl,--strip-all \
  src/*.cpp out/stator.o -o out/core.wasm
stator module encode out/core.wasm --out out/new-merge.wasm
