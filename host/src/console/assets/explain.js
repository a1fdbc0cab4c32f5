// How the value of a key came to be: who wrote what when, and what merged it.

import { ask, badge, bytes, digest, el, node, number, shown, svg, table, trouble, utc } from './dom.js';
import { cells } from './merges.js';

export const title = 'Explain a key';

export function show(main, parameters) {
  const name = el('input', { id: 'keyspace', name: 'keyspace', required: true, list: 'keyspaces', autocomplete: 'off' });
  const key = el('input', { id: 'key', name: 'key', autocomplete: 'off' });
  const values = el('input', { id: 'values', name: 'values', type: 'checkbox', value: 'true' });
  const names = el('datalist', { id: 'keyspaces' });
  const answer = el('div', { 'aria-live': 'polite' });
  name.value = parameters.get('keyspace') ?? '';
  key.value = parameters.get('key') ?? '';
  values.checked = parameters.get('values') === 'true';
  // Bytes that cannot be typed stay as they were asked for, until another key is typed.
  const raw = parameters.get('key_base64');
  const submit = event => {
    event.preventDefault();
    const asked = new URLSearchParams({ keyspace: name.value });
    if (raw && key.value === typed(raw)) asked.set('key_base64', raw);
    else asked.set('key', key.value);
    if (values.checked) asked.set('values', 'true');
    const before = location.hash;
    location.hash = `#/explain?${asked}`;
    if (location.hash === before) load(asked);
  };
  if (raw) key.value = typed(raw);
  main.append(
    el('form', { class: 'filters', onsubmit: submit },
      el('label', { for: 'keyspace' }, 'Keyspace '), name, names,
      el('label', { for: 'key' }, 'Key '), key,
      el('label', { for: 'values' }, values, ' show values'),
      el('button', { type: 'submit' }, 'Explain')),
    el('p', { class: 'quiet' }, 'This reads the key as a client does: what it finds divergent is merged. '
      + 'Values are shown only if you ask, 4 KiB of each at most.'), answer);
  const load = async asked => {
    answer.replaceChildren(el('p', {}, 'reading…'));
    try {
      const told = await ask('explain', asked);
      answer.replaceChildren(...explained(told));
      trouble();
    } catch (error) {
      answer.replaceChildren();
      trouble(error.message);
    }
  };
  ask('keyspaces').then(({ keyspaces }) => {
    names.replaceChildren(...keyspaces.map(one => el('option', { value: one.name })));
    // A node that just started has one.
    if (!name.value && keyspaces.length > 0) name.value = keyspaces[0].name;
  }).catch(error => trouble(error.message));
  if (parameters.get('keyspace')) load(parameters);
  return () => trouble();
}

function typed(base64) {
  const raw = Uint8Array.from(atob(base64), letter => letter.charCodeAt(0));
  return new TextDecoder().decode(raw);
}

function explained(told) {
  const { place } = told;
  const where = place
    ? el('p', {}, `Partition ${place.partition}, owners in their order: `,
      place.owners.map((owner, at) => [at > 0 ? ', ' : '', node(owner)]),
      `. ${told.answered} answered.`) : null;
  return [
    el('h2', {}, `${told.keyspace} / ${shown(told.key.shown)}`), where,
    told.stored.length === 0 ? el('p', {}, 'Nothing is stored.') : lineage(told),
    stored(told), ...reader(told), merges(told),
  ].filter(Boolean);
}

/** Who took a write: the node that its dot names. */
function writers(dots) {
  return [...new Set(dots.map(dot => dot.split('.')[0]))];
}

function maker(version) {
  if (version.made_by === 'client') return 'a client';
  const { module_digest: module, input_dots: inputs } = version.made_by;
  return el('span', {}, module ? `fold of ${inputs.length} writes by ` : `last write of ${inputs.length}`,
    module ? digest(module) : '');
}

function content(version) {
  const size = version.tombstone ? 'a delete' : bytes(version.value_bytes);
  if (!version.value) return size;
  return el('div', {}, size, el('pre', {}, shown(version.value)));
}

