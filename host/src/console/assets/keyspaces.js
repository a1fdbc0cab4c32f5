// Keyspaces: their policy, and what this node counted and measured of them.

import { ask, badge, digest, duration, el, number, poll, render, svg, table } from './dom.js';

export const title = 'Keyspaces';

export function show(main) {
  const region = el('div');
  main.append(region);
  let before = null;
  return poll(async () => {
    const told = await ask('keyspaces');
    const now = { at: told.now_ms, series: index(told.measured) };
    render(region, policies(told.keyspaces), figures(told.keyspaces, now, before), latencies(now.series),
      el('p', { class: 'quiet' }, 'What a keyspace holds is the cluster’s, as this node has heard; all other figures are its own. Quantiles are of the last minutes; '
        + 'the node keeps no buckets, so they are all there is of the distributions. It measures latency '
        + 'by method, not by keyspace, and counts gets and merges by keyspace, puts by method only. '
        + 'In the pictures green is p50, amber p99, red p99.9.'));
    before = now;
  }, 2000);
}

/** Values by name and labels, as `name{label=value,…}`. */
function index(measured) {
  const label = labels => Object.entries(labels).sort().map(([name, value]) => `${name}=${value}`).join();
  return new Map(measured.map(one => [`${one.name}{${label(one.labels)}}`, one]));
}

function policy(keyspace) {
  const how = keyspace.reconcile ?? { policy: 'siblings' };
  const extras = [how.fold && 'fold', how.ancestor && 'ancestor'].filter(Boolean);
  return el('span', {}, how.policy, extras.length > 0 ? ` (${extras.join(', ')})` : '');
}

function policies(keyspaces) {
  const rows = keyspaces.map(one => {
    const { merging, trial, usage, quota, resize } = one;
    const care = [
      merging.paused && 'paused by an operator',
      merging.previous && 'previous module stands in',
      merging.last_write && 'last write stands in',
      merging.merges_per_second > 0 && `${number(merging.merges_per_second)} merges/s at most`,
      merging.fuel_per_second > 0 && `${number(merging.fuel_per_second)} fuel/s at most`,
      merging.history_ms > 0 && `history of ${Math.round(merging.history_ms / 3600000)} h`,
      quota?.keys > 0 && `${number(quota.keys)} keys at most`,
      quota?.bytes > 0 && `${number(quota.bytes)} bytes at most`,
      quota?.requests_per_second > 0 && `${number(quota.requests_per_second)} requests/s at most`,
    ].filter(Boolean).join(', ');
    return [
      one.name, resize ? `${one.n} → ${resize.n} (${resize.stage}, waits for ${resize.waiting})` : number(one.n), number(one.r), number(one.w), one.durability,
      `${one.read_repair_percent} %`, policy(one),
      one.reconcile?.module_digest ? digest(one.reconcile.module_digest) : '–',
      trial ? el('span', {}, trial.canary_percent ? `canary of ${trial.canary_percent} % ` : 'shadow ',
        digest(trial.module_digest)) : '–',
      care || '–',
      number(usage?.keys ?? 0), number(usage?.bytes ?? 0), number(usage?.stored_bytes ?? 0),
    ];
  });
  return table('Policy', ['keyspace', '#n', '#r', '#w', 'durability', '#read repair', 'siblings are',
    'module', 'on trial', 'care', '#keys', '#bytes', '#on disks'], rows);
}

function sum(series, name, keyspace) {
  let total = 0;
  for (const one of series.values()) {
    if (one.name === name && one.labels.keyspace === keyspace) total += one.value;
  }
  return total;
}

function rate(now, before, name, keyspace) {
  if (!before || now.at <= before.at) return '…';
  const grown = sum(now.series, name, keyspace) - sum(before.series, name, keyspace);
  return (Math.max(grown, 0) * 1000 / (now.at - before.at)).toFixed(1);
}

