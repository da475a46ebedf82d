"""Runs the README's commands with the `snd` that is installed beside this Python, in the current folder.

usage: python tools/readme_commands.py README.md

What would take minutes is shortened (of an option given twice the last counts) or runs with --dry-run, and what needs
other files is left out; each line says so.
A command of the README that this file has no rule for is an error.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pages

SHORTER = {
    "attack": "--images 1 --budget 2000 --verify 10 --no-border --no-progress",
    "adaptive": "--dry-run",
    "audit": "--dry-run",
    "sigma-sweep": "--dry-run",
    "reproduce": "--dry-run",
    "accuracy": "",
    "report": "",
    "compare": "",
    "ls": "",
    "explain": "",
    "doctor": "",
}
LEFT_OUT = {
    "--dataset imagenet": "needs ImageNet",
    "--dataset folder:DIR": "needs pictures",
    "snd train": "only the name; trains for hours",
    "snd evidence": "only the name; takes minutes",
    "snd report --plot": "only the option; needs the extra `plot`",
    "snd noise aug": "names of defenses",
    "snd 0.01": "a label of a table",
    "snd league": "takes hours",
    "snd serve": "goes on until it is stopped",
    "--model http": "needs a server",
    "snd adaptive NAME": "a name to fill in",
    "snd explain WORD": "a word to fill in",
}
FILES = """
import torch
from pathlib import Path
from sndcli import load_model
torch.save(load_model("resnet20").network.state_dict(), "my.pt")
Path("path/my_package").mkdir(parents=True)
Path("path/my_package/models.py").write_text("import sndcli\\ndef make(): return sndcli.load_model('resnet20')\\n")
"""


def commands(text: str) -> list[str]:
    """Those of code blocks, and those in the prose, in the order of the page, each once."""
    found = []
    for block, inline in re.findall(r"^```\w*\n(.*?)^```$|`(snd [^`]+)`", text, re.DOTALL | re.MULTILINE):
        for line in block.splitlines():
            found += re.findall(r"(?:^|uv run )(snd .*?)(?:\s+#.*)?$", line)
        found += [inline.replace("\n", " ")] if inline else []
    return list(dict.fromkeys(found))


def shorter(command: str) -> str:
    """What is added to a command.

    Raises:
        KeyError: there is no rule for it.
    """
    return SHORTER[command.split()[1]]


def reason(command: str) -> str:
    """Why a command is left out; empty where it is not."""
    return next((why for part, why in LEFT_OUT.items() if part in command), "")


def run(command: str, codes: tuple[int, ...] = (0,)) -> None:
    started = time.monotonic()
    code = subprocess.run(["bash", "-c", command], check=False, timeout=pages.LIMIT).returncode
    print(f"exit code {code}, {time.monotonic() - started:.0f} s", flush=True)
    if code not in codes:
        raise SystemExit(f"README: `{command}` ended with exit code {code}")


def main(readme: Path) -> None:
    text = readme.read_text(encoding="utf-8")
    here = Path(sys.executable).parent
    os.environ |= {"PATH": f"{here}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(Path("path").absolute())}
    subprocess.run([here / "python", "-c", "import sndcli; print(sndcli.__file__)"], check=True)
    subprocess.run([here / "python", "-c", FILES], check=True)
    ran = 0
    for command in commands(text):
        if reason(command):
            print(f"\n# left out: {command} ({reason(command)})", flush=True)
            continue
        added = shorter(command)
        print(f"\n$ {command}" + (f"   # here with {added}" if added else ""), flush=True)
        run(f"{command} {added}", (0, 1) if "--fail-if" in command else (0,))
        ran += 1
    (example,) = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    print(f"\n>>> {example}", flush=True)
    subprocess.run([here / "python", "-c", f"import torch\nmodel = torch.nn.Flatten()\n{example}"], check=True)
    print(f"README: {ran} commands and an example ran")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
