// What is read of a key, and what became of a write.

import { Code, Conflict, refusedHere } from "./errors";
import type { DeleteResponse__Output } from "./generated/stator/v1/DeleteResponse";
import type { GetResponse__Output } from "./generated/stator/v1/GetResponse";
import type { MergeInfo__Output } from "./generated/stator/v1/MergeInfo";
import type { PutResponse__Output } from "./generated/stator/v1/PutResponse";
import type { Version__Output } from "./generated/stator/v1/Version";

/** One version of a key. */
export interface Version {
  /** Absent for a delete, and where only the metadata was asked for. */
  readonly value: Buffer | undefined;
  readonly isTombstone: boolean;
  /** The writes that it stands for, as NODE.INCARNATION.EPOCH:COUNTER. */
  readonly dots: readonly string[];
  /** Milliseconds since 1970 (UTC). */
  readonly writtenAtMs: number;
  /** The same; absent: never. */
  readonly expiresAtMs: number | undefined;
  /** The number that its writer gave the format of the value; 0 if none. */
  readonly schema: number;
  readonly labels: Readonly<Record<string, string>>;
  /** The size of the value. */
  readonly valueBytes: number;
  /** The digest of the module that made it out of several; absent if a client wrote it. */
  readonly mergedBy: string | undefined;
}

/** What the keyspace's policy did for an answer. */
export interface Merge {
  /** Empty for built-in policies. */
  readonly moduleDigest: string;
  /** How many siblings there were. */
  readonly siblingCount: number;
  /** Whether several siblings became one answer. */
  readonly isMerged: boolean;
  /** Why the module gave no answer. */
  readonly failure: string | undefined;
  /** The module's remark. */
  readonly note: string | undefined;
}

/** A key as it was read: its value, or its siblings, and the context to write with. */
export class Versions {
  /**
   * What was read, in dot order: none for an absent key, several for a conflict that the keyspace's
   * policy did not settle. A delete that others know nothing of is one of them.
   */
  readonly siblings: readonly Version[];
  /** Absent where the siblings were asked for as they are stored. */
  readonly merge: Merge | undefined;
  readonly #context: Buffer | undefined;

  constructor(
    readonly keyspace: string,
    readonly key: Buffer,
    answer: Pick<GetResponse__Output, "versions" | "context" | "merge">,
  ) {
    this.siblings = answer.versions.map(version);
    this.merge = answer.merge === null ? undefined : merge(answer.merge);
    this.#context = answer.context;
  }

  /**
   * The value; absent if the key is absent or deleted. Throws `Conflict` if there are several, so
   * that none is overwritten unseen.
   */
  get value(): Buffer | undefined {
    if (this.siblings.length > 1) {
      const why = this.merge?.failure === undefined ? "" : ` (${this.merge.failure})`;
      const count = this.siblings.length;
      const message = `the key has ${count} siblings${why}: settle them, see \`siblings\``;
      throw new Conflict({ code: Code.FAILED_PRECONDITION, message, reason: "SIBLINGS" });
    }
    return this.siblings[0]?.value;
  }

  /** The value as UTF-8. */
  get text(): string | undefined {
    return this.value?.toString();
  }

  /** The values of all siblings. */
  get values(): Buffer[] {
    return this.siblings.flatMap(({ value }) => (value === undefined ? [] : [value]));
  }

  /**
   * What was seen. A put or delete with it replaces exactly these versions. Throws `Refused`
   * (`NO_CONTEXT`) if the answer could not carry every sibling: then nothing may be replaced by it.
   */
  get context(): Buffer {
    if (this.#context === undefined) {
      const message =
        "the answer could not carry every sibling, so nothing may be replaced by it; " +
        "read the metadata, and make the values smaller";
      throw refusedHere("NO_CONTEXT", message);
    }
    return this.#context;
  }
}

/** A write that was acknowledged. */
export interface Written {
  /** Its name, as NODE.INCARNATION.EPOCH:COUNTER. */
  readonly dot: string;
  /** Whether other versions are left beside it, which its context did not cover. */
  readonly siblingsRemain: boolean;
  /** How many distinct nodes hold it. */
  readonly acked: number;
  /** How many of them keep it for an absent owner. */
  readonly hinted: number;
  /** To write on with, without another get. Only if no other version is left. */
  readonly context: Buffer | undefined;
}

export function written(answer: PutResponse__Output | DeleteResponse__Output): Written {
  const { dot, siblingsRemain, acked, hinted, context } = answer;
  return { dot, siblingsRemain, acked, hinted, context };
}

function version(version: Version__Output): Version {
  const { value, dots, writtenAtMs, expiresAtMs, schema, labels, valueBytes } = version;
  const mergedBy = version.origin?.merge?.moduleDigest;
  const isTombstone = version.tombstone;
  return {
    value,
    isTombstone,
    dots,
    writtenAtMs,
    expiresAtMs,
    schema,
    labels,
    valueBytes,
    mergedBy,
  };
}

function merge(info: MergeInfo__Output): Merge {
  const { moduleDigest, siblingCount, merged, failure, note } = info;
  return {
    moduleDigest,
    siblingCount,
    isMerged: merged,
    failure: failure || undefined,
    note: note || undefined,
  };
}
