#!/bin/sh
# Makes out/new-merge.wasm, about 15 KB. Needs node, and npm with the network once; ASC=PROGRAM uses
# a compiler that is installed.
set -eu
cd "$(dirname "$0")"
if [ -z "${ASC:-}" ]; then
  ASC=node_modules/.bin/asc
  [ -x "$ASC" ] || npm install --no-save --no-audit --no-fund assemblyscript@0.28.20
fi
mkdir -p out
# Nothing is ever freed (an instance lives for one call), and what aborts says so in the log.
"$ASC" assembly/index.ts -O3 --runtime stub --use abort=assembly/stator/abort -o out/core.wasm
stator module encode out/core.wasm --out out/new-merge.wasm
