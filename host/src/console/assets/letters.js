// Keys that this node could not merge.

import { ask, digest, el, explainLink, number, poll, render, table, utc } from './dom.js';

export const title = 'Dead letters';

export function show(main) {
  const region = el('div');
  main.append(region);
  return poll(async () => {
    const { count, letters } = await ask('letters');
    if (count === 0) {
      render(region, el('p', {}, 'Every key that was read through this node could be merged.'));
      return;
    }
    const rows = letters.map(({ last, since_ms: since, failures }) => [
      last.keyspace, explainLink(last.keyspace, last.key), utc(since), number(failures),
      digest(last.module_digest), number(last.siblings.length), last.failure,
    ]);
    render(region,
      table(`${number(count)} keys that no module could merge, those that failed last first`,
        ['keyspace', 'key', 'since (UTC)', '#failures', 'module', '#siblings', 'why'], rows),
      el('p', { class: 'quiet' }, letters.length < count ? `The first ${letters.length} are listed. ` : '',
        'They are tried again when their keyspace is pinned to another module. Nothing of them is lost: '
        + 'readers get the siblings.'));
  }, 3000);
}
