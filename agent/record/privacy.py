"""What never enters a trace: secrets and absolute paths. `Recorder` scrubs every event by this.

Scrubbing is idempotent, so a replay of a scrubbed record gives the same words again. Names of
files and other metadata of images are not scrubbed here: they never come this far (`spec.md`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

SECRET = "[secret]"  # noqa: S105 - what stands in place of one
PATH = "[path]"
_SECRET_NAME = re.compile(r"key|token|secret|passw|credential|auth|headers", re.IGNORECASE)
_SHORTEST_SECRET = 8
_SECRET_FORM = re.compile(
    r"\b(?:sk|pk|hf|ghp|gho|xox[abp])[-_][\w-]{16,}|\bAKIA[0-9A-Z]{16}\b"
    r"|(?<=Bearer )[^\s'\"]{8,}|(?<=://)[^\s/@:]*:[^\s/@]+(?=@)"
)
_PART = r"[^\s/\\'\"<>|:,;()\[\]{}]+"
_START = r"(?:(?<![\w/.])|(?<=\\[nt]))"  # a path starts a word, also after an escaped line end
_HOME = re.escape(str(Path.home()))
_PATH_FORM = re.compile(
    r"(?P<quote>['\"])(?:file://)?(?:~?/|[A-Za-z]:[\\/]|\\\\)[^'\"\n]*(?P=quote)"
    rf"|(?<![/.]){_HOME}(?![\w.-])(?:/{_PART})*/?"
    rf"|file://[^\s'\"]+|{_START}(?:~/{_PART}|(?:/{_PART}){{2,}})(?:/{_PART})*/?"
    rf"|\b[A-Za-z]:\\{_PART}(?:\\{_PART})*|\\\\{_PART}(?:\\{_PART})+"
)


def secret_name(name: str) -> bool:
    """Whether an environment variable of that name is taken to hold a secret."""
    return _SECRET_NAME.search(name) is not None


def scrub(value: Any, environment: Mapping[str, str] = os.environ) -> Any:
    """The JSON-like `value` with secrets and absolute paths replaced in all of its strings.

    Secrets are the values of environment variables that are named like one (from 8 characters
    on) and the usual forms of keys and of credentials in URLs; paths are POSIX, home-relative,
    Windows, UNC paths and file URLs, in quotes as a whole. URLs of endpoints stay.
    """
    found = (
        text
        for name, text in environment.items()
        if secret_name(name) and len(text) >= _SHORTEST_SECRET
    )
    secrets = sorted(found, key=len, reverse=True)  # one may be part of another
    return _scrubbed(value, secrets)


def _scrubbed(value: Any, secrets: list[str]) -> Any:
    if isinstance(value, str):
        for secret in secrets:
            value = value.replace(secret, SECRET)
        return _PATH_FORM.sub(_in_place, _SECRET_FORM.sub(SECRET, value))
    if isinstance(value, dict):
        return {key: _scrubbed(item, secrets) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_scrubbed(item, secrets) for item in value]
    return value


def _in_place(found: re.Match[str]) -> str:
    quote = found["quote"] or ""
    return f"{quote}{PATH}{quote}"
