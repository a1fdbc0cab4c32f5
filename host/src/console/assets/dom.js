// Elements and words. Whatever came from a user becomes the text of a node here, never markup.

const SVG = 'http://www.w3.org/2000/svg';

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? '' : value);
  }
  element.append(...children.flat(Infinity).filter(child => child !== null && child !== undefined));
  return element;
}

export function el(tag, attributes, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

/** Puts `children` into `region` in place of what it has; what has the focus keeps it. */
export function render(region, ...children) {
  const focused = region.contains(document.activeElement) && document.activeElement.dataset.key;
  region.replaceChildren(...children.flat(Infinity).filter(child => child));
  if (focused) region.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
}

/** A table. `columns` are names, `#name` for numbers; cells are texts or nodes. */
export function table(caption, columns, rows) {
  const isNumber = columns.map(name => name.startsWith('#'));
  const head = columns.map((name, at) =>
    el('th', { scope: 'col', class: isNumber[at] && 'number' }, name.replace(/^#/, '')));
  const line = cells => el('tr', {}, cells.map((cell, at) =>
    el('td', { class: isNumber[at] && 'number' }, cell ?? '–')));
  return el('div', { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': caption },
    el('table', {},
      el('caption', {}, caption),
      el('thead', {}, el('tr', {}, head)),
      el('tbody', {}, rows.map(row => (row instanceof Node ? row : line(row))))));
}

export function badge(word, kind) {
  return el('span', { class: `badge ${kind ?? ''}` }, word);
}

export function number(value) {
  return Number(value).toLocaleString('en');
}

export function bytes(value) {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let at = 0;
  let left = value;
  while (left >= 1024 && at < units.length - 1) {
    left /= 1024;
    at += 1;
  }
  return `${at === 0 ? left : left.toFixed(left < 10 ? 1 : 0)} ${units[at]}`;
}

export function span(ms) {
  const seconds = Math.round(ms / 1000);
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ${Math.floor(seconds / 60) % 60} min`;
  return `${Math.floor(seconds / 86400)} d ${Math.floor(seconds / 3600) % 24} h`;
}

/** A measured time, in the unit that suits it. */
export function duration(seconds) {
  if (seconds >= 1) return `${seconds.toFixed(2)} s`;
  if (seconds >= 0.001) return `${(seconds * 1000).toFixed(seconds >= 0.01 ? 0 : 1)} ms`;
  return `${Math.round(seconds * 1e6)} µs`;
}

/** A point in time, as the command line prints it. */
export function utc(ms) {
  return ms ? new Date(ms).toISOString().replace('T', ' ').replace('Z', '') : 'before';
}

export function clockTime(ms) {
  return el('time', { datetime: new Date(ms).toISOString(), title: `${utc(ms)} UTC` },
    utc(ms).slice(11));
}

/** The beginning of a digest, the whole of it as a title. */
export function digest(text) {
  return text ? el('code', { title: text }, text.slice(0, 12)) : 'built in';
}

export function node(id) {
  return el('code', { title: id }, id.slice(0, 8));
}

/** Bytes of a user as the node tells them: text, or hexadecimal digits. */
export function shown(value) {
  const cut = value.is_cut ? `… (${bytes(value.bytes)} in all)` : '';
  return value.text === undefined ? `0x${value.hex}${cut}` : `${value.text}${cut}`;
}

export function explainLink(keyspace, key) {
  const asked = new URLSearchParams({ keyspace, key_base64: key.base64 });
  return el('a', { href: `#/explain?${asked}`, 'data-key': `${keyspace}/${key.base64}` },
    shown(key.shown) || '(empty)');
}

/** What the node answers; what it refuses is thrown in its words. */
export async function ask(path, parameters) {
  const query = parameters ? `?${new URLSearchParams(parameters)}` : '';
  const answer = await fetch(`api/${path}${query}`);
  const body = await answer.json();
  if (!answer.ok) throw new Error(body.message);
  return body;
}

/** Says what is wrong, or with nothing that it is over. */
export function trouble(words) {
  const line = document.getElementById('trouble');
  if (line.textContent !== (words ?? '')) line.textContent = words ?? '';
  line.hidden = !words;
}

/** Calls `once` now and again and again while the page is looked at; returns what ends that. */
export function poll(once, period) {
  let timer;
  let isOver = false;
  const run = async () => {
    if (!document.hidden) {
      try {
        await once();
        if (!isOver) trouble();
      } catch (error) {
        if (!isOver) trouble(`${error.message} (asked again every ${period / 1000} s)`);
      }
    }
    if (!isOver) timer = setTimeout(run, period);
  };
  run();
  return () => {
    isOver = true;
    clearTimeout(timer);
    trouble();
  };
}
