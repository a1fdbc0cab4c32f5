// What a module and its host say to each other, laid out by hand as the canonical ABI of components
// wants it: AssemblyScript has no generator of bindings. `stator module wit` prints what is meant.

// Bytes where they lie. Strings are UTF-16 here, so text from outside stays bytes.
export class Bytes {
  constructor(public at: usize, public length: i32) {}

  static of(text: string): Bytes {
    const utf8 = String.UTF8.encode(text);
    return new Bytes(changetype<usize>(utf8), utf8.byteLength);
  }

  get(index: i32): u8 {
    return load<u8>(this.at + index);
  }

  compare(other: Bytes): i32 {
    const order = memory.compare(this.at, other.at, min(this.length, other.length));
    return order != 0 ? order : this.length - other.length;
  }

  toString(): string {
    return String.UTF8.decodeUnsafe(this.at, this.length);
  }
}

// Bytes that grow at their end.
export class Buffer {
  private at: usize = heap.alloc(256);
  private room: i32 = 256;
  private length: i32 = 0;

  push(byte: u8): void {
    this.reserve(1);
    store<u8>(this.at + this.length++, byte);
  }

  put(bytes: Bytes): void {
    this.reserve(bytes.length);
    memory.copy(this.at + this.length, bytes.at, bytes.length);
    this.length += bytes.length;
  }

  text(text: string): void {
    this.put(Bytes.of(text));
  }

  bytes(): Bytes {
    return new Bytes(this.at, this.length);
  }

  private reserve(more: i32): void {
    if (this.length + more <= this.room) return;
    this.room = max(2 * this.room, this.length + more);
    const at = heap.alloc(this.room);
    memory.copy(at, this.at, this.length);
    this.at = at;
  }
}

export class Version {
  // A version without a value is a delete.
  constructor(public value: Bytes | null, public schema: u32 = 0, public writtenAtMs: u64 = 0) {}
}

export enum Ancestor { Unknown, Absent, Known }

export class Divergence {
  ancestorIs: Ancestor = Ancestor.Unknown;
  ancestor: Version | null = null; // if known

  constructor(public keyspace: Bytes, public key: Bytes, public siblings: Version[]) {}
}

export enum Outcome { Value, Delete, KeepSiblings }
export enum Reason { UnknownSchema, Malformed, Unresolvable }

// What `merge` answers: an outcome, or why there is none.
export class Answer {
  outcome: Outcome = Outcome.Value;
  bytes: Bytes | null = null; // the value, or the failure's message
  failed: bool = false;
  reason: Reason = Reason.Unresolvable;
  sibling: i32 = -1;

  static value(value: Bytes): Answer {
    const answer = new Answer();
    answer.bytes = value;
    return answer;
  }

  static of(outcome: Outcome): Answer {
    const answer = new Answer();
    answer.outcome = outcome;
    return answer;
  }

  static failure(reason: Reason, sibling: i32, message: string): Answer {
    const answer = new Answer();
    answer.failed = true;
    answer.reason = reason;
    answer.sibling = sibling;
    answer.bytes = Bytes.of(message);
    return answer;
  }
}

// Lines in the node's log: 0 is debug, 1 info, 2 warn.
// @ts-ignore: decorator
@external("stator:merge/log@0.1.0", "write")
declare function write(level: i32, at: usize, bytes: i32): void;

export function log(level: i32, message: string): void {
  const line = Bytes.of(message);
  write(level, line.at, line.length);
}

// What AssemblyScript calls where a program cannot go on: the reader gets these words.
export function abort(message: string | null, file: string | null, line: u32, _column: u32): void {
  const what = message ? message : 'abort';
  const where = file ? file : '';
  log(2, what + ' at ' + where + ':' + line.toString());
  unreachable();
}