function stored(told) {
  if (told.stored.length === 0) return null;
  const rows = told.stored.map(version => [
    el('code', { class: 'dots' }, version.dots.join(' ')),
    el('span', {}, writers(version.dots).map((id, at) => [at > 0 ? ', ' : '', node(id)])),
    utc(version.written_at_ms),
    maker(version),
    Object.entries(version.labels).map(([name, value]) => `${name}=${value}`).join(' ') || '–',
    version.expires_at_ms ? utc(version.expires_at_ms) : 'never',
    content(version),
  ]);
  const more = told.stored_count > told.stored.length ? `, the first ${told.stored.length} of ${told.stored_count}` : '';
  return table(`As it is stored${more}`, ['write', 'taken by node', 'written (UTC)', 'made by', 'labels',
    'ends', 'what'], rows);
}

function reader(told) {
  const merge = told.merge ?? {};
  const parts = [];
  if (merge.merged) {
    parts.push('A reader gets one value, made of ', number(merge.sibling_count), ' siblings by ',
      merge.module_digest ? digest(merge.module_digest) : 'the last write', '. ');
  } else if (merge.failure) {
    parts.push('A reader gets the siblings, for ', digest(merge.module_digest), ' failed. ');
  } else if (told.read.length === 0) {
    parts.push('A reader gets nothing: the key is absent or deleted. ');
  } else {
    parts.push(told.read.length === 1 ? 'A reader gets it as it is. ' : `A reader gets ${told.read.length} siblings. `);
  }
  if (merge.failure) parts.push(badge('failed', 'bad'), ` ${merge.failure} `);
  if (merge.note) parts.push(`Its remark: ${merge.note}`);
  return [el('h2', {}, 'What a reader gets'), el('p', { id: 'reading' }, parts),
    ...told.read.map(version => el('div', { class: 'value' }, content(version)))];
}

/** Siblings on the left, what a reader gets on the right, and what stands between them. */
function lineage({ stored: all, merge, read }) {
  const shownMax = 8;
  const boxes = all.slice(0, shownMax);
  const height = Math.max(boxes.length, 1) * 44 + 8 + (all.length > shownMax ? 16 : 0);
  const middle = (Math.max(boxes.length, 1) * 44 + 8) / 2;
  const box = (x, y, width, lines, kind) => svg('g', { class: `box ${kind}` },
    svg('rect', { x, y, width, height: 38, rx: 6 }),
    lines.map((line, at) => svg('text', { x: x + 10, y: y + 16 + at * 15 }, line)));
  const isMerged = merge?.merged;
  const by = isMerged ? [merge.module_digest ? `module ${merge.module_digest.slice(0, 12)}` : 'the last write',
    `of ${merge.sibling_count} siblings`] : merge?.failure ? ['the merge failed', 'siblings stay'] : ['no merge', 'as it is stored'];
  const gets = read.length === 0 ? 'nothing' : read.length === 1
    ? read[0].tombstone ? 'a delete' : bytes(read[0].value_bytes) : `${read.length} siblings`;
  const line = (x1, y1, x2, y2) => svg('path', { class: 'flow', d: `M${x1} ${y1}C${x1 + 40} ${y1} ${x2 - 40} ${y2} ${x2} ${y2}` });
  return svg('svg', { class: 'lineage', viewBox: `0 0 720 ${height}`, role: 'img',
    'aria-label': 'Who wrote the siblings, what merged them, and what a reader gets; the tables say the same.' },
  boxes.map((version, at) => [
    line(240, at * 44 + 23, 290, middle),
    box(4, at * 44 + 4, 236, [`node ${writers(version.dots).map(id => id.slice(0, 8)).join(', ')}`,
      `${utc(version.written_at_ms).slice(11)} · ${version.tombstone ? 'delete' : bytes(version.value_bytes)}`], 'write'),
  ]),
  all.length > shownMax ? svg('text', { x: 14, y: height - 4 }, `and ${all.length - shownMax} more`) : null,
  line(500, middle, 550, middle),
  box(290, middle - 19, 210, by, isMerged ? 'merge' : merge?.failure ? 'failed' : ''),
  box(550, middle - 19, 166, ['a reader gets', gets], 'view'));
}

function merges({ conflicts }) {
  if (conflicts.length === 0) return el('p', { class: 'quiet' }, 'This node has no merge of it on record.');
  return table('Merges of it on record on this node, the latest first',
    ['time', 'keyspace', 'key', 'cause', 'module', '#siblings', '#took', '#fuel', 'outcome'],
    conflicts.toReversed().map(cells));
}
