// Whom a request for a key goes to: one of its owners, where the client knows the ring.
//
// The ring is fetched from any node in the background: with the first request, every ten seconds while
// there are requests, and soon after a node has not answered. No request waits for it. Of a key's owners
// the one is asked that costs least (`pace`); of a write with a request id the first in order, because that
// one gives it its dot whoever is asked. Only owners to which a connection stands are asked so: where members
// cannot be dialled at the addresses that they tell, every request goes to the endpoints, as without a ring.

import { blake3 } from "@noble/hashes/blake3";

import { StatorError } from "./errors";
import type { GetRingRequest } from "./generated/stator/v1/GetRingRequest";
import type { GetRingResponse__Output } from "./generated/stator/v1/GetRingResponse";
import { now, Peer } from "./peer";

/** How old the ring may get, and how often it is fetched at most. */
const PERIOD_MS = 10_000;
const REST_MS = 500;
/** The function that gives keys their positions: the only one so far. */
const POSITION_HASH = 1;
const CONTEXT = new TextEncoder().encode("stator key position v1");

/** The partition of a key: the first bits of its position. There are at most 65,536. */
export function partitionOf(keyspaceId: bigint, key: Uint8Array, partitions: number): number {
  const hashed = new Uint8Array(8 + key.length);
  new DataView(hashed.buffer).setBigUint64(0, keyspaceId);
  hashed.set(key, 8);
  const position = blake3(hashed, { context: CONTEXT, dkLen: 16 });
  const first = new DataView(position.buffer, position.byteOffset).getUint32(0);
  return Math.floor((first / 2 ** 32) * partitions);
}

interface Route {
  readonly id: bigint;
  readonly n: number;
}

/** Who owns what. */
export class Ring {
  private constructor(
    readonly etag: string,
    readonly addresses: readonly string[],
    /** Per partition its owners in order, as places among the addresses. */
    private readonly owners: readonly (readonly number[])[],
    private readonly keyspaces: ReadonlyMap<string, Route>,
  ) {}

  /** The ring as a node tells it; nothing if it is not one that this client understands. */
  static read(told: GetRingResponse__Output): Ring | undefined {
    const { ring } = told;
    if (ring === null || ring.positionHash !== POSITION_HASH) return undefined;
    const packed = ring.packedOwners;
    const owners: number[][] = [];
    let at = 0;
    while (at < packed.length) {
      const end = at + 1 + 2 * packed.readUInt8(at);
      if (end > packed.length) return undefined;
      const places: number[] = [];
      for (let place = at + 1; place < end; place += 2) places.push(packed.readUInt16BE(place));
      owners.push(places);
      at = end;
    }
    const isPowerOfTwo = owners.length > 0 && (owners.length & (owners.length - 1)) === 0;
    const isKnown = (place: number) => place < ring.members.length;
    if (owners.length !== ring.partitions || !isPowerOfTwo || !owners.flat().every(isKnown)) {
      return undefined;
    }
    const isId = (id: string) => /^[0-9a-f]{16}$/.test(id);
    const named = ring.keyspaces.filter(({ id }) => isId(id));
    const routes = named.map(({ name, id, n }) => [name, { id: BigInt(`0x${id}`), n }] as const);
    const addresses = ring.members.map((member) => member.clientAddress);
    return new Ring(told.etag, addresses, owners, new Map(routes));
  }

  /** The addresses of a key's owners, in order; none of a keyspace that is not known. */
  ownersOf(keyspace: string, key: Uint8Array): string[] {
    const route = this.keyspaces.get(keyspace);
    if (route === undefined) return [];
    const owners = this.owners[partitionOf(route.id, key, this.owners.length)] ?? [];
    return owners.slice(0, route.n).map((place) => this.addresses[place] ?? "");
  }
}

/** The ring as far as it is known, and the ways to its members. */
export class Routes {
  readonly #given: readonly Peer[];
  readonly #endpoints: ReadonlyMap<string, Peer>;
  readonly #peers: Map<string, Peer>;
  readonly #dial: (address: string) => Peer;
  readonly #fetch: (request: GetRingRequest) => Promise<GetRingResponse__Output>;
  #ring: Ring | undefined;
  #fetchedAt = Number.NEGATIVE_INFINITY;
  #isStale = false;
  #isFetching = false;
  #isClosed = false;

  constructor(
    endpoints: readonly Peer[],
    dial: (address: string) => Peer,
    fetch: (request: GetRingRequest) => Promise<GetRingResponse__Output>,
  ) {
    this.#given = endpoints;
    this.#endpoints = new Map(endpoints.map((peer) => [peer.address, peer]));
    this.#peers = new Map(this.#endpoints);
    this.#dial = dial;
    this.#fetch = fetch;
  }

  /** The owners of a key that can be asked, in the order of the preference list. */
  owners(keyspace: string, key: Uint8Array): Peer[] {
    this.#keep();
    const owners = this.#ring?.ownersOf(keyspace, key) ?? [];
    const peers = owners.map((address) => this.#peers.get(address));
    return peers.filter((peer) => peer !== undefined).filter((peer) => peer.isReady());
  }

  /** A node did not answer: the ring may be another one. */
  noteTrouble(): void {
    this.#isStale = true;
  }

  close(): void {
    this.#isClosed = true;
    for (const peer of new Set([...this.#given, ...this.#peers.values()])) peer.close();
  }

  #keep(): void {
    const age = now() - this.#fetchedAt;
    if (this.#isFetching || !(age >= PERIOD_MS || (this.#isStale && age >= REST_MS))) return;
    [this.#isFetching, this.#isStale, this.#fetchedAt] = [true, false, now()];
    const asked = this.#fetch({ etag: this.#ring?.etag ?? "", packed: true });
    const learn = (told: GetRingResponse__Output) => {
      if (told.ring !== null && !this.#isClosed) this.#learn(Ring.read(told));
    };
    // If it fails, requests go by what is known, or to the endpoints.
    const rest = () => {
      this.#isFetching = false;
    };
    asked.then(learn).then(rest, rest);
  }

  #learn(ring: Ring | undefined): void {
    this.#ring = ring;
    const members = new Set(ring?.addresses);
    for (const [address, peer] of this.#peers) {
      if (members.has(address) || this.#endpoints.has(address)) continue;
      this.#peers.delete(address);
      // What is under way there ends.
      peer.close();
    }
    for (const address of members) {
      if (this.#peers.has(address)) continue;
      try {
        const peer = this.#dial(address);
        this.#peers.set(address, peer);
        peer.isReady();
      } catch (error) {
        // An address that cannot be dialled.
        if (!(error instanceof StatorError)) throw error;
      }
    }
  }
}
