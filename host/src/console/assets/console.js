// The console's frame: which page is shown. Each page is a module with `title` and `show(main,
// parameters)`, which fills `main` and returns what ends it.

import { ask, el, node } from './dom.js';
import * as cluster from './cluster.js';
import * as keyspaces from './keyspaces.js';
import * as merges from './merges.js';
import * as modules from './modules.js';
import * as explain from './explain.js';
import * as letters from './letters.js';

const PAGES = { cluster, keyspaces, merges, modules, explain, letters };
const main = document.getElementById('main');
let end = () => {};
let present = null;

function go() {
  const [path, query] = location.hash.replace(/^#\/?/, '').split('?');
  const name = path in PAGES ? path : 'cluster';
  const page = PAGES[name];
  end();
  for (const link of document.querySelectorAll('nav a')) {
    if (link.hash === `#/${name}`) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
  document.title = `${page.title} – Stator`;
  const heading = el('h1', { tabindex: -1 }, page.title);
  main.replaceChildren(heading);
  end = page.show(main, new URLSearchParams(query));
  // The first page leaves the focus where the browser has it.
  if (present && present !== name) heading.focus();
  present = name;
}

async function whose() {
  const told = await ask('cluster');
  const name = told.cluster ? `cluster ${told.cluster.name}, ` : '';
  document.getElementById('whose').replaceChildren(name, 'node ', node(told.node.node_id));
}

// The link past the navigation is no page.
document.querySelector('.skip').addEventListener('click', event => {
  event.preventDefault();
  main.focus();
});
addEventListener('hashchange', go);
go();
// The page that is shown says what is wrong.
whose().catch(() => {});
