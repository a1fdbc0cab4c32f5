// The ring as a picture: a circle per place in the list of owners, the first outside; an arc per
// partition in the colour of its owner. Nodes of one zone have one hue.

import { el, number, svg } from './dom.js';

const SIZE = 440;
const CENTRE = SIZE / 2;
const THICKNESS = [44, 26, 26, 12, 12, 8, 8];
const GAP = 3;

/** A colour for each node, by its place. */
export function colours(nodes) {
  const zones = [...new Set(nodes.map(one => one.place ?? ''))].sort();
  return nodes.map((one, at) => {
    if (zones.length < 2) return `hsl(${(210 + (at * 360) / nodes.length) % 360} 58% 52%)`;
    const zone = zones.indexOf(one.place ?? '');
    const inZone = nodes.filter(other => (other.place ?? '') === (one.place ?? ''));
    const shade = inZone.length < 2 ? 0.5 : inZone.indexOf(one) / (inZone.length - 1);
    return `hsl(${(210 + (zone * 360) / zones.length) % 360} 58% ${Math.round(36 + shade * 30)}%)`;
  });
}

function point(radius, turn) {
  const angle = turn * 2 * Math.PI - Math.PI / 2;
  return `${(CENTRE + radius * Math.cos(angle)).toFixed(2)} ${(CENTRE + radius * Math.sin(angle)).toFixed(2)}`;
}

function arc(outer, inner, from, to) {
  // A circle of one partition has no two ends to draw between.
  const end = to - from >= 1 ? from + 0.9999 : to;
  const large = end - from > 0.5 ? 1 : 0;
  return `M${point(outer, from)}A${outer} ${outer} 0 ${large} 1 ${point(outer, end)}`
    + `L${point(inner, end)}A${inner} ${inner} 0 ${large} 0 ${point(inner, from)}Z`;
}

function arcs(ring, fills) {
  const count = ring.shown.length;
  const paths = [];
  ring.shown.forEach((partition, at) => {
    const names = partition.owners.map(owner => ring.nodes[owner].node_id.slice(0, 8));
    const words = `partition ${partition.id}: ${names.join(', then ') || 'no owner'}`
      + (partition.moves ? '; on its way to another owner' : '');
    let outer = CENTRE - 14;
    partition.owners.forEach((owner, rank) => {
      const inner = outer - (THICKNESS[rank] ?? 6);
      if (inner < 40) return;
      paths.push(svg('path', {
        d: arc(outer, inner, at / count, (at + 1) / count), fill: fills[owner], 'data-owner': owner,
      }, svg('title', {}, words)));
      outer = inner - GAP;
    });
    if (partition.moves) {
      const middle = (at + 0.5) / count;
      const ends = [point(CENTRE - 12, middle), point(CENTRE - 2, middle)].map(text => text.split(' '));
      paths.push(svg('line', {
        class: 'moving', x1: ends[0][0], y1: ends[0][1], x2: ends[1][0], y2: ends[1][1],
      }));
    }
  });
  return paths;
}

function words(ring, cluster) {
  const line = (text, y, kind) => svg('text', { x: CENTRE, y, class: kind, 'text-anchor': 'middle' }, text);
  return [
    line(cluster.name, CENTRE - 10, 'name'),
    line(`${number(ring.partitions)} partitions`, CENTRE + 12, 'fact'),
    line(`ring version ${ring.version}`, CENTRE + 30, 'fact'),
  ];
}

/** The picture with its legend, in which a node can be picked out. */
export function draw(ring, cluster) {
  const fills = colours(ring.nodes);
  const picture = svg('svg', {
    viewBox: `0 0 ${SIZE} ${SIZE}`, role: 'img',
    'aria-label': `The ring: ${ring.partitions} partitions of ${ring.nodes.length} nodes; `
      + 'the list beside it says how many each has.',
  }, svg('g', {}, arcs(ring, fills)), words(ring, cluster));
  let kept = null;
  const only = owner => {
    for (const path of picture.querySelectorAll('path')) {
      path.classList.toggle('dim', owner !== null && path.dataset.owner !== String(owner));
    }
  };
  const button = (one, at) => el('button', {
    type: 'button', 'aria-pressed': 'false', 'data-key': one.node_id, title: one.node_id,
    onmouseenter: () => only(at), onmouseleave: () => only(kept),
    onclick: event => {
      kept = kept === at ? null : at;
      for (const other of legend.querySelectorAll('button')) other.setAttribute('aria-pressed', 'false');
      event.currentTarget.setAttribute('aria-pressed', String(kept === at));
      only(kept);
    },
  }, swatch(fills[at]), el('code', {}, one.node_id.slice(0, 8)),
  el('span', { class: 'quiet' }, ` first of ${number(one.first)}, holds ${number(one.owned)}`));
  const zones = [...new Set(ring.nodes.map(one => one.place ?? ''))].sort();
  const legend = el('div', { class: 'legend' }, zones.map(zone => el('section', {},
    el('h3', {}, zone ? `Zone ${zone}` : zones.length > 1 ? 'No zone' : 'Nodes'),
    ring.nodes.map((one, at) => ((one.place ?? '') === zone ? button(one, at) : null)))),
  el('p', { class: 'quiet' }, 'The outer circle is the first owner of each partition, the inner ones the further owners.',
    ring.shown.some(one => one.moves) ? ' A red mark: it is on its way to another owner.' : '',
    ring.shown_every > 1 ? ` One partition of ${ring.shown_every} is drawn.` : ''));
  return el('figure', { class: 'ring' }, picture, legend);
}

export function swatch(colour) {
  return svg('svg', { class: 'swatch', viewBox: '0 0 10 10', 'aria-hidden': 'true' },
    svg('rect', { width: 10, height: 10, rx: 2, fill: colour }));
}
