"""Looks at the web console of a node in a real browser, as an operator would.

    look.py CONSOLE STATOR FOLDER ADMIN ENDPOINT…

CONSOLE and ADMIN are the first node's, STATOR the program, FOLDER where pictures go, ENDPOINTs are the
nodes' client listeners. The cluster has a module max-register, and keyspaces `carts` and `scores` that
merge carts; those of `scores` fail.
"""

import http.client
import json
import subprocess
import sys

from browser import Browser

CONSOLE, STATOR, FOLDER, ADMIN, *ENDPOINTS = sys.argv[1:]
ROWS = "[...document.querySelectorAll('.feed tbody tr')].map(row => row.innerText)"
MARKUP = "<img src=x onerror=alert(1)>"


def stator(endpoint, *arguments):
    done = subprocess.run([STATOR, "--endpoint", endpoint, "--admin", ADMIN, "--timeout", "30s", *arguments],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, (arguments, done.stderr)
    return done.stdout


def diverge(key, keyspace="carts"):
    """Two devices write blind through two nodes; a third node's client reads."""
    for endpoint, device in zip(ENDPOINTS, ("phone", "laptop")):
        cart = {"items": {f"{device}:1": {"quantity": 1, "sku": f"<b>{device}</b>"}}}
        value = json.dumps(cart) if keyspace == "carts" else f"no cart of a {device}"
        stator(endpoint, "kv", "put", "-k", keyspace, key, value)
    return stator(ENDPOINTS[0], "kv", "get", "-k", keyspace, key)


def cluster(browser):
    browser.open(f"http://{CONSOLE}/")
    browser.until("the ring is drawn", "document.querySelectorAll('.ring path').length >= 256 * 3")
    browser.until("all nodes are listed", "document.querySelectorAll('tbody')[0]?.rows.length === 3")
    browser.until("all are alive", "document.body.innerText.match(/\\balive\\b/g)?.length === 2")
    zones = browser.run("[...document.querySelectorAll('.legend h3')].map(one => one.innerText)")
    assert zones == ["Zone north", "Zone south"], zones
    colours = browser.run("new Set([...document.querySelectorAll('.ring path')]"
                          ".map(path => path.getAttribute('fill'))).size")
    assert colours == 3, colours
    browser.run("document.querySelector('.legend button').click()")
    dim = browser.run("document.querySelectorAll('.ring path.dim').length")
    assert 0 < dim < 256 * 3, dim
    browser.run("document.querySelector('.legend button').click()")
    browser.picture(f"{FOLDER}/console-cluster.png")


def keyboard(browser):
    browser.run("document.activeElement.blur()")
    browser.press("Tab", 9)
    assert browser.run("document.activeElement.className") == "skip"
    browser.press("Tab", 9)
    browser.press("Tab", 9)
    assert browser.run("document.activeElement.hash") == "#/keyspaces"
    browser.press("Enter", 13)
    browser.until("the link is followed", "document.querySelector('h1')?.innerText === 'Keyspaces'")
    assert browser.run("document.activeElement.tagName") == "H1"


def keyspaces(browser):
    cells = "[...document.querySelectorAll('table')].map(one => one.innerText).join('\\n')"
    browser.until("both keyspaces are there", f"/carts/.test({cells}) && /scores/.test({cells})")
    browser.until("gets were counted", "document.querySelectorAll('.bars').length > 0")
    browser.until("latency was measured", f"/Kv\\/Put/.test({cells}) && /p99.9/.test({cells})")
    browser.until("rates are known", f"!/…/.test({cells})")
    browser.picture(f"{FOLDER}/console-keyspaces.png")


def choose(browser, keyspace, failures):
    browser.run(f"""(() => {{
        document.getElementById('failures').checked = {json.dumps(failures)};
        document.getElementById('of').value = {json.dumps(keyspace)};
        document.getElementById('of').dispatchEvent(new Event('change'));
    }})()""")


def merges(browser):
    browser.open(f"http://{CONSOLE}/#/merges?keyspace=carts")
    browser.until("the feed is live", "document.querySelector('[role=status]')?.innerText === 'live'")
    browser.until("what was before is there", f"{ROWS}.some(row => row.includes('cart:3'))")
    key = f"cart:{MARKUP}"
    browser.run("document.querySelector('.feed').dataset.stays = 'yes'")
    assert "phone" in diverge(key)
    row = f"{ROWS}.find(row => row.includes({json.dumps(key)}))"
    browser.until("the conflict comes in while one looks", f"Boolean({row})")
    assert browser.run("document.querySelector('.feed').dataset.stays") == "yes", "nothing was reloaded"
    assert browser.run("document.querySelectorAll('main img').length") == 0, "a key is never markup"
    assert "read" in browser.run(row) and "value" in browser.run(row)
    assert not browser.run(f"{ROWS}.some(row => row.includes('scores'))"), "another keyspace"
    browser.picture(f"{FOLDER}/console-merges.png")

    browser.run("document.querySelector('.filters button').click()")
    diverge("cart:paused")
    browser.until("it waits", "document.querySelector('[role=status]').innerText === 'paused; 1 wait'")
    assert not browser.run(f"{ROWS}.some(row => row.includes('cart:paused'))")
    browser.run("document.querySelector('.filters button').click()")
    browser.until("it is shown", f"{ROWS}.some(row => row.includes('cart:paused'))")

    choose(browser, "", True)
    browser.until("failures are shown", f"{ROWS}.length > 0 && {ROWS}.every(row => row.includes('failed'))")
    choose(browser, "carts", False)
    return key


def explain(browser, key):
    link = f"[...document.querySelectorAll('.feed a')].find(one => one.innerText === {json.dumps(key)})"
    browser.until("the key is a link", f"Boolean({link})")
    browser.run(f"{link}.click()")
    table = "[...document.querySelectorAll('table')].find(one => one.innerText.startsWith('As it is stored'))"
    browser.until("both siblings are told", f"{table}?.tBodies[0].rows.length === 2")
    nodes = browser.run(f"[...{table}.tBodies[0].rows].map(row => row.cells[1].querySelector('code').title)")
    assert len(set(nodes)) == 2 and all(len(node) == 16 for node in nodes), nodes
    assert "of 2 siblings by" in browser.run("document.getElementById('reading').innerText.replace('made ', '')")
    assert "quantity" not in browser.run("document.body.innerText"), "values are shown on request only"
    browser.run("document.getElementById('values').click()")
    browser.run("document.querySelector('.filters button').click()")
    browser.until("values are shown", "document.querySelectorAll('pre').length === 3")
    assert "<b>phone</b>" in browser.run("document.querySelector('pre').innerText + document.querySelectorAll('pre')[1].innerText")
    assert browser.run("document.querySelectorAll('main b, main img').length") == 0, "a value is never markup"
    browser.prefer("dark")
    browser.until("it is dark", "getComputedStyle(document.documentElement).backgroundColor === 'rgb(21, 24, 28)'")
    browser.picture(f"{FOLDER}/console-explain.png")
    browser.prefer("light")


def modules(browser):
    why = "carts are no scores"
    stator(ENDPOINTS[0], "keyspace", "activate", "scores", "max-register", "--reason", why)
    browser.open(f"http://{CONSOLE}/#/modules")
    browser.until("the laws of both are told", "document.querySelectorAll('.laws').length === 2")
    tables = "[...document.querySelectorAll('table')].map(one => one.innerText)"
    history = browser.until("there is a history", f"{tables}.find(one => one.startsWith('History of scores'))")
    latest, first = history.splitlines()[-2:]
    assert "pinned to max-register" in latest and why in latest, history
    assert "pinned to cart" in first, history
    browser.picture(f"{FOLDER}/console-modules.png")


def letters(browser):
    browser.open(f"http://{CONSOLE}/#/letters")
    browser.until("the key that cannot be merged is there",
                  "[...document.querySelectorAll('td')].some(cell => cell.innerText === 'broken')")


def refusals():
    """What the browser would never ask for by itself."""
    def ask(path, **headers):
        connection = http.client.HTTPConnection(CONSOLE, timeout=60)
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    status, words = ask("/api/cluster", Host="evil.example")
    assert status == 421 and "advertise_admin" in words, (status, words)
    status, words = ask("/api/explain?keyspace=nowhere&key=a")
    assert status == 404 and "nowhere" in words, (status, words)
    status, words = ask("/api/explain?keyspace=carts&key=")
    assert status == 400 and "KEY_EMPTY" in words, (status, words)


def main():
    for number in range(1, 10):
        diverge(f"cart:{number}")
    diverge("broken", "scores")
    with Browser() as browser:
        browser.size(1200, 860)
        browser.prefer("light")
        cluster(browser)
        keyboard(browser)
        keyspaces(browser)
        explain(browser, merges(browser))
        modules(browser)
        letters(browser)
        assert not browser.said, "the browser's console:\n" + "\n".join(browser.said)
        foreign = [url for url in browser.requested() if not url.startswith(f"http://{CONSOLE}/")]
        assert not foreign, f"asked elsewhere: {foreign}"
    refusals()


main()
