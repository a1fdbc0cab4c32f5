// The cluster as the node that serves this page sees it.

import { ask, badge, bytes, el, node, number, poll, render, span, table } from './dom.js';
import { draw } from './ring.js';

export const title = 'Cluster';

const KINDS = {
  serving: 'good', self: 'good', alive: 'good', suspect: 'warn', unreachable: 'bad',
  refilling: 'warn', waiting: 'warn', asking: 'warn', refused: 'bad', removed: 'bad', stopping: 'warn',
};

export function show(main) {
  const [alarms, picture, facts] = [el('div'), el('div'), el('div')];
  main.append(alarms, picture, facts);
  let drawn = '';
  // The most that was seen to be pending in this version of the ring.
  let pending = { version: 0, most: 0 };
  return poll(async () => {
    const told = await ask('cluster');
    render(alarms, told.alarms.map(alarm));
    const { ring_version: ring = 0, slots_pending: slots = 0 } = told.cluster ?? {};
    pending = { version: ring, most: pending.version === ring ? Math.max(pending.most, slots) : slots };
    render(facts, members(told), hints(told), transfers(told, pending.most), repairs(told), self(told));
    if (!told.cluster) {
      render(picture, el('p', {}, 'The node waits for a cluster: stator cluster init makes one.'));
      return;
    }
    // The ring is large and changes seldom.
    const version = `${told.cluster.ring_version} ${told.cluster.slots_pending} ${told.cluster.catalogue_digest}`;
    if (version !== drawn) {
      render(picture, draw(await ask('ring'), told.cluster));
      drawn = version;
    }
  }, 2000);
}

function alarm(one) {
  return el('p', { class: 'alarm', role: 'alert' }, badge(one.reason, 'bad'), ' ', one.message);
}

function members(told) {
  const { node: own } = told;
  const rows = told.members.map(member => {
    const isSelf = member.reachability === 'self';
    const state = isSelf ? own.state : member.reachability;
    return [
      el('span', {}, node(member.node_id), isSelf ? ' (this)' : ''),
      member.place || '–',
      el('span', {}, badge(state, KINDS[state]),
        member.seat === 'seated' ? '' : ` ${member.seat === 'none' ? 'no seat' : member.seat}`,
        isSelf && own.isolated ? ' cut off' : ''),
      isSelf ? own.version : null,
      isSelf ? span(told.now_ms - own.started_at_ms) : null,
      isSelf && own.disk ? disk(own.disk) : null,
      number(member.weight),
      number(member.hints_held),
      number(member.hints_delivered),
      el('span', { title: `operators ${member.admin_address}, nodes ${member.peer_address}` }, member.client_address),
    ];
  });
  return [
    table('Nodes', ['node', 'zone', 'state', 'version', 'up', 'disk', '#weight', '#hints for it',
      '#delivered', 'clients'], rows),
    el('p', { class: 'quiet' }, 'Version, time up and disk are what each node knows of itself: the '
      + 'others have consoles of their own, or ask stator cluster status.'),
  ];
}

function disk({ free_bytes: free, total_bytes: total }) {
  const words = `${bytes(free)} free`;
  return el('span', {}, el('meter', {
    min: 0, max: total, value: total - free, high: total * 0.9, optimum: 0, title: `of ${bytes(total)}`, 'aria-label': words,
  }), ` ${words}`);
}

function hints({ node: { hints: kept } }) {
  if (!kept) return [];
  const rows = kept.targets.map(target => [
    node(target.node_id), number(target.objects), bytes(target.bytes), span(target.oldest_age_ms),
  ]);
  return [
    rows.length > 0
      ? table('Hints kept here, by target', ['for', '#writes', '#size', '#oldest'], rows)
      : el('h2', {}, 'Hints'),
    el('p', { class: 'quiet' }, `${rows.length > 0 ? '' : 'Nothing is kept for other nodes. '}`
      + `${bytes(kept.bytes)} of ${bytes(kept.bytes_max)} taken; since the start ${number(kept.stored)} `
      + `stored, ${number(kept.delivered)} delivered, ${number(kept.refused)} refused, ${number(kept.lost)} lost.`),
  ];
}

function transfers({ transfers: all, transfers_shown_max: shown, cluster }, most) {
  if (all.length === 0) return [];
  const rows = all.map(one => [
    number(one.partition),
    one.source ? node(one.source) : 'a further owner',
    one.target ? node(one.target) : 'an owner less',
    number(one.keys_copied),
    one.step ?? 'not driven by this node',
  ]);
  const left = cluster.slots_pending;
  return [
    table(`Transfers: ${number(left)} ownerships are to be handed over`,
      ['#partition', 'from', 'to', '#keys copied', 'step'], rows),
    el('p', { class: 'quiet' }, el('progress', { max: most, value: most - left, 'aria-label': 'handed over' }),
      ` ${number(most - left)} of ${number(most)} since this page is open.`,
      left > shown ? ` The first ${shown} of the others are listed.` : ''),
  ];
}

function repairs({ repairs: all }) {
  if (all.length === 0) return [];
  const rows = all.map(one => [
    el('code', {}, one.id),
    el('span', {}, el('progress', {
      max: Math.max(one.partitions, 1), value: one.partitions_done + one.partitions_failed,
      'aria-label': `repair ${one.id}`,
    }), ` ${number(one.partitions_done)} of ${number(one.partitions)} partitions`),
    number(one.partitions_failed),
    number(one.keys_compared), number(one.keys_differed), number(one.keys_repaired),
    one.failure ?? (one.is_done ? 'done' : 'under way'),
  ]);
  return table('Repairs that this node was asked for',
    ['repair', 'progress', '#given up', '#keys compared', '#differed', '#repaired', 'state'], rows);
}

function self({ node: own }) {
  const stores = own.stores.map(store => [
    store.name, store.engine, badge(store.state, store.state === 'serving' ? 'good' : 'bad'),
    number(store.objects), store.detail ?? '',
  ]);
  const lines = [];
  if (own.fill) {
    const { partitions, partitions_left: left, objects_copied: copied } = own.fill;
    lines.push(el('p', {}, 'Refilling after the loss of its store: ',
      el('progress', { max: partitions, value: partitions - left, 'aria-label': 'refilled' }),
      ` ${number(left)} of ${number(partitions)} partitions left, ${number(copied)} objects copied.`));
  }
  if (own.anti_entropy) {
    const { trees_ready: ready, exchanges, keys_differed: differed, keys_repaired: repaired } = own.anti_entropy;
    lines.push(el('p', { class: 'quiet' }, `Anti-entropy: ${number(exchanges)} partitions compared, `
      + `${number(differed)} keys differed, ${number(repaired)} repaired; hash trees ${ready ? 'ready' : 'being rebuilt'}.`));
  }
  if (own.collect) {
    const { collected, rounds, held_up: why } = own.collect;
    lines.push(el('p', { class: 'quiet' }, `Collection: ${number(collected)} deleted objects forgotten in `
      + `${number(rounds)} rounds${why ? `; the rest waits: ${why}` : ''}.`));
  }
  return [table('Stores of this node', ['store', 'engine', 'state', '#objects', 'detail'], stores), ...lines];
}
