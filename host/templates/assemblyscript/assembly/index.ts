// What the host calls, flat as it calls it, and the way to `merge.ts`. An instance lives for one
// call, so nothing is ever freed.

import { merge, preserves as isPreserved, sample } from './merge';
import { Ancestor, Answer, Bytes, Divergence, Outcome, Version } from './stator';

// Sizes of a version and a divergence in memory.
const VERSION: usize = 24;
const DIVERGENCE: usize = 56;

// Memory for what the host passes in.
export function cabi_realloc(old: usize, oldBytes: usize, align: usize, bytes: usize): usize {
  const fresh = heap.alloc(bytes + align);
  const at = (fresh + align - 1) & ~(align - 1);
  memory.copy(at, old, min(oldBytes, bytes));
  return at;
}

export function resolve(
  keyspace: usize, keyspaceBytes: i32, key: usize, keyBytes: i32, siblings: usize, count: i32,
  ancestor: i32, hasValue: i32, value: usize, bytes: i32, schema: u32, writtenAtMs: u64,
): usize {
  return lowered(merge(lifted(
    new Bytes(keyspace, keyspaceBytes), new Bytes(key, keyBytes), siblings, count,
    ancestor, new Version(hasValue ? new Bytes(value, bytes) : null, schema, writtenAtMs),
  )));
}

export function samples(seed: u64, count: i32): usize {
  const list = heap.alloc(usize(count) * DIVERGENCE + 8);
  const first = (list + 7) & ~7;
  memory.fill(first, 0, usize(count) * DIVERGENCE);
  for (let n = 0; n < count; n++) store_divergence(first + usize(n) * DIVERGENCE, sample(seed, n));
  const answer = heap.alloc(8);
  store<u32>(answer, u32(first));
  store<u32>(answer, count, 4);
  return answer;
}

export function preserves(
  keyspace: usize, keyspaceBytes: i32, key: usize, keyBytes: i32, siblings: usize, count: i32,
  ancestor: i32, hasValue: i32, value: usize, bytes: i32, schema: u32, writtenAtMs: u64,
  outcome: i32, after: usize, afterBytes: i32,
): usize {
  const before = lifted(
    new Bytes(keyspace, keyspaceBytes), new Bytes(key, keyBytes), siblings, count,
    ancestor, new Version(hasValue ? new Bytes(value, bytes) : null, schema, writtenAtMs),
  );
  const why = isPreserved(before, outcome == Outcome.Value ? new Bytes(after, afterBytes) : null);
  const answer = heap.alloc(12);
  memory.fill(answer, 0, 12);
  if (why != null) {
    store<u8>(answer, 1);
    store_bytes(answer + 4, Bytes.of(why));
  }
  return answer;
}

function lifted(
  keyspace: Bytes, key: Bytes, siblings: usize, count: i32, ancestor: i32, known: Version,
): Divergence {
  const versions = new Array<Version>();
  for (let n = 0; n < count; n++) {
    const at = siblings + usize(n) * VERSION;
    const value = load<u8>(at) ? new Bytes(load<u32>(at, 4), load<u32>(at, 8)) : null;
    versions.push(new Version(value, load<u32>(at, 12), load<u64>(at, 16)));
  }
  const divergence = new Divergence(keyspace, key, versions);
  divergence.ancestorIs = ancestor;
  if (ancestor == Ancestor.Known) divergence.ancestor = known;
  return divergence;
}

// A result: 0 or 1, then outcome, note and events, or reason, sibling and message.
function lowered(answer: Answer): usize {
  const at = heap.alloc(40);
  memory.fill(at, 0, 40);
  if (answer.failed) {
    store<u8>(at, 1);
    store<u8>(at, u8(answer.reason), 4);
    if (answer.sibling >= 0) {
      store<u8>(at, 1, 8);
      store<u32>(at, answer.sibling, 12);
    }
    store_bytes(at + 16, answer.bytes);
  } else {
    store<u8>(at, u8(answer.outcome), 4);
    store_bytes(at + 8, answer.bytes);
  }
  return at;
}

function store_divergence(at: usize, divergence: Divergence): void {
  store_bytes(at, divergence.keyspace);
  store_bytes(at + 8, divergence.key);
  const siblings = divergence.siblings;
  const list = (heap.alloc(usize(siblings.length) * VERSION + 8) + 7) & ~7;
  for (let n = 0; n < siblings.length; n++) store_version(list + usize(n) * VERSION, siblings[n]);
  store<u32>(at, u32(list), 16);
  store<u32>(at, siblings.length, 20);
  store<u8>(at, u8(divergence.ancestorIs), 24);
  const ancestor = divergence.ancestor;
  if (ancestor) store_version(at + 32, ancestor);
}

function store_version(at: usize, version: Version): void {
  memory.fill(at, 0, VERSION);
  store<u8>(at, version.value ? 1 : 0);
  store_bytes(at + 4, version.value);
  store<u32>(at, version.schema, 12);
  store<u64>(at, version.writtenAtMs, 16);
}

function store_bytes(at: usize, bytes: Bytes | null): void {
  if (!bytes) return;
  store<u32>(at, u32(bytes.at));
  store<u32>(at, bytes.length, 4);
}