function figures(keyspaces, now, before) {
  const rows = keyspaces.map(({ name, figures: counted }) => {
    const quantile = at => now.series.get(`stator_get_siblings{keyspace=${name},quantile=${at}}`)?.value;
    const gets = sum(now.series, 'stator_get_siblings_count', name);
    const mean = gets > 0 ? sum(now.series, 'stator_get_siblings_sum', name) / gets : null;
    const failures = counted?.merge_failures ?? 0;
    const met = counted?.gets ?? [];
    const all = met.reduce((total, some) => total + some, 0);
    const several = met.slice(2).reduce((total, some) => total + some, 0);
    return [
      name, number(gets), rate(now, before, 'stator_get_siblings_count', name),
      number(counted?.merges ?? 0),
      failures > 0 ? badge(number(failures), 'bad') : '0',
      rate(now, before, 'stator_conflicts_total', name),
      siblings([quantile('0.5'), quantile('0.99'), quantile('0.999')]),
      mean === null ? '–' : mean.toFixed(2),
      all === 0 ? '–' : `${(several * 100 / all).toPrecision(2)} %`,
      number(sum(now.series, 'stator_keyspace_fuel_total', name)),
      number(counted?.hints_stored ?? 0),
    ];
  });
  return table('Counted since the start of this node', ['keyspace', '#gets', '#gets/s', '#merges', '#failed',
    '#distinct merges/s', 'siblings per get: p50, p99, p99.9', '#mean', '#of several', '#fuel', '#hints stored'], rows);
}

/** Three bars: the versions that a get met, one full width per ten. */
function siblings(quantiles) {
  if (quantiles.some(value => value === undefined || value === null)) return '–';
  const width = value => Math.min(Math.max(value, 0), 10) * 9;
  const words = quantiles.map(value => Math.round(value)).join(' / ');
  return el('span', {}, `${words} `, svg('svg', { class: 'bars', viewBox: '0 0 92 15', 'aria-hidden': 'true' },
    quantiles.map((value, at) => svg('rect', {
      class: `quantile-${at}`, x: 1, y: 1 + at * 5, height: 4, width: Math.max(width(value), 1),
    }))));
}

const AXIS = [1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1];

/** Latency by method, on a scale of powers of ten. */
function latencies(series) {
  const methods = new Map();
  for (const { name, labels, value } of series.values()) {
    if (!['stator_request_seconds', 'stator_request_seconds_count'].includes(name)) continue;
    const method = methods.get(labels.method) ?? {};
    method[labels.quantile ?? 'count'] = value;
    methods.set(labels.method, method);
  }
  const merge = at => series.get(`stator_merge_seconds{quantile=${at}}`)?.value;
  const called = series.get('stator_merge_seconds_count{}')?.value;
  if (called) {
    methods.set('a module’s call',
      { count: called, 0.5: merge('0.5'), 0.99: merge('0.99'), 0.999: merge('0.999') });
  }
  const rows = [...methods].sort().map(([method, found]) => [
    method.replace('stator.v1.', ''), number(found.count ?? 0), span(found),
    ...['0.5', '0.99', '0.999'].map(at => (found[at] > 0 ? duration(found[at]) : '–')),
  ]);
  if (rows.length === 0) return el('p', { class: 'quiet' }, 'No request has come to this node yet.');
  return table('Latency by method', ['method', '#requests', `${duration(AXIS[0])} to ${duration(AXIS.at(-1))}`,
    '#p50', '#p99', '#p99.9'], rows);
}

function span(found) {
  const place = seconds => {
    const share = Math.log10(Math.max(seconds, AXIS[0]) / AXIS[0]) / Math.log10(AXIS.at(-1) / AXIS[0]);
    return 4 + Math.min(share, 1) * 232;
  };
  const [low, high, top] = ['0.5', '0.99', '0.999'].map(at => place(found[at] ?? 0));
  return svg('svg', { class: 'latency', viewBox: '0 0 240 14', 'aria-hidden': 'true' },
    AXIS.map(tick => svg('line', { class: 'tick', x1: place(tick), x2: place(tick), y1: 0, y2: 14 })),
    svg('line', { class: 'reach', x1: low, x2: top, y1: 7, y2: 7 }),
    [low, high, top].map((x, at) => svg('circle', { class: `quantile-${at}`, cx: x, cy: 7, r: 4 })));
}
