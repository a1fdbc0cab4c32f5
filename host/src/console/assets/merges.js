// Merges as they happen, by server-sent events.

import { ask, badge, clockTime, digest, el, explainLink, number } from './dom.js';

export const title = 'Merges and conflicts';

const ROWS_MAX = 300;
/** What is kept while the page is paused. */
const HELD_MAX = 500;
const COLUMNS = ['time', 'keyspace', 'key', 'cause', 'module', 'siblings', 'took', 'fuel', 'outcome'];

export function show(main, parameters) {
  const keyspace = el('select', { id: 'of' }, el('option', { value: '' }, 'all'));
  const failures = el('input', { type: 'checkbox', id: 'failures' });
  const pause = el('button', { type: 'button', 'aria-pressed': 'false' }, 'Pause');
  const state = el('span', { class: 'quiet', role: 'status' });
  const body = el('tbody');
  failures.checked = parameters.get('failures') === 'true';
  main.append(
    el('form', { class: 'filters', onsubmit: event => event.preventDefault() },
      el('label', { for: 'of' }, 'Keyspace '), keyspace,
      el('label', { for: 'failures' }, failures, ' failures only'), pause, state),
    el('div', { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': 'Merges, the latest first' },
      el('table', { class: 'feed' },
        el('thead', {}, el('tr', {}, COLUMNS.map(name => el('th', { scope: 'col' }, name)))), body)),
    el('p', { class: 'quiet' }, 'Distinct merges that this node made: one that it remembers is not made '
      + 'again, and other nodes have feeds of their own.'));

  let held = [];
  let dropped = 0;
  let source = null;
  const isPaused = () => pause.getAttribute('aria-pressed') === 'true';
  const tell = () => {
    const words = { 0: 'connecting…', 1: 'live', 2: 'ended' }[source?.readyState ?? 2];
    state.replaceChildren(isPaused()
      ? `paused; ${number(held.length)} wait${dropped > 0 ? `, ${number(dropped)} were let go` : ''}` : words);
  };
  const put = row => {
    body.prepend(row);
    while (body.rows.length > ROWS_MAX) body.lastChild.remove();
  };
  const take = row => {
    if (!isPaused()) return put(row);
    held.push(row);
    if (held.length > HELD_MAX) {
      held.shift();
      dropped += 1;
    }
    tell();
  };
  const open = () => {
    source?.close();
    [held, dropped] = [[], 0];
    body.replaceChildren();
    const asked = new URLSearchParams({ keyspace: keyspace.value, failures: failures.checked });
    source = new EventSource(`api/conflicts?${asked}`);
    source.addEventListener('open', tell);
    source.addEventListener('conflict', event => take(row(JSON.parse(event.data))));
    source.addEventListener('missed', event => take(gap(`${number(event.data)} merges were missed here`)));
    source.addEventListener('error', () => {
      if (source.readyState === EventSource.CLOSED) take(gap('The node gave no feed: too many are open, or '
        + 'it keeps none (limits.conflicts_bytes_max). Reload the page to try again.'));
      tell();
    });
    tell();
  };
  pause.addEventListener('click', () => {
    pause.setAttribute('aria-pressed', String(!isPaused()));
    if (!isPaused()) {
      if (dropped > 0) put(gap(`${number(dropped)} merges were let go during the pause`));
      held.forEach(put);
      [held, dropped] = [[], 0];
    }
    tell();
  });
  for (const filter of [keyspace, failures]) filter.addEventListener('change', open);
  const choose = async () => {
    const { keyspaces } = await ask('keyspaces');
    keyspace.append(...keyspaces.map(({ name }) => el('option', { value: name }, name)));
    const wanted = parameters.get('keyspace');
    if (wanted) {
      keyspace.value = wanted;
      open();
    }
  };
  open();
  choose().catch(error => state.replaceChildren(error.message));
  return () => source.close();
}

function gap(words) {
  return el('tr', { class: 'gap' }, el('td', { colspan: COLUMNS.length }, words));
}

const OUTCOMES = { value: 'good', delete: 'good', 'kept-siblings': 'warn', failed: 'bad' };

export function cells(merge) {
  const writes = merge.siblings.map(dots => dots.join(' ')).join('\n');
  return [
    clockTime(merge.at_ms), merge.keyspace, explainLink(merge.keyspace, merge.key), merge.cause,
    digest(merge.module_digest),
    el('span', { title: writes }, number(merge.siblings.length)),
    `${number(merge.micros)} µs`, number(merge.fuel),
    el('span', {}, badge(merge.came, OUTCOMES[merge.came]),
      merge.comparison ? ` ${merge.comparison}` : '',
      merge.failure ? ` ${merge.failure}` : '',
      merge.note ? ` ${merge.note}` : '',
      merge.topics.map(topic => ` !${topic}`)),
  ];
}

function row(merge) {
  return el('tr', { 'data-sequence': merge.sequence, title: `merge ${merge.id}` },
    cells(merge).map(cell => el('td', {}, cell)));
}
