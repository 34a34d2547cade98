"""YAML files of strangers: plain values only, of bounded size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from shiftbench.errors import InputError

LIMIT = 1 << 20  # bytes; ours have a few thousand


def read_yaml(path: Path) -> Any:
    """The plain values in a YAML file.

    Raises:
        FileNotFoundError, NotADirectoryError: there is no such file.
        InputError: it cannot be read, is not UTF-8, no YAML, larger than 1 MiB, or holds tags or aliases.

    Examples:
        >>> _ = Path("map.yaml").write_text("their cat: cat")
        >>> read_yaml(Path("map.yaml"))
        {'their cat': 'cat'}
    """
    try:
        if path.stat().st_size > LIMIT:
            raise yaml.YAMLError(f"{path.stat().st_size:,} bytes; {LIMIT:,} are the most")
        return yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        reason = " ".join(str(error).split()).replace(f'in "{path}", ', "")
        raise InputError(f"{str(path)!r} is damaged ({reason}).") from error


def dump_yaml(content: Any) -> str:
    """Plain values as YAML that :func:`read_yaml` takes: equal lists are written out, not referred to.

    Examples:
        >>> same = [0.5]
        >>> print(dump_yaml({"mean": same, "std": same}), end="")
        mean:
        - 0.5
        std:
        - 0.5
    """
    return str(yaml.dump(content, Dumper=_Dumper, sort_keys=False))


class _Loader(yaml.SafeLoader):
    """Without aliases, by which a few lines could stand for gigabytes."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases are not allowed")
        return super().compose_node(parent, index)


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True
