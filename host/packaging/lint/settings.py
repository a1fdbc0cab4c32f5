#!/usr/bin/env python3
"""The settings of the packages are those that the program takes, with the defaults of README's table.

    settings.py BINARY

- The Debian package's stator.toml names every setting that the program knows, and with all of them in
  force the program takes it; so it does each ConfigMap of Kubernetes.
- A default of [limits] and [timings] stands in the row of README's table that names the setting.

The program is asked by starting it where no data directory can be: settings that cannot be end it with
exit code 2 before it looks there, by then nothing has been opened.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
ROOT = HERE.parent.parent
FILE = HERE / "deb/stator.toml"
# A secret has no place in a file that a group may read: there are settings for files of their own.
NOT_THERE = {"cluster_secret", "previous_secrets"}
SECTIONS = ("limits", "timings", "listeners", "tls")
UNITS = (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10))
REFUSED = 2


def asked(binary, text, *flags):
    """Exit code and words of a start with these settings, of which nothing comes."""
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as file, tempfile.NamedTemporaryFile("w") as secret:
        file.write(text)
        secret.write("of no use to anybody, and long enough")
        file.flush()
        secret.flush()
        secrets = (f"--cluster-secret-file={secret.name}",)
        ports = tuple(
            f"--{whose}-listen={address}:0"
            for whose, address in re.findall(r'(?m)^(\w+)_listen = "([^"]+):\d+"', text)
        )
        command = [binary, "serve", "--config", file.name, "--data-dir", "/dev/null/none"]
        done = subprocess.run(
            [*command, *secrets, *ports, *flags],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60, env={},
        )
        return done.returncode, done.stdout.strip()


def in_force():
    """The package's file with its commented settings taken in; its secrets' files are of no machine."""
    text = re.sub(r"(?m)^#(?=\[|[a-z_]+ = )", "", FILE.read_text())
    return re.sub(r"(?m)^previous_secrets_file.*\n", "", text)


def known(binary, section=""):
    head = f"[{section}]\n" if section else ""
    code, words = asked(binary, f"{head}there_is_none = 1\n")
    found = re.search(r"known here are: (.*)", words)
    assert code == REFUSED and found, words
    return set(re.findall(r"\w+", found[1]))


def unnamed(binary):
    text = FILE.read_text()
    top = known(binary) - NOT_THERE
    for name in sorted(top | known(binary, "limits") | known(binary, "timings")):
        if not re.search(rf"(?m)^#?(\[{name}[\].]|{name} = )", text):
            yield f"deb/stator.toml does not name {name}, which the program takes"
    for section in sorted(top.intersection(SECTIONS) ^ set(SECTIONS)):
        yield f"the program has no section {section} any more, and deb/stator.toml has"


def refused(binary):
    texts = {FILE.name: FILE.read_text(), f"{FILE.name} with all in force": in_force()}
    for path in sorted((HERE / "kubernetes").glob("*/settings.yaml")):
        block = re.search(r"(?ms)^  stator\.toml: \|\n((?:    [^\n]*\n|\n)+)", path.read_text())
        texts[path.relative_to(HERE)] = re.sub(r"(?m)^    ", "", block[1])
    told = [f"--advertise-{whose}=node-1:{port}" for whose, port in (("client", 1), ("admin", 2), ("peer", 3))]
    for name, text in texts.items():
        code, words = asked(binary, text, *told)
        if code == REFUSED or not re.search(r"/dev/null/none|tls\.\w+\.cert", words):
            yield f"{name}: exit code {code}: {words}"


def other_defaults():
    rows = [line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("| ")]
    sections = re.split(r"(?m)^\[(\w+)\]$", FILE.read_text())
    for section, text in zip(sections[1::2], sections[2::2]):
        if section not in ("limits", "timings"):
            continue
        for name, value in re.findall(r"(?m)^#(\w+) = (\d+)$", text):
            number = int(value)
            sizes = [f"{number // unit} {word}" for word, unit in UNITS if number % unit == 0]
            row = next((row for row in rows if re.search(rf"\b{name}`", row)), "")
            if not any(f" {words} " in row.replace(",", " ") for words in [value, *sizes]):
                yield f"deb/stator.toml says {name} = {value}, and README's table: {row or 'nothing'}"


def main(binary):
    binary = Path(binary).resolve()
    problems = [*unnamed(binary), *refused(binary), *other_defaults()]
    print("\n".join(problems), file=sys.stderr, end="\n" if problems else "")
    sys.exit(bool(problems))


main(sys.argv[1])
