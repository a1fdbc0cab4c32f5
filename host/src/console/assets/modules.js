// Merge modules: how they stand to the laws, where they are used, and what keyspaces were pinned to.

import { ask, badge, bytes, digest, el, poll, render, table, utc } from './dom.js';

export const title = 'Modules';

export function show(main) {
  const region = el('div');
  main.append(region);
  return poll(async () => {
    const told = await ask('modules');
    const names = new Map(told.modules.map(one => [one.digest, one.name]));
    render(region, modules(told.modules), told.histories.map(one => history(one, names)));
  }, 5000);
}

const ANSWERS = { holds: 'good', violated: 'bad', 'not-checkable': 'warn' };

function modules(all) {
  if (all.length === 0) return el('p', {}, 'No module was pushed: stator module push FILE.');
  const rows = all.map(one => [
    one.name, digest(one.digest), bytes(one.size_bytes), one.class, utc(one.pushed_at_ms).slice(0, 19),
    one.keyspaces.join(', ') || 'nowhere',
    el('span', {}, badge(one.ready ? 'ready' : 'not loaded', one.ready ? 'good' : 'warn'),
      one.paused_in.length > 0 ? ` rests in ${one.paused_in.join(', ')}` : ''),
    laws(one),
  ]);
  return table('Pushed to the cluster', ['name', 'digest', '#size', 'class', 'pushed', 'pinned or tried in', 'on this node',
    'laws, as checked at the push'], rows);
}

function laws(module) {
  if (module.laws.length === 0) return 'not checked';
  return el('div', {}, el('ul', { class: 'laws' }, module.laws.map(({ law, answer, cases }) => el('li', {},
    badge(law, ANSWERS[answer]), answer === 'holds' ? ` in ${cases} cases` : ` ${answer}`))),
  el('p', { class: 'quiet' }, module.why_no_fold ? `May not fold: ${module.why_no_fold}` : 'May fold.'));
}

function history({ keyspace, entries }, names) {
  const rows = entries.toReversed().map(one => [utc(one.at_ms).slice(0, 19), what(one, names), one.reason ?? '']);
  return table(`History of ${keyspace}, the latest first`, ['when (UTC)', 'what', 'why'], rows);
}

function what({ what: kind, detail }, names) {
  const module = detail?.module_digest
    ? el('span', {}, `${names.get(detail.module_digest) ?? 'a deleted module'} `, digest(detail.module_digest)) : null;
  if (kind === 'pinned') {
    return el('span', {}, 'pinned to ', module ?? detail.policy,
      detail.fold ? ' (fold)' : '', detail.ancestor ? ' (ancestor)' : '');
  }
  if (kind === 'tried') {
    return el('span', {}, detail.canary_percent ? `canary of ${detail.canary_percent} %: ` : 'shadow: ', module);
  }
  return el('span', {}, 'trial ended: ', module);
}
