"""What never enters a trace: secrets and absolute paths. `Recorder` scrubs every event by this.

Scrubbing is idempotent, so a replay of a scrubbed record gives the same words again. Names of
files and other metadata of images are not scrubbed here: they never come this far (`spec.md`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

SECRET = "[secret]"  # noqa: S105 - what stands in place of one
PATH = "[path]"
PATH_ON = "[path ...]"
"""In place of a path of which it can't be told where it ends: with it goes the rest of its clause,
also where that is put behind it only later, as a composed answer does."""
_SECRET_NAME = re.compile(r"key|token|secret|passw|credential|auth|headers", re.IGNORECASE)
_SHORTEST_SECRET = 8
_SECRET_FORM = re.compile(
    r"\b(?:sk|pk|hf|gh[opsru]|github_pat|glpat|xox[abp])[-_][\w-]{16,}|\bAKIA[0-9A-Z]{16}\b"
    r"|\bAIza[\w-]{30,}|\beyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]*"  # Google's, JSON web tokens
    r"|(?<=[Bb]earer )(?=[^\s'\"]*[\d_=.-][^\s'\"])[^\s'\"]{8,}"  # prose has "the bearer", too
    r"|(?<=://)[^\s/@:'\"]*:[^\s/@'\"]+(?=@)"
)
_CHAR = r"(?:[^\s/\\'\"<>|:,;()\[\]{}]|\([^\s()/\\'\"]*\)|(?<=\w)'(?=\w))"  # `(1)`, O'Brien
_GAP = r"[^\S\r\n]{1,8}"
_NAME = rf"{_CHAR}+(?:(?<![.!?]),?{_GAP}{_CHAR}+){{0,4}}"
"""A name with spaces in it; believed only where a separator or a file's ending follows."""
_START = r"(?:(?<![\w/.\]])|(?<=\\[nt]))"  # a path starts a word, also after an escaped line end
_SLASH = "/+"
_BACKSLASH = r"[\\/]{1,4}"  # each is two inside JSON, four in JSON inside JSON
_GOES_ON = r"(?:(?<![.!?])|(?<=\b[A-Z]\.)|(?<=\b[DMS][rst]\.)|(?<=\bMrs\.)|(?<=\bProf\.))"
_REST = rf"(?:{_GOES_ON}(?:,(?= [A-Z]))?{_GAP}{_CHAR}+/*)*"
"""What may still be a folder's name: the words up to the end of their clause."""
_ENDING = (
    r"\.(?i:svs|svslide|tiff?|ndpi|mrxs|scn|bif|vms|vsi|czi|dcm|png|jpe?g|bmp|webp|np[yz]|h5|pth?"
    r"|safetensors|gguf|onnx|gz|zip|(?:geo)?jsonl?|toml|ya?ml|csv|parquet|sqlite|xml|html?|md|txt|log"
    r"|pyc?|so)(?![\w-]|\.\w)"
)
"""Of files: where a path surely ends, and what tells `/slide.svs` from `/HPF`."""


_ENDED = re.compile(rf"{_ENDING}$")


def _below(separator: str) -> str:
    """The rest of a path, from its root on; without a file's ending, that of its clause too."""
    folders = rf"(?:{_NAME}{separator}(?={_CHAR}))*"
    return rf"{folders}(?:{_NAME}{_ENDING}|{_CHAR}*(?:{separator})?{_REST})"


@lru_cache(maxsize=8)
def _path_form(home: str) -> re.Pattern[str]:
    """Paths, and the folder `home` alone: none where it is the root or not told."""
    separator = _SLASH if os.sep == "/" else _BACKSLASH
    known = rf"{re.escape(home)}(?![\w.-])"
    own = rf"(?P<home>{known}(?!{separator}))|{known}{separator}{_below(separator)}"
    return re.compile(
        r"(?P<quote>\\{0,3}['\"])(?:file://)?(?:~?/(?!['\"])|[A-Za-z]:[\\/]|\\{2,8}\w)"
        r"(?:(?!(?P=quote))(?:\\.|[^\"\\\n])){0,300}(?P=quote)"
        rf"|{_START}(?:{own if len(Path(home).parts) > 1 else '(?P<home>(?!))'})"
        rf"|{_START}(?:file://)?(?:~/|/{_CHAR}+/+)(?={_CHAR}){_below(_SLASH)}"
        rf"|{_START}/{_NAME}{_ENDING}"
        rf"|(?:file://[^\s'\"]+|{re.escape(PATH_ON)}){_REST}"
        rf"|(?:\b[A-Za-z]:|{_START}\\{{2,8}}{_CHAR}+){_BACKSLASH}(?={_CHAR}){_below(_BACKSLASH)}"
    )


_ESCAPED = re.compile(r"\\(?:\\|/|u([0-9a-fA-F]{4}))")


def _unescaped(text: str) -> str:
    """`text` with JSON's escapes undone that could hide a letter of a path or a secret."""

    def letter(found: re.Match[str]) -> str:
        char = chr(int(found[1], 16)) if found[1] else found[0][-1]
        return char if char.isprintable() and char not in '"\\' else found[0]

    return _ESCAPED.sub(letter, text)


def secret_name(name: str) -> bool:
    """Whether an environment variable of that name is taken to hold a secret."""
    return _SECRET_NAME.search(name) is not None


def scrub(value: Any, environment: Mapping[str, str] = os.environ) -> Any:
    """The JSON-like `value` with secrets and absolute paths replaced in all of its strings.

    Secrets are the values of environment variables that are named like one (from 8 characters
    on) and the usual forms of keys and of credentials in URLs; paths are POSIX, home-relative,
    Windows, UNC paths and file URLs. In quotes they end at the quote; else a name with spaces
    belongs to them where a separator or a file's ending follows, and a last folder takes the rest
    of its clause along: rather too much than a name. URLs of endpoints stay.
    """
    found = (
        text
        for name, text in environment.items()
        if secret_name(name) and len(text) >= _SHORTEST_SECRET
    )
    secrets = sorted(found, key=len, reverse=True)  # one may be part of another
    home = environment.get("HOME") or environment.get("USERPROFILE") or ""
    return _scrubbed(value, secrets, _path_form(home.rstrip("/\\")))


def setting(value: str) -> str:
    """A setting as a trace may tell it: all of it is replaced where it begins as a path."""
    rooted = any(kind(value).is_absolute() for kind in (PurePosixPath, PureWindowsPath))
    return PATH if rooted or value.startswith(("~", "file:")) else value


def _scrubbed(value: Any, secrets: list[str], paths: re.Pattern[str]) -> Any:
    if isinstance(value, str):
        plain = _unescaped(value)
        told = _without(plain, secrets, paths)
        return _without(value, secrets, paths) if told == plain else told
    if isinstance(value, dict):
        return {key: _scrubbed(item, secrets, paths) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_scrubbed(item, secrets, paths) for item in value]
    return value


def _without(text: str, secrets: list[str], paths: re.Pattern[str]) -> str:
    for secret in secrets:
        text = text.replace(secret, SECRET)
    while (told := paths.sub(_in_place, _SECRET_FORM.sub(SECRET, text))) != text:
        text = told  # quotes may overlap
    return text


def _in_place(found: re.Match[str]) -> str:
    if found["quote"]:
        return f"{found['quote']}{PATH}{found['quote']}"
    if found["home"] or _ENDED.search(found[0]):
        return PATH
    stop = found[0][-1]
    return PATH_ON + (stop if stop in ".!?" else "")
