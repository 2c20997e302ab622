"""What never enters a trace: secrets and absolute paths. `Recorder` scrubs every event by this.

Scrubbing is idempotent, so a replay of a scrubbed record gives the same words again. Names of
files and other metadata of images are not scrubbed here: they never come this far (`spec.md`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

SECRET = "[secret]"  # noqa: S105 - what stands in place of one
PATH = "[path]"
_SECRET_NAME = re.compile(r"key|token|secret|passw|credential|auth|headers", re.IGNORECASE)
_SHORTEST_SECRET = 8
_SECRET_FORM = re.compile(
    r"\b(?:sk|pk|hf|gh[opsru]|github_pat|glpat|xox[abp])[-_][\w-]{16,}|\bAKIA[0-9A-Z]{16}\b"
    r"|\bAIza[\w-]{30,}|\beyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]*"  # Google's, JSON web tokens
    r"|(?<=[Bb]earer )(?=[^\s'\"]*[\d_=.-][^\s'\"])[^\s'\"]{8,}"  # prose has "the bearer", too
    r"|(?<=://)[^\s/@:'\"]*:[^\s/@'\"]+(?=@)"
)
_CHAR = r"(?:[^\s/\\'\"<>|:,;()\[\]{}]|\([^\s()/\\'\"]*\))"  # of a name; `(1)` is part of one
_NAME = rf"{_CHAR}+(?:(?<![.!?]),? {_CHAR}+){{0,4}}"
"""A name with spaces in it; believed only where a separator or a file's ending follows."""
_START = r"(?:(?<![\w/.])|(?<=\\[nt]))"  # a path starts a word, also after an escaped line end
_SLASH = "/+"
_BACKSLASH = r"[\\/]{1,4}"  # each is two inside JSON, four in JSON inside JSON


def _below(separator: str) -> str:
    """The rest of a path, from its root on."""
    return rf"(?:{_NAME}{separator}(?={_CHAR}))*(?:{_NAME}\.[A-Za-z][\w.-]*|{_CHAR}*)"


def _home() -> str:
    """What matches the user's home folder; nothing where there is none or it is the root."""
    home = Path(os.path.expanduser("~"))  # noqa: PTH111 - Path.home() raises where there is none
    if len(home.parts) < 2:
        return r"(?!)"
    separator = _SLASH if os.sep == "/" else _BACKSLASH
    return rf"{re.escape(str(home))}(?![\w.-])(?:{separator}{_below(separator)})?"


_PATH_FORM = re.compile(
    r"(?P<quote>\\{0,3}['\"])(?:file://)?(?:~?/(?!['\"])|[A-Za-z]:[\\/]|\\{2,8}\w)"
    r"(?:(?!(?P=quote))(?:\\.|[^\"\\\n])){0,300}(?P=quote)"
    rf"|{_START}{_home()}"
    rf"|{_START}(?:file://)?(?:~/|/{_CHAR}+/+)(?={_CHAR}){_below(_SLASH)}"
    r"|file://[^\s'\"]+"
    rf"|(?:\b[A-Za-z]:|{_START}\\{{2,8}}{_CHAR}+){_BACKSLASH}(?={_CHAR}){_below(_BACKSLASH)}"
)


def secret_name(name: str) -> bool:
    """Whether an environment variable of that name is taken to hold a secret."""
    return _SECRET_NAME.search(name) is not None


def scrub(value: Any, environment: Mapping[str, str] = os.environ) -> Any:
    """The JSON-like `value` with secrets and absolute paths replaced in all of its strings.

    Secrets are the values of environment variables that are named like one (from 8 characters
    on) and the usual forms of keys and of credentials in URLs; paths are POSIX, home-relative,
    Windows, UNC paths and file URLs. In quotes they end at the quote; else a name with spaces
    belongs to them where a separator or a file's ending follows. URLs of endpoints stay.
    """
    found = (
        text
        for name, text in environment.items()
        if secret_name(name) and len(text) >= _SHORTEST_SECRET
    )
    secrets = sorted(found, key=len, reverse=True)  # one may be part of another
    return _scrubbed(value, secrets)


def setting(value: str) -> str:
    """A setting as a trace may tell it: all of it is replaced where it begins as a path."""
    rooted = any(kind(value).is_absolute() for kind in (PurePosixPath, PureWindowsPath))
    return PATH if rooted or value.startswith(("~", "file:")) else value


def _scrubbed(value: Any, secrets: list[str]) -> Any:
    if isinstance(value, str):
        for secret in secrets:
            value = value.replace(secret, SECRET)
        while (told := _PATH_FORM.sub(_in_place, _SECRET_FORM.sub(SECRET, value))) != value:
            value = told  # quotes may overlap
        return value
    if isinstance(value, dict):
        return {key: _scrubbed(item, secrets) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_scrubbed(item, secrets) for item in value]
    return value


def _in_place(found: re.Match[str]) -> str:
    quote = found["quote"] or ""
    return f"{quote}{PATH}{quote}"
